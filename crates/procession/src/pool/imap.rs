//! Lazy maps: iterators that pull their items as their results are taken, so that an endless
//! iterator needs constant memory. Used in the parent: items are pulled by the thread that
//! iterates, and by one that joins the pool. The engine's [`Feed`] says how far ahead.
//!
//! The iterator and, weakly, the pool share the feed. It keeps the workers of a closed pool for the
//! items that are left. The iterator of items is the user's code: it runs under the feed's own lock
//! and no other.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
#[cfg(feature = "futures")]
use std::task::{Poll, Waker};
use std::vec;

use procession_core::pool::{self as engine, Ahead, Encoded, Feed, Feeder, Items, Order, Source, Terms, Window};

use super::call::Call;
use super::result::AsyncResult;
use crate::argument::Argument;
use crate::message::Message;
use crate::{Error, Result};

/// Chunks that are on their way for each worker: one that it runs and one that waits for it, and as
/// many again that wait for whoever iterates.
const CHUNKS_AHEAD: usize = 4;

/// The results of [`Pool::imap`](crate::Pool::imap), in the items' order.
#[must_use = "items are pulled as results are taken: iterate, or close() and join() the pool"]
pub struct Imap<R> {
    feed: Arc<Mutex<Feed<Arguments>>>,
    ahead: Ahead<Arguments>,
    function: &'static str,
    ready: vec::IntoIter<Result<R>>,
    /// It is awaited: dropping it cancels what is on its way.
    #[cfg(feature = "futures")]
    is_awaited: bool,
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
    pub(super) fn new<A, I>(
        pool: &engine::Pool,
        feeds: &Feeds,
        terms: Terms,
        order: Order,
        call: Result<Call>,
        items: I,
    ) -> Imap<R>
    where
        A: Message,
        I: Iterator<Item: Argument<A>> + Send + 'static,
    {
        let function = call.as_ref().map_or("", |call| call.function);
        let feed = call.and_then(|call| feed(pool, terms, call, items)).unwrap_or_else(Feed::failed);
        let feed = Arc::new(Mutex::new(feed));
        feeds.add(&feed);
        Imap {
            feed,
            ahead: Ahead::new(order),
            function,
            ready: Vec::new().into_iter(),
            #[cfg(feature = "futures")]
            is_awaited: false,
        }
    }

    fn next_result(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(result) = self.ready.next() {
                return result.map(Some);
            }
            self.refill()?;
            if !self.take_chunk()? {
                return Ok(None);
            }
        }
    }

    /// Submits the items that may be on their way.
    fn refill(&mut self) -> Result<()> {
        let mut feed = locked(&self.feed);
        self.ahead.refill(&mut feed);
        feed.take_error().map_or(Ok(()), Err)
    }

    /// Waits for the results of the next chunk; `false` at the end.
    fn take_chunk(&mut self) -> Result<bool> {
        let Some(chunk) = self.ahead.take(None)? else { return Ok(false) };
        self.ready = AsyncResult::many(chunk.handle, self.function, chunk.first).get_each()?.into_iter();
        Ok(true)
    }
}

#[cfg(feature = "futures")]
impl<R: Message> Imap<R> {
    /// Returns the next result, or has `waker` woken when there is one.
    pub(crate) fn poll_result(&mut self, waker: &Waker) -> Poll<Option<Result<R>>> {
        self.is_awaited = true;
        loop {
            if let Some(result) = self.ready.next() {
                return Poll::Ready(Some(result));
            }
            let has_chunk = self.refill().and_then(|()| match self.ahead.awaken(waker)? {
                true => self.take_chunk().map(Some),
                false => Ok(None),
            });
            match has_chunk {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Poll::Ready(None),
                Ok(None) => return Poll::Pending,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

#[cfg(feature = "futures")]
impl<R> Imap<R> {
    /// Lets what is on its way run, even if this is dropped.
    pub(crate) fn end_await(&mut self) {
        self.is_awaited = false;
    }
}

#[cfg(feature = "futures")]
impl<R> Drop for Imap<R> {
    fn drop(&mut self) {
        if self.is_awaited {
            let mut feed = locked(&self.feed);
            let items = feed.end();
            self.ahead.take_over(&mut feed);
            drop(feed);
            // The user's code, under no lock.
            drop(items);
            self.ahead.abandon();
        }
    }
}

/// The feed of a lazy map.
fn feed<A, I>(pool: &engine::Pool, terms: Terms, call: Call, mut items: I) -> Result<Feed<Arguments>>
where
    A: Message,
    I: Iterator<Item: Argument<A>> + Send + 'static,
{
    let chunk = terms.chunk.unwrap_or(1);
    if chunk == 0 {
        return Err(Error::invalid("a chunk needs at least one task, not 0"));
    }
    let (entry, terms) = (call.entry, Terms { chunk: Some(chunk), ..terms });
    let most = CHUNKS_AHEAD * pool.size();
    let mut pulled = 0;
    let next = move |feeder: &Feeder| {
        let encoded = call.items(feeder, pulled, items.by_ref().take(chunk))?;
        pulled += encoded.len();
        Ok((!encoded.is_empty()).then_some(encoded))
    };
    let window = Window { most, refill_at: most };
    Ok(Feed::new(Arguments(Box::new(next)), pool.feeder()?, entry, terms, window))
}

/// An iterator of items that panicked under the lock is gone; what is left is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Message> Iterator for Imap<R> {
    type Item = Result<R>;

    /// Returns the next result. A task that failed gives its error in its place, and the iteration
    /// goes on behind it.
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
pub struct ImapUnordered<R>(pub(crate) Imap<R>);

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
