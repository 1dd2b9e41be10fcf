//! Lazy maps: iterators that pull their items as their results are taken, so that an endless
//! iterator needs constant memory. Used in the parent: items are pulled by the thread that
//! iterates, and by one that joins the pool. The engine's [`Feed`] says how far ahead.
//!
//! The iterator and, weakly, the pool share the feed. It keeps the workers of a closed pool for the
//! items that are left. The iterator of items is the user's code: it runs under the feed's own lock
//! and no other.

use std::any::type_name;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::vec;

use procession_core::pool::{self as engine, Ahead, Encoded, Feed, Feeder, Items, Order, Source, Terms, Window};

use super::items::push_all;
use super::result::AsyncResult;
use crate::function::TaskFn;
use crate::message::Message;
use crate::{Error, Result, task};

/// Chunks that are on their way for each worker: one that it runs and one that waits for it, and as
/// many again that wait for whoever iterates.
const CHUNKS_AHEAD: usize = 4;

/// The results of [`Pool::imap`](crate::Pool::imap), in the items' order.
#[must_use = "items are pulled as results are taken: iterate, or close() and join() the pool"]
pub struct Imap<R> {
    feed: Arc<Mutex<Feed<Arguments>>>,
    ahead: Ahead<Arguments>,
    function: &'static str,
    ready: vec::IntoIter<R>,
}

/// Encodes the next chunk; `None` at the end.
type Next = dyn FnMut(&Feeder) -> Result<Option<Items>> + Send;

/// The items of a lazy map, of whatever type.
struct Arguments(Box<Next>);

impl Source for Arguments {
    type Error = Error;

    fn next(&mut self, feeder: &Feeder) -> Result<Option<Encoded<Error>>> {
        // An item that does not encode ends them.
        Ok((self.0)(feeder)?.map(Encoded::Items))
    }

    fn run<R: Send>(act: impl FnOnce() -> R + Send, _: impl FnOnce(&R) -> bool) -> Result<R> {
        Ok(act())
    }

    fn refused(error: procession_core::Error) -> Error {
        error.into()
    }
}

/// The lazy maps of a pool, as long as somebody has them.
#[derive(Default)]
pub(super) struct Feeds(Mutex<Vec<Weak<Mutex<Feed<Arguments>>>>>);

impl Feeds {
    fn add(&self, feed: &Arc<Mutex<Feed<Arguments>>>) {
        let mut feeds = locked(&self.0);
        feeds.retain(|known| known.strong_count() > 0);
        feeds.push(Arc::downgrade(feed));
    }

    /// Submits all items that are left, of a pool that is closed.
    pub(super) fn pull_all(&self) {
        let feeds = std::mem::take(&mut *locked(&self.0));
        for feed in feeds.iter().filter_map(Weak::upgrade) {
            locked(&feed).pull(0);
        }
    }
}

impl<R: Message> Imap<R> {
    pub(super) fn new<F, A, I>(
        pool: &engine::Pool,
        feeds: &Feeds,
        terms: Terms,
        order: Order,
        function: F,
        mut items: I,
    ) -> Imap<R>
    where
        F: TaskFn<A, R>,
        A: Message,
        I: Iterator<Item = A> + Send + 'static,
    {
        let entry = task::pool_entry(function);
        let chunk = terms.chunk.unwrap_or(1);
        let terms = Terms { chunk: Some(chunk), ..terms };
        let next = move |feeder: &Feeder| {
            let items = items.by_ref().take(chunk);
            let encoded = feeder.items(chunk.min(1024), |encoded| push_all::<F, A>(encoded, items))?;
            Ok((!encoded.is_empty()).then_some(encoded))
        };
        let most = CHUNKS_AHEAD * pool.size();
        let window = Window { most, refill_at: most };
        let feed = match (chunk, pool.feeder()) {
            (0, _) => Feed::failed(Error::invalid("a chunk needs at least one task, not 0")),
            (_, Err(error)) => Feed::failed(error.into()),
            (_, Ok(feeder)) => Feed::new(Arguments(Box::new(next)), feeder, entry, terms, window),
        };
        let feed = Arc::new(Mutex::new(feed));
        feeds.add(&feed);
        Imap { feed, ahead: Ahead::new(order), function: type_name::<F>(), ready: Vec::new().into_iter() }
    }

    fn next_result(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(value) = self.ready.next() {
                return Ok(Some(value));
            }
            let error = {
                let mut feed = locked(&self.feed);
                self.ahead.refill(&mut feed);
                feed.take_error()
            };
            if let Some(error) = error {
                return Err(error);
            }
            let Some(chunk) = self.ahead.take(None)? else { return Ok(None) };
            self.ready = AsyncResult::many(chunk.handle, self.function, chunk.first).get()?.into_iter();
        }
    }
}

/// An iterator of items that panicked under the lock is gone; what is left is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Message> Iterator for Imap<R> {
    type Item = Result<R>;

    /// Returns the next result. A chunk with a task that failed gives that task's error in the
    /// place of all its results, and the iteration goes on behind it.
    fn next(&mut self) -> Option<Result<R>> {
        self.next_result().transpose()
    }
}

impl<R: Message> FusedIterator for Imap<R> {}

impl<R> fmt::Debug for Imap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
#[must_use = "items are pulled as results are taken: iterate, or close() and join() the pool"]
pub struct ImapUnordered<R>(pub(super) Imap<R>);

impl<R: Message> Iterator for ImapUnordered<R> {
    type Item = Result<R>;

    /// Returns the next result that is there. Errors as with [`Imap`].
    fn next(&mut self) -> Option<Result<R>> {
        self.0.next()
    }
}

impl<R> fmt::Debug for ImapUnordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImapUnordered").field(&self.0).finish()
    }
}
