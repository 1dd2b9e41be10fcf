//! Lazy maps: iterators that pull their items as their results are taken, so that an endless iterator runs in constant
//! memory. Used in the parent: items are pulled in the thread that iterates, and by `join` in the thread that joins.
//!
//! | | who pulls items | how far ahead |
//! |---|---|---|
//! | the pool is open | `next` | [`CHUNKS_AHEAD`] chunks for each worker |
//! | the pool is closed | the following `next`, or `join` | to the end |
//! | the iterator is dropped | nobody: what is not pulled is dropped too | |
//!
//! What both need, the *feed*, is shared by the iterator and, weakly, the pool. It holds a feeder of the engine's, so that
//! the workers of a closed pool stay for what it still has. User code, the iterator of items, runs under the feed's own
//! lock and no other.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::vec;

use procession_core::pool::ChunkEntry;
use procession_core::pool::Items;
use procession_core::pool::{self as engine, Feeder, Handle, Terms};

use super::items::push_all;
use super::result::AsyncResult;
use crate::function::TaskFn;
use crate::message::Message;
use crate::{Error, Result, task};

/// Chunks that are on their way for each worker: one that it runs and one that waits for it, and as many again that wait
/// for the one who iterates.
const CHUNKS_AHEAD: usize = 4;
/// The most chunks on their way when the pool is closed and all are pulled: the ring is not to hold them all at once.
const MOST_ON_THEIR_WAY: usize = 4096;

/// The results of [`Pool::imap`](crate::Pool::imap), in the items' order.
#[must_use = "items are pulled as results are taken: iterate, or close() and join() the pool"]
pub struct Imap<R> {
    feed: Arc<Feed<R>>,
    ahead: VecDeque<AsyncResult<Vec<R>>>,
    ready: vec::IntoIter<R>,
}

/// What has been submitted and what is still to be.
struct Feed<R> {
    source: Mutex<Source<R>>,
}

struct Source<R> {
    /// `None` at the end.
    tap: Option<Tap>,
    /// What `ahead` has not taken over.
    submitted: VecDeque<AsyncResult<Vec<R>>>,
    /// What ended it early; said once.
    error: Option<Error>,
}

type Next = dyn FnMut(&Feeder) -> Result<Option<Items>> + Send;

/// Where items come from.
struct Tap {
    /// The next chunk, encoded; `None` at the end.
    next: Box<Next>,
    feeder: Feeder,
    entry: ChunkEntry,
    terms: Terms,
    function: &'static str,
    most_ahead: usize,
    /// How many items have been submitted.
    pulled: usize,
}

/// A feed as the pool knows it.
pub(super) trait Feeding: Send + Sync {
    /// Submits all that is left.
    fn pull_all(&self);
}

/// The lazy maps of a pool, as long as somebody has them.
pub(super) type Feeds = Mutex<Vec<Weak<dyn Feeding>>>;

impl<R: Message> Imap<R> {
    pub(super) fn new<F, A, I>(pool: &engine::Pool, feeds: &Feeds, terms: Terms, function: F, mut items: I) -> Imap<R>
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
        let tap = match (chunk, pool.feeder()) {
            (0, _) => Err(Error::invalid("a chunk needs at least one task, not 0")),
            (_, Err(error)) => Err(error.into()),
            (_, Ok(feeder)) => Ok(Tap {
                next: Box::new(next),
                feeder,
                entry,
                terms,
                function: type_name::<F>(),
                most_ahead: CHUNKS_AHEAD * pool.size(),
                pulled: 0,
            }),
        };
        let (tap, error) = match tap {
            Ok(tap) => (Some(tap), None),
            Err(error) => (None, Some(error)),
        };
        let feed = Arc::new(Feed { source: Mutex::new(Source { tap, submitted: VecDeque::new(), error }) });
        let mut feeds = feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|known| known.strong_count() > 0);
        let known: Arc<dyn Feeding> = feed.clone();
        feeds.push(Arc::downgrade(&known));
        Imap { feed, ahead: VecDeque::new(), ready: Vec::new().into_iter() }
    }

    fn next_by(&mut self, choose: impl Fn(&VecDeque<AsyncResult<Vec<R>>>) -> Result<usize>) -> Option<Result<R>> {
        loop {
            if let Some(value) = self.ready.next() {
                return Some(Ok(value));
            }
            let error = {
                let mut source = self.feed.source();
                source.pull(self.ahead.len());
                self.ahead.append(&mut source.submitted);
                source.error.take()
            };
            if let Some(error) = error {
                return Some(Err(error));
            }
            if self.ahead.is_empty() {
                return None;
            }
            let chunk = match choose(&self.ahead) {
                Ok(index) => self.ahead.remove(index)?,
                Err(error) => return Some(Err(error)),
            };
            match chunk.get() {
                Ok(values) => self.ready = values.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<R: Message> Feed<R> {
    fn source(&self) -> MutexGuard<'_, Source<R>> {
        // An iterator of items that panicked took itself away: what is left is whole.
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Message> Source<R> {
    /// Submits chunks until enough are on their way, beside so many that the iterator has, or the items are at their end.
    fn pull(&mut self, ahead: usize) {
        // Taken out, so that it is gone where it panics.
        let Some(mut tap) = self.tap.take() else { return };
        while ahead + self.submitted.len() < tap.most_ahead || tap.feeder.is_closed() {
            let submitted = match (tap.next)(&tap.feeder) {
                Ok(None) => return,
                Ok(Some(items)) => tap.feeder.submit(tap.entry, items, tap.terms).map_err(Error::from),
                Err(error) => Err(error),
            };
            match submitted {
                Ok(handle) => {
                    let first = tap.pulled;
                    tap.pulled += handle.len();
                    self.submitted.push_back(AsyncResult::many(handle, tap.function, first));
                    if let Some(early) = self.submitted.len().checked_sub(MOST_ON_THEIR_WAY) {
                        // Only a process that does not own the pool is refused, and it has no feeder.
                        let _ = self.submitted[early].wait();
                    }
                }
                Err(error) => {
                    // A pool that takes no more, or an item that does not encode: said once, and the end.
                    self.error = Some(error);
                    return;
                }
            }
        }
        self.tap = Some(tap);
    }
}

impl<R: Message> Feeding for Feed<R> {
    fn pull_all(&self) {
        // The pool is closed: there is no bound.
        self.source().pull(0);
    }
}

impl<R: Message> Iterator for Imap<R> {
    type Item = Result<R>;

    /// The next result. A chunk with a task that failed gives that task's error in the place of all its results, and the
    /// iteration goes on behind it.
    fn next(&mut self) -> Option<Result<R>> {
        self.next_by(|_| Ok(0))
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

    /// The next result that is there. Errors as with [`Imap`].
    fn next(&mut self) -> Option<Result<R>> {
        self.0.next_by(|ahead| {
            let handles: Vec<&Handle> = ahead.iter().map(AsyncResult::handle).collect();
            Handle::wait_any(&handles, None)?;
            Ok(ahead.iter().position(AsyncResult::ready).unwrap_or(0))
        })
    }
}

impl<R> fmt::Debug for ImapUnordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImapUnordered").field(&self.0).finish()
    }
}
