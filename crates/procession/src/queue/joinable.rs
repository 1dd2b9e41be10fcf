//! Queues that can be waited for until all of their items are done. Used in any process that has
//! one, from any thread.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use procession_core::queue as engine;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Queue, bound_of};
use crate::Result;
use crate::message::Message;

/// A [`Queue`] whose consumers say when they are [done](JoinableQueue::task_done) with an item, so
/// that others can [wait](JoinableQueue::join) until all are.
///
/// ```
/// use procession::{Context, JoinableQueue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = JoinableQueue::new()?;
/// let work = |queue: JoinableQueue<u64>| {
///     while let Ok(item) = queue.get() {
///         // ... work on the item ...
/// #       std::hint::black_box(item);
///         queue.task_done().expect("an item was taken");
///     }
/// };
/// # let ctx = Context::fork();
/// let mut worker = ctx.process(work, queue.clone()).start()?;
/// (0..10).try_for_each(|item| queue.put(item))?;
/// queue.join()?;
/// queue.close();
/// worker.join()?;
/// # Ok(()) }
/// ```
///
/// **Difference from `multiprocessing.JoinableQueue`:** what a process had taken when it was killed
/// counts as done, so that nobody waits for it for ever. Up to 1024 processes may take from one
/// such queue.
pub struct JoinableQueue<T>(Queue<T>);

impl<T: Message> JoinableQueue<T> {
    /// A queue without a bound.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::<String>::new()?;
    /// assert!(queue.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> Result<JoinableQueue<T>> {
        Ok(JoinableQueue(Queue::of(engine::Queue::joinable(0)?)))
    }

    /// A queue of at most `maxsize` items; a `put` into a full one waits.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.try_put(2).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::bounded`].
    pub fn bounded(maxsize: usize) -> Result<JoinableQueue<T>> {
        Ok(JoinableQueue(Queue::of(engine::Queue::joinable(bound_of(maxsize)?)?)))
    }
}

impl<T> JoinableQueue<T> {
    /// Says that an item which was taken is done: once for each `get`, by whichever process.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// queue.task_done()?;
    /// assert!(queue.task_done().unwrap_err().is_invalid(), "nothing else was taken");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If no item is unfinished ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn task_done(&self) -> Result<()> {
        Ok(self.engine.done()?)
    }

    /// Waits until every item that was put is done. The death of a process that had some is noticed
    /// after a tenth of a second.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// queue.get()?;
    /// queue.task_done()?;
    /// queue.join()?; // everything that was put is done
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If its shared memory has been overwritten.
    pub fn join(&self) -> Result<()> {
        Ok(self.engine.join(None)?)
    }

    /// As [`join`](JoinableQueue::join), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::JoinableQueue::new()?;
    /// queue.put(1)?;
    /// assert!(queue.join_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](JoinableQueue::join), and [`Error::is_timeout`](crate::Error::is_timeout).
    pub fn join_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.engine.join(Instant::now().checked_add(timeout))?)
    }
}

/// It is a queue, and more.
impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Clone for JoinableQueue<T> {
    /// The same queue.
    fn clone(&self) -> Self {
        JoinableQueue(self.0.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinableQueue").field(&self.0).finish()
    }
}

/// As a [`Queue`].
impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::deserialize(deserializer).map(JoinableQueue)
    }
}
