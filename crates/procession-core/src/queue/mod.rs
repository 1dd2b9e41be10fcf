//! Queues of payloads between processes. Used in any process that has a handle, from any thread.

mod presence;
mod readable;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use procession_shm::{self as shm, NotPut, RingFull};

pub use presence::{Present, Watch};
pub use procession_shm::{Side, Tried};
pub use readable::Readable;

use crate::reactor::QueueWatch;
use crate::{Error, Result};

/// A first-in first-out queue of payloads.
#[derive(Debug)]
pub struct Queue {
    shared: Arc<shm::Queue>,
    /// Its own in this process and in those forked from it.
    key: u64,
    /// This process, or one it was forked from, has asked for a [`Readable`].
    is_watched: AtomicBool,
}

impl Queue {
    /// A new one of at most `bound` payloads; 0 is no bound.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new(bound: u64) -> Result<Queue> {
        Queue::create(bound, false)
    }

    /// As [`new`](Queue::new), and it counts which items are not done: see [`join`](Queue::join).
    ///
    /// # Errors
    ///
    /// As [`new`](Queue::new).
    pub fn joinable(bound: u64) -> Result<Queue> {
        Queue::create(bound, true)
    }

    /// One that came as a handle.
    ///
    /// # Errors
    ///
    /// If the fd is not a queue's.
    pub fn attach(fd: OwnedFd) -> Result<Queue> {
        shm::Queue::attach(fd).map(Queue::of).map_err(Error::os("cannot use a queue that was sent here"))
    }

    /// Appends a payload; waits for room until the deadline. It is there to be taken when this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Closed`], [`Error::Invalid`] for what does not fit.
    pub fn put(&self, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        self.put_parts(&[payload], deadline)
    }

    /// As [`put`](Queue::put), a payload of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put).
    pub fn put_parts(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<()> {
        self.shared.put_parts(parts, deadline).map_err(not_put)
    }

    /// As [`put_parts`](Queue::put_parts), and waits for nobody, not even for a lock.
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put), but for the timeout.
    pub fn try_put(&self, parts: &[&[u8]]) -> Result<Tried<()>> {
        self.shared.try_put(parts).map_err(not_put)
    }

    /// Takes the oldest payload, which `read` sees in place and in two parts, unless `read`
    /// declines it with `None`. Waits for nobody, not even for a lock, and nor may `read`: others
    /// are kept out meanwhile.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use.
    pub fn try_get<T>(&self, read: impl FnOnce([&[u8]; 2]) -> Option<T>) -> Result<Tried<T>> {
        let tried = self.shared.try_get(read).map_err(Error::os("cannot take from a queue"))?;
        self.look();
        Ok(tried)
    }

    /// Waits until there is a payload, without taking it; `false` when the deadline came first. A
    /// caller that then takes none must [`pass_on`](Queue::pass_on) the wake.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let has_come = self.shared.wait(deadline);
        self.look();
        has_come
    }

    /// Wakes another consumer in the place of this one.
    pub fn pass_on(&self) {
        self.shared.wake(1);
    }

    /// Takes the oldest payload, appended to `payload`; waits for one until the deadline.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], and [`Error::QueueClosed`] once it is closed and empty.
    pub fn get(&self, payload: &mut Vec<u8>, deadline: Option<Instant>) -> Result<()> {
        let got = self.shared.get(payload, deadline).map_err(Error::os("cannot take from a queue"))?;
        self.look();
        if got {
            return Ok(());
        }
        if self.is_closed() && self.is_empty() {
            return Err(Error::QueueClosed);
        }
        Err(Error::Timeout { what: "the queue had an item" })
    }

    /// Of a joinable queue: a payload that was taken, by whomever, is done.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if none is unfinished.
    pub fn done(&self) -> Result<()> {
        match self.shared.done().map_err(Error::os("cannot count what is done of a queue"))? {
            true => Ok(()),
            false => Err(Error::Invalid("task_done() was called more often than items were taken".into())),
        }
    }

    /// Of a joinable queue: waits until nothing is queued and nothing that was taken is unfinished.
    /// Items that a process had when it died count as finished.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`].
    pub fn join(&self, deadline: Option<Instant>) -> Result<()> {
        match self.shared.join(deadline).map_err(Error::os("cannot look into a queue"))? {
            true => Ok(()),
            false => Err(Error::Timeout { what: "all items of the queue were done" }),
        }
    }

    /// A hold on it for futures.
    pub fn watch(&self) -> QueueWatch {
        QueueWatch::of(&self.shared)
    }

    /// An fd of this process that is readable while there are payloads.
    ///
    /// # Errors
    ///
    /// If the system refuses it, or the thread behind it.
    pub fn readable(&self) -> Result<Arc<Readable>> {
        self.is_watched.store(true, Ordering::Relaxed);
        let readable = Readable::of(self.key, &self.shared)?;
        self.look();
        Ok(readable)
    }

    /// The most payloads it holds; 0 is no bound.
    pub fn bound(&self) -> u64 {
        self.shared.bound()
    }

    /// Payloads in it.
    pub fn len(&self) -> u64 {
        self.shared.len()
    }

    /// Returns whether the queue holds no payloads.
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }

    /// Lets nothing more be put, by any process; what is there can be taken.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Returns whether nothing more may be put.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// An fd that is readable is to be so no longer once the queue is empty.
    fn look(&self) {
        if self.is_watched.load(Ordering::Relaxed) && self.is_empty() {
            Readable::look(self.key);
        }
    }

    fn create(bound: u64, is_joinable: bool) -> Result<Queue> {
        shm::Queue::create(bound, is_joinable).map(Queue::of).map_err(Error::os("cannot make a queue's shared memory"))
    }

    fn of(shared: shm::Queue) -> Queue {
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        Queue { shared: Arc::new(shared), key, is_watched: AtomicBool::new(false) }
    }
}

fn not_put(error: NotPut) -> Error {
    match error {
        NotPut::Full => Error::Timeout { what: "the queue had room" },
        NotPut::Closed => Error::QueueClosed,
        NotPut::Refused(RingFull::NoMemory(source)) => Error::os("the queue has no room for this item")(source),
        NotPut::Refused(why) => Error::Invalid(format!("the queue cannot take this item: {why}")),
        NotPut::Broken(error) => Error::os("cannot lock a queue")(error),
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if *self.is_watched.get_mut() {
            Readable::end(self.key);
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}
