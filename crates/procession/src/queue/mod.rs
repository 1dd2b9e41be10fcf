//! Queues between processes. Used in any process that has one, from any thread.

mod channel;
mod joinable;
mod simple;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::{handle, queue as engine};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

pub use channel::{Iter, Receiver, Sender, bounded_channel, channel};
pub use joinable::JoinableQueue;
pub use simple::SimpleQueue;

use crate::error::Whose;
use crate::message::Message;
use crate::{Error, Result, message};

/// A first-in first-out queue that any number of processes put into and take from.
///
/// It travels to a child as (part of) the argument of a process, of a pool's task or initializer,
/// or over a connection; under fork a closure may just capture it. Clones are the same queue.
///
/// An item is there from the moment [`put`](Queue::put) returns: there is no feeder thread, and a
/// process that has put may exit at once. Without a bound a `put` never waits; memory that a
/// backlog took is given back when it is drained. A process that is killed loses the item it was
/// putting, or the one it had just taken, and nobody else is held up.
///
/// ```
/// use procession::{Context, Queue};
///
/// # fn main() -> procession::Result<()> {
/// let queue = Queue::new()?;
/// let squares = |queue: Queue<u64>| (0..4).try_for_each(|x| queue.put(x * x)).is_ok();
/// # let ctx = Context::fork();
/// let mut producer = ctx.process(squares, queue.clone()).start()?;
/// assert!(producer.join()?);
/// assert_eq!((queue.get()?, queue.get()?, queue.len()), (0, 1, 2));
/// # Ok(()) }
/// ```
///
/// **Differences from `multiprocessing.Queue`:** no feeder thread, so `put` reports what does not
/// encode, and nothing needs to be joined or cancelled at exit; [`close`](Queue::close) closes it
/// for everybody, and consumers then see its end; [`len`](Queue::len) and
/// [`is_empty`](Queue::is_empty) are exact at the moment they look.
pub struct Queue<T> {
    pub(crate) engine: Arc<engine::Queue>,
    item: PhantomData<fn(T) -> T>,
}

impl<T: Message> Queue<T> {
    /// A queue without a bound.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put("an item".to_owned())?;
    /// assert_eq!(queue.get()?, "an item");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses: no file descriptor is left.
    pub fn new() -> Result<Queue<T>> {
        Ok(Queue::of(engine::Queue::new(0)?))
    }

    /// A queue of at most `maxsize` items; a `put` into a full one waits.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::bounded(2)?;
    /// queue.put(1)?;
    /// queue.put(2)?;
    /// assert!(queue.try_put(3).unwrap_err().error().is_timeout(), "it is full");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// For a `maxsize` of 0 ([`Error::is_invalid`]); if the system refuses.
    pub fn bounded(maxsize: usize) -> Result<Queue<T>> {
        Ok(Queue::of(engine::Queue::new(bound_of(maxsize)?)?))
    }

    /// Appends an item; waits while the queue is full.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(1)?;
    /// queue.close();
    /// let refused = queue.put(2).unwrap_err();
    /// assert!(refused.error().is_closed());
    /// assert_eq!(refused.into_item(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The item does not encode ([`Error::is_encode`]); the queue is closed ([`Error::is_closed`]).
    /// The error gives the item back; `?` makes it an [`Error`].
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// As [`put`](Queue::put), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put(1)?;
    /// assert!(queue.put_timeout(2, Duration::from_millis(1)).unwrap_err().error().is_timeout());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Queue::put), and [`Error::is_timeout`] when the queue is full until then.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Instant::now().checked_add(timeout))
    }

    /// As [`put`](Queue::put), without waiting.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::bounded(1)?;
    /// assert!(queue.try_put(1).is_ok());
    /// assert!(queue.try_put(2).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Queue::put_timeout).
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Some(Instant::now()))
    }

    /// Takes the oldest item; waits for one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// (0..3).try_for_each(|item| queue.put(item))?;
    /// queue.close();
    /// while let Ok(item) = queue.get() {
    ///     println!("{item}");
    /// }
    /// assert!(queue.get().unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_closed`] once the queue is closed and empty; [`Error::is_decode`] for an item
    /// that does not decode, which is then gone.
    pub fn get(&self) -> Result<T> {
        self.get_until(None)
    }

    /// As [`get`](Queue::get), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u64>::new()?;
    /// assert!(queue.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get), and [`Error::is_timeout`] when there is no item until then.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        self.get_until(Instant::now().checked_add(timeout))
    }

    /// Takes the oldest item if there is one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// assert_eq!(queue.try_get()?, None);
    /// queue.put(1)?;
    /// assert_eq!(queue.try_get()?, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Queue::get).
    pub fn try_get(&self) -> Result<Option<T>> {
        match self.get_until(Some(Instant::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            got => got.map(Some),
        }
    }

    fn put_until(&self, item: T, deadline: Option<Instant>) -> Result<(), PutError<T>> {
        let put = message::with_item_bytes(&item, |payload| self.engine.put(payload, deadline));
        let error = match put {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(why) => Error::unencodable("item", "Queue::put", why),
        };
        Err(PutError { item, error })
    }

    fn get_until(&self, deadline: Option<Instant>) -> Result<T> {
        let decoded = message::item_of(|payload| self.engine.get(payload, deadline))?;
        decoded.map_err(|why| Error::undecodable(Whose::Call("Queue::get"), "item", why))
    }
}

impl<T> Queue<T> {
    fn of(engine: engine::Queue) -> Queue<T> {
        Queue { engine: Arc::new(engine), item: PhantomData }
    }

    /// Returns the number of items that the queue holds now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(1)?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn len(&self) -> usize {
        self.engine.len() as usize
    }

    /// Returns whether the queue holds no item now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u64>::new()?;
    /// assert!(queue.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.engine.is_empty()
    }

    /// A file descriptor that is readable while there are items, or the queue is closed: for a poll
    /// loop, or an async runtime. Made when it is first asked for, with a thread of the engine
    /// behind it; it is this process's own.
    ///
    /// When another process takes the items first, it stays readable until a
    /// [`try_get`](Queue::try_get) of this process has found none: do not wait in `get`. To wait
    /// for several queues, connections and processes there is [`wait`](crate::wait()).
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// let readable = queue.readable()?;
    /// // ... add readable.as_fd() to a poll set ...
    /// # let ctx = procession::Context::fork();
    /// # let put = |queue: procession::Queue<u8>| queue.put(7).is_ok();
    /// # let mut other = ctx.process(put, queue.clone()).start()?;
    /// procession::wait(&[&readable.as_fd()], None)?;
    /// assert_eq!(queue.try_get()?, Some(7));
    /// # other.join()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses a file descriptor or a thread.
    pub fn readable(&self) -> Result<Readable> {
        Ok(Readable(self.engine.readable()?))
    }

    /// Lets nothing more be put, by any process. Items that are there can be taken; whoever waits
    /// for more is told.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(1)?;
    /// queue.close();
    /// assert!(queue.put(2).is_err());
    /// assert_eq!(queue.get()?, 1, "it was there before");
    /// # Ok(()) }
    /// ```
    pub fn close(&self) {
        self.engine.close();
    }

    /// Returns whether nothing more may be put.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u64>::new()?;
    /// assert!(!queue.is_closed());
    /// queue.close();
    /// assert!(queue.is_closed());
    /// # Ok(()) }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }
}

impl<T> Clone for Queue<T> {
    /// The same queue.
    fn clone(&self) -> Self {
        Queue { engine: self.engine.clone(), item: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("empty", &self.is_empty()).field("closed", &self.is_closed()).finish()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.engine.as_fd(), "queue").map_err(S::Error::custom)?;
        serializer.serialize_u32(index)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "queue").map_err(D::Error::custom)?;
        let engine = engine::Queue::attach(fd).map_err(|error| {
            handle::refuse(&error.to_string());
            D::Error::custom(error)
        })?;
        Ok(Queue::of(engine))
    }
}

fn bound_of(maxsize: usize) -> Result<u64> {
    match maxsize {
        0 => Err(Error::invalid("a queue needs room for at least one item, not 0: new() makes one without a bound")),
        _ => Ok(maxsize as u64),
    }
}

/// See [`Queue::readable`].
#[derive(Clone, Debug)]
pub struct Readable(Arc<engine::Readable>);

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An item that could not be put, and why.
pub struct PutError<T> {
    item: T,
    error: Error,
}

impl<T> PutError<T> {
    /// The item, back.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::bounded(1)?;
    /// queue.put("first".to_owned())?;
    /// let item = queue.try_put("second".to_owned()).unwrap_err().into_item();
    /// assert_eq!(item, "second");
    /// # Ok(()) }
    /// ```
    pub fn into_item(self) -> T {
        self.item
    }

    /// Why it was not put.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.close();
    /// assert!(queue.put(1).unwrap_err().error().is_closed());
    /// # Ok(()) }
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> std::error::Error for PutError<T> {}

impl<T> From<PutError<T>> for Error {
    fn from(error: PutError<T>) -> Self {
        error.error
    }
}
