//! Lazy maps: chunks of items that are pulled as their results are taken, so that endless items
//! need constant memory. Used in the parent, by the thread that takes results and by one that joins
//! the pool. A face brings the items, by a [`Source`], and decodes the results.
//!
//! | | who pulls items | how far ahead |
//! |---|---|---|
//! | the pool is open | whoever takes results, by [`Ahead::refill`] | [`Window::most`] chunks |
//! | the pool is closed | the next to refill, or whoever joins, by [`Feed::pull`] | to the end |
//! | the feed is dropped | nobody: items that were not pulled are dropped too | |
//!
//! A lazy map has two halves. The [`Feed`] submits, and whoever joins the pool needs it too, so the
//! face keeps it under a lock. [`Ahead`] holds what has been submitted and not taken. It belongs to
//! the thread that iterates, which waits for results without the feed's lock.
//!
//! The items are the user's code. A source that panics is dropped, and what it has given stays.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;
use std::time::Instant;

use super::chunk::ChunkEntry;
use super::feeder::Feeder;
use super::handle::Handle;
use super::items::Items;
use super::job::Terms;
use crate::{Error, Result};

/// The most chunks on their way while all items are pulled: the ring must not hold all at once.
const MAX_ON_THEIR_WAY: usize = 4096;

/// Gives the items of a lazy map, and says how its face waits.
pub trait Source {
    /// The error that the face raises or returns.
    type Error;

    /// Encodes the items of the next chunk; `None` at the end.
    ///
    /// # Errors
    ///
    /// The error that ends the items early.
    fn next(&mut self, feeder: &Feeder) -> Result<Option<Encoded<Self::Error>>, Self::Error>;

    /// Runs `act`, which may block. A face whose signal handlers can raise checks them meanwhile.
    /// If `is_done` says so, what `act` returned must not be lost to such an exception.
    ///
    /// # Errors
    ///
    /// The exception that a signal's handler raised.
    fn run<R: Send>(act: impl FnOnce() -> R + Send, is_done: impl FnOnce(&R) -> bool) -> Result<R, Self::Error>;

    /// The engine's error as the face's.
    fn refused(error: Error) -> Self::Error;
}

/// A chunk as its source gives it.
#[derive(Debug)]
pub enum Encoded<E> {
    /// Its items.
    Items(Items),
    /// It does not encode. The error stands in its place and counts as one item; the items behind
    /// it go on.
    Failed(E),
}

/// The bounds on how far items are pulled ahead of the results that are taken.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The most chunks whose results are not taken.
    pub most: usize,
    /// No more are pulled until so few are left.
    pub refill_at: usize,
}

/// In which order results are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// In the order of the items.
    OfItems,
    /// As they are ready.
    AsReady,
}

/// A chunk that has been submitted.
#[derive(Debug)]
pub struct Submitted {
    /// Its job.
    pub handle: Handle,
    /// The index of its first item among all items of the map.
    pub first: usize,
}

type Chunk<E> = Result<Submitted, E>;

/// The half of a lazy map that submits.
pub struct Feed<S: Source> {
    /// `None` at the end of the items.
    supply: Option<Supply<S>>,
    /// The chunks that [`Ahead`] has not taken over.
    submitted: VecDeque<Chunk<S::Error>>,
    /// The error that ended the items early, until it is taken.
    error: Option<S::Error>,
    window: Window,
}

struct Supply<S> {
    source: S,
    feeder: Feeder,
    entry: ChunkEntry,
    terms: Terms,
    /// The number of items submitted so far.
    pulled: usize,
}

impl<S: Source> Feed<S> {
    /// A feed that submits each chunk of `source` as a job of its own.
    pub fn new(source: S, feeder: Feeder, entry: ChunkEntry, terms: Terms, window: Window) -> Feed<S> {
        let supply = Supply { source, feeder, entry, terms, pulled: 0 };
        Feed { supply: Some(supply), submitted: VecDeque::new(), error: None, window }
    }

    /// A feed without items, for a map that was refused.
    pub fn failed(error: S::Error) -> Feed<S> {
        let window = Window { most: 0, refill_at: 0 };
        Feed { supply: None, submitted: VecDeque::new(), error: Some(error), window }
    }

    /// Submits chunks until enough are on their way, besides the `ahead` that were taken over, or
    /// the items are at their end. Submits all that are left if the pool is closed.
    pub fn pull(&mut self, ahead: usize) {
        // Taken out, so that it is gone if it panics.
        let Some(mut supply) = self.supply.take() else { return };
        while ahead + self.submitted.len() < self.window.most || supply.feeder.is_closed() {
            let chunk = match supply.submit_next() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            };
            self.submitted.push_back(chunk);
            if let Err(error) = self.wait_for_room() {
                self.error = Some(error);
                return;
            }
        }
        self.supply = Some(supply);
    }

    fn wait_for_room(&self) -> Result<(), S::Error> {
        let early = self.submitted.len().checked_sub(MAX_ON_THEIR_WAY).and_then(|early| self.submitted.get(early));
        let Some(Ok(early)) = early else { return Ok(()) };
        S::run(|| early.handle.wait(None), |_| true)?.map(drop).map_err(S::refused)
    }

    /// Takes what ended the items early, or refused the map.
    pub fn take_error(&mut self) -> Option<S::Error> {
        self.error.take()
    }

    /// The source, until the items are at their end.
    pub fn source(&self) -> Option<&S> {
        self.supply.as_ref().map(|supply| &supply.source)
    }

    /// Ends the items where they are. Returns the source, whose drop may be the user's code.
    pub fn end(&mut self) -> Option<S> {
        self.supply.take().map(|supply| supply.source)
    }

    fn is_closed(&self) -> bool {
        self.supply.as_ref().is_some_and(|supply| supply.feeder.is_closed())
    }
}

impl<S: Source> Supply<S> {
    fn submit_next(&mut self) -> Result<Option<Chunk<S::Error>>, S::Error> {
        let items = match self.source.next(&self.feeder)? {
            None => return Ok(None),
            Some(Encoded::Failed(error)) => {
                self.pulled += 1;
                return Ok(Some(Err(error)));
            }
            Some(Encoded::Items(items)) => items,
        };
        let (first, feeder, entry, terms) = (self.pulled, &self.feeder, self.entry, self.terms);
        self.pulled += items.len();
        let handle = S::run(|| feeder.submit(entry, items, terms), |_| false)?.map_err(S::refused)?;
        Ok(Some(Ok(Submitted { handle, first })))
    }
}

impl<S: Source> fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("window", &self.window)
            .field("submitted", &self.submitted.len())
            .finish_non_exhaustive()
    }
}

/// The half of a lazy map that takes results: chunks that have been submitted.
pub struct Ahead<S: Source> {
    chunks: VecDeque<Chunk<S::Error>>,
    order: Order,
}

impl<S: Source> Ahead<S> {
    /// No chunk yet.
    pub fn new(order: Order) -> Ahead<S> {
        Ahead { chunks: VecDeque::new(), order }
    }

    /// Takes over what `feed` has submitted, and has it submit more if few are left.
    pub fn refill(&mut self, feed: &mut Feed<S>) {
        self.take_over(feed);
        if self.chunks.len() <= feed.window.refill_at || feed.is_closed() {
            feed.pull(self.chunks.len());
            self.take_over(feed);
        }
    }

    /// Takes over what `feed` has submitted.
    pub fn take_over(&mut self, feed: &mut Feed<S>) {
        self.chunks.append(&mut feed.submitted);
    }

    /// Has `waker` woken once [`take`](Ahead::take) need not wait. Returns whether it need not now.
    ///
    /// # Errors
    ///
    /// As [`take`](Ahead::take).
    pub fn awaken(&self, waker: &Waker) -> Result<bool, S::Error> {
        let count = if matches!(self.order, Order::OfItems) { 1 } else { self.chunks.len() };
        let mut is_there = self.chunks.is_empty();
        for chunk in self.chunks.iter().take(count) {
            is_there |= match chunk {
                // A chunk that has failed is there.
                Err(_) => true,
                Ok(submitted) => {
                    let awaken = || submitted.handle.awaken(waker);
                    S::run(awaken, |_| true)?.map_err(S::refused)?
                }
            };
        }
        Ok(is_there)
    }

    /// Gives up all that have been submitted, as [`Handle::abandon`].
    pub fn abandon(&mut self) {
        self.chunks.drain(..).flatten().for_each(|submitted| submitted.handle.abandon());
    }

    /// Returns the number of chunks.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Returns whether there are no chunks.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Waits until the next chunk has its results, and removes it; `None` if the deadline came
    /// first or there are none.
    ///
    /// # Errors
    ///
    /// The error of a chunk that did not encode, in its place. The exception of a signal's handler:
    /// then every chunk is still there. [`Error::Inherited`] in a forked child, for each chunk.
    pub fn take(&mut self, deadline: Option<Instant>) -> Result<Option<Submitted>, S::Error> {
        let count = match self.order {
            Order::OfItems => self.chunks.len().min(1),
            Order::AsReady => self.chunks.len(),
        };
        let next = match self.complete(count) {
            Some(next) => next,
            None => {
                // None of them has failed, or it would be complete.
                let handles: Vec<_> =
                    self.chunks.iter().take(count).flatten().map(|submitted| &submitted.handle).collect();
                let waited = S::run(|| Handle::wait_any(&handles, deadline), |waited| matches!(waited, Ok(true)))?;
                match waited {
                    Ok(true) => self.complete(count).unwrap_or(0),
                    Ok(false) => return Ok(None),
                    Err(error) => {
                        self.chunks.pop_front();
                        return Err(S::refused(error));
                    }
                }
            }
        };
        self.chunks.remove(next).transpose()
    }

    /// The first of the first `count` chunks that need not be waited for.
    fn complete(&self, count: usize) -> Option<usize> {
        let is_complete = |chunk: &Chunk<S::Error>| chunk.as_ref().map_or(true, |chunk| chunk.handle.is_complete());
        self.chunks.iter().take(count).position(is_complete)
    }
}

impl<S: Source> fmt::Debug for Ahead<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("order", &self.order).field("chunks", &self.chunks.len()).finish()
    }
}
