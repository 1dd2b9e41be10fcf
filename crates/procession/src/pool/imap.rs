//! Lazy maps: iterators that pull their items as their results are taken, so that an endless iterator runs in constant
//! memory. Used in the parent, in the thread that iterates.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use procession_core::pool::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AsyncResult, Call};
use crate::{Error, Result};

/// Chunks that are on their way for each worker: one that it runs and one that waits for it, and as many again that wait
/// for the one who iterates.
const CHUNKS_AHEAD: usize = 4;

/// The results of [`Pool::imap`](crate::Pool::imap), in the items' order.
pub struct Imap<'a, F, A, R, I> {
    call: Call<'a>,
    function: F,
    items: Option<I>,
    ahead: VecDeque<AsyncResult<Vec<R>>>,
    ready: vec::IntoIter<R>,
    argument: std::marker::PhantomData<fn(A)>,
}

impl<'a, F, A, R, I> Imap<'a, F, A, R, I>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
    I: Iterator<Item = A>,
{
    pub(super) fn new(call: Call<'a>, function: F, items: I) -> Self {
        let (ahead, ready) = (VecDeque::new(), Vec::new().into_iter());
        Imap { call, function, items: Some(items), ahead, ready, argument: std::marker::PhantomData }
    }

    /// Submits chunks until enough are on their way or the items are at their end.
    fn pull(&mut self) -> Result<()> {
        let chunk = self.call.terms.chunk.unwrap_or(1);
        if chunk == 0 {
            self.items = None;
            return Err(Error::invalid("a chunk needs at least one task, not 0"));
        }
        while self.ahead.len() < CHUNKS_AHEAD * self.call.pool.workers() {
            let Some(items) = &mut self.items else { return Ok(()) };
            let batch: Vec<A> = items.take(chunk).collect();
            if batch.is_empty() {
                self.items = None;
                return Ok(());
            }
            match self.call.chunk_size(chunk).map_async(self.function, batch) {
                Ok(result) => self.ahead.push_back(result),
                Err(error) => {
                    // A pool that takes no more, or an item that does not encode: said once, and the end.
                    self.items = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn next_by(&mut self, choose: impl Fn(&VecDeque<AsyncResult<Vec<R>>>) -> Result<usize>) -> Option<Result<R>> {
        loop {
            if let Some(value) = self.ready.next() {
                return Some(Ok(value));
            }
            if let Err(error) = self.pull() {
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

impl<F, A, R, I> Iterator for Imap<'_, F, A, R, I>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
    I: Iterator<Item = A>,
{
    type Item = Result<R>;

    /// The next result. A chunk with a task that failed gives that task's error in the place of all its results, and the
    /// iteration goes on behind it.
    fn next(&mut self) -> Option<Result<R>> {
        self.next_by(|_| Ok(0))
    }
}

impl<F, A, R, I> FusedIterator for Imap<'_, F, A, R, I>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
    I: Iterator<Item = A>,
{
}

impl<F, A, R, I> fmt::Debug for Imap<'_, F, A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("ahead", &self.ahead.len()).field("ended", &self.items.is_none()).finish()
    }
}

/// The results of [`Pool::imap_unordered`](crate::Pool::imap_unordered), as they come.
pub struct ImapUnordered<'a, F, A, R, I>(pub(super) Imap<'a, F, A, R, I>);

impl<F, A, R, I> Iterator for ImapUnordered<'_, F, A, R, I>
where
    F: Fn(A) -> R + Copy + 'static,
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
    I: Iterator<Item = A>,
{
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

impl<F, A, R, I> fmt::Debug for ImapUnordered<'_, F, A, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImapUnordered").field(&self.0).finish()
    }
}
