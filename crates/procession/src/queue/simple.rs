//! Queues with the fewest operations. Used in any process that has one, from any thread.

use std::fmt;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PutError, Queue};
use crate::Result;
use crate::message::Message;

/// A queue of which nothing is asked but to put and to get: a [`Queue`] without a bound and without
/// timeouts, as `multiprocessing.SimpleQueue` is.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::SimpleQueue::new()?;
/// queue.put("first".to_owned())?;
/// assert!(!queue.is_empty());
/// assert_eq!(queue.get()?, "first");
/// # Ok(()) }
/// ```
pub struct SimpleQueue<T>(pub(crate) Queue<T>);

impl<T: Message> SimpleQueue<T> {
    /// An empty one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::SimpleQueue::<u64>::new()?;
    /// assert!(queue.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::new`].
    pub fn new() -> Result<SimpleQueue<T>> {
        Queue::new().map(SimpleQueue)
    }

    /// Appends an item. Never waits.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::SimpleQueue::new()?;
    /// queue.put(1)?;
    /// assert_eq!(queue.get()?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::put`].
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.0.put(item)
    }

    /// Takes the oldest item; waits for one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::SimpleQueue::new()?;
    /// queue.put(1)?;
    /// queue.close();
    /// assert_eq!(queue.get()?, 1);
    /// assert!(queue.get().unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::get`].
    pub fn get(&self) -> Result<T> {
        self.0.get()
    }
}

impl<T> SimpleQueue<T> {
    /// Returns whether the queue holds no item now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::SimpleQueue::new()?;
    /// queue.put(1)?;
    /// assert!(!queue.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets nothing more be put, as [`Queue::close`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::SimpleQueue::new()?;
    /// queue.close();
    /// assert!(queue.put(1).is_err());
    /// # Ok(()) }
    /// ```
    pub fn close(&self) {
        self.0.close();
    }
}

impl<T> Clone for SimpleQueue<T> {
    /// The same queue.
    fn clone(&self) -> Self {
        SimpleQueue(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimpleQueue").field(&self.0).finish()
    }
}

/// As a [`Queue`].
impl<T> Serialize for SimpleQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for SimpleQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::deserialize(deserializer).map(SimpleQueue)
    }
}
