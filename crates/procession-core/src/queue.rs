//! Queues of payloads between processes. Used in any process that has a handle, from any thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use procession_shm::{self as shm, NotPut};

use crate::{Error, Result};

/// A first-in first-out queue of payloads.
#[derive(Debug)]
pub struct Queue(shm::Queue);

impl Queue {
    /// A new one of at most `bound` payloads; 0 is no bound.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new(bound: u64) -> Result<Queue> {
        shm::Queue::create(bound).map(Queue).map_err(Error::os("cannot make a queue's shared memory"))
    }

    /// One that came as a handle.
    ///
    /// # Errors
    ///
    /// If the fd is not a queue's.
    pub fn attach(fd: OwnedFd) -> Result<Queue> {
        shm::Queue::attach(fd).map(Queue).map_err(Error::os("cannot use a queue that was sent here"))
    }

    /// Appends a payload; waits for room until the deadline. It is there to be taken when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Closed`], [`Error::Invalid`] for what does not fit.
    pub fn put(&self, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        self.0.put(payload, deadline).map_err(|error| match error {
            NotPut::Full => Error::Timeout { what: "the queue had room" },
            NotPut::Closed => Error::QueueClosed,
            NotPut::Refused(why) => Error::Invalid(format!("the queue cannot take this item: {why}")),
            NotPut::Broken(error) => Error::os("cannot lock a queue")(error),
        })
    }

    /// Takes the oldest payload, appended to `payload`; waits for one until the deadline.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], and [`Error::QueueClosed`] once it is closed and empty.
    pub fn get(&self, payload: &mut Vec<u8>, deadline: Option<Instant>) -> Result<()> {
        if self.0.get(payload, deadline).map_err(Error::os("cannot take from a queue"))? {
            return Ok(());
        }
        if self.0.is_closed() && self.0.is_empty() {
            return Err(Error::QueueClosed);
        }
        Err(Error::Timeout { what: "the queue had an item" })
    }

    /// Payloads in it.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets nothing more be put, by any process; what is there can be taken.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether nothing more may be put.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
