//! A queue that ends with its producers. Used in any process that has an end, from any thread.
//!
//! Beside the queue goes a pipe. Every sender holds its writing end, receivers the reading end. The
//! kernel counts the holders, so that a killed process is counted out like any other: once no
//! sender is left anywhere, the pipe says so.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::queue::{Present, Watch};
use procession_core::{self as engine, handle};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PutError, Queue};
use crate::message::Message;
use crate::{Error, Result};

/// The time for which a receiver waits as for any queue, where an item wakes it at once, before it
/// also waits for the senders' end.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The interval at which a sender that finds the channel full looks whether a receiver is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Makes a [queue](Queue) that ends: once every [`Sender`] is gone, in whatever process and
/// whether it was dropped or its process was killed, and the items are taken, a [`Receiver`] is
/// told so. It has no bound.
///
/// ```
/// use procession::Context;
/// use procession::queue::{self, Sender};
///
/// # fn main() -> procession::Result<()> {
/// let (sender, receiver) = queue::channel()?;
/// let produce = |(sender, from): (Sender<u32>, u32)| (from..from + 3).for_each(|x| sender.send(x).unwrap());
/// # let context = Context::fork();
/// let processes = [0, 10].map(|from| context.process(produce, (sender.clone(), from)).start());
/// drop(sender);
/// let mut received: Vec<u32> = receiver.iter().collect::<procession::Result<_>>()?;
/// received.sort();
/// assert_eq!(received, [0, 1, 2, 10, 11, 12]);
/// # for process in processes { process?.join()?; }
/// # Ok(()) }
/// ```
///
/// A process that was forked while this one had a sender has one too, whether it knows or not:
/// under `fork` make the channel after the pool. A sender in the arguments of a pool's task or in a
/// state is there until that call is over.
///
/// # Errors
///
/// If the system refuses: no file descriptor is left.
pub fn channel<T: Message>() -> Result<(Sender<T>, Receiver<T>)> {
    ends(Queue::new()?)
}

/// As [`channel`], for at most `maxsize` items at once; a send into a full one waits.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let (sender, receiver) = procession::queue::bounded_channel(1)?;
/// sender.send(1)?;
/// assert!(sender.send_timeout(2, std::time::Duration::ZERO).is_err_and(|full| full.error().is_timeout()));
/// assert_eq!(receiver.recv()?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// As [`channel`], and for a `maxsize` of 0 ([`Error::is_invalid`]).
pub fn bounded_channel<T: Message>(maxsize: usize) -> Result<(Sender<T>, Receiver<T>)> {
    ends(Queue::bounded(maxsize)?)
}

fn ends<T>(queue: Queue<T>) -> Result<(Sender<T>, Receiver<T>)> {
    let (watch, present) = Watch::pair()?;
    let sender = Sender { queue: queue.clone(), present: Arc::new(present) };
    Ok((sender, Receiver { queue, watch: Arc::new(watch) }))
}

/// An end of a [`channel`] that puts items in. Clones are senders too; each travels as a [`Queue`]
/// does.
pub struct Sender<T> {
    queue: Queue<T>,
    present: Arc<Present>,
}

impl<T: Message> Sender<T> {
    /// Sends an item; waits while the channel is full.
    ///
    /// # Errors
    ///
    /// The item does not encode ([`Error::is_encode`]); the channel is full and no receiver is left
    /// ([`Error::is_closed`]). The error gives the item back.
    pub fn send(&self, item: T) -> Result<(), PutError<T>> {
        self.send_until(item, None)
    }

    /// As [`send`](Sender::send), waiting for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Sender::send), and [`Error::is_timeout`] when the channel is full until then.
    pub fn send_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.send_until(item, Instant::now().checked_add(timeout))
    }

    fn send_until(&self, mut item: T, deadline: Option<Instant>) -> Result<(), PutError<T>> {
        loop {
            let now = Instant::now();
            let look = now + LOOK_INTERVAL;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            let not_put = match self.queue.put_until(item, Some(until)) {
                Err(not_put) if not_put.error.is_timeout() && until == look => not_put,
                put => return put,
            };
            let error = match self.present.is_watched() {
                Ok(true) => {
                    item = not_put.item;
                    continue;
                }
                Ok(false) => Error::from(engine::Error::QueueClosed),
                Err(error) => error.into(),
            };
            return Err(PutError { error, ..not_put });
        }
    }
}

/// An end of a [`channel`] that takes items out. Clones take from the same channel, each item once;
/// each travels as a [`Queue`] does.
pub struct Receiver<T> {
    queue: Queue<T>,
    watch: Arc<Watch>,
}

impl<T: Message> Receiver<T> {
    /// Takes the oldest item; waits for one.
    ///
    /// # Errors
    ///
    /// [`Error::is_closed`] once every sender is gone and the items are taken; [`Error::is_decode`]
    /// for an item that does not decode, which is then gone.
    pub fn recv(&self) -> Result<T> {
        self.recv_until(None)
    }

    /// As [`recv`](Receiver::recv), waiting for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv), and [`Error::is_timeout`] when there is no item until then.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Takes the oldest item if there is one.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<Option<T>> {
        match self.recv_until(Some(Instant::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            received => received.map(Some),
        }
    }

    /// The items as they come, to the end of the channel. An item that does not decode gives its
    /// error in its place.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let (sender, receiver) = procession::queue::channel()?;
    /// pool.apply(|sender: procession::queue::Sender<u64>| (0..3).for_each(|x| sender.send(x).unwrap()), sender)?;
    /// let mut sum = 0;
    /// for item in &receiver {
    ///     sum += item?;
    /// }
    /// assert_eq!(sum, 3);
    /// # Ok(()) }
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T> {
        let first = Instant::now() + FIRST_WAIT;
        let mut until = deadline.map_or(first, |deadline| deadline.min(first));
        loop {
            match self.queue.get_until(Some(until)) {
                Err(error) if error.is_timeout() => {}
                received => return received,
            }
            // Looked at before the queue: what a sender sent last was there before it was gone.
            if self.watch.is_over()? {
                let last = self.queue.try_get()?;
                return last.ok_or_else(|| engine::Error::QueueClosed.into());
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(Error::timeout("the channel had an item"));
            }
            let readable = self.queue.readable()?;
            self.watch.wait(&readable, deadline)?;
            until = Instant::now();
        }
    }
}

impl<T> Clone for Sender<T> {
    /// Another sender of the same channel.
    fn clone(&self) -> Self {
        Sender { queue: self.queue.clone(), present: self.present.clone() }
    }
}

/// The items of a channel, until it has ended: see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Receiver<T>);

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.0.recv() {
            Err(error) if error.is_closed() => None,
            received => Some(received),
        }
    }
}

impl<'a, T: Message> IntoIterator for &'a Receiver<T> {
    type Item = Result<T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Receiver<T> {
    /// Another receiver of the same channel.
    fn clone(&self) -> Self {
        Receiver { queue: self.queue.clone(), watch: self.watch.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.queue).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.queue).finish()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.present.as_fd(), "sender").map_err(S::Error::custom)?;
        (&self.queue, index).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (queue, index) = <(Queue<T>, u32)>::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "sender").map_err(D::Error::custom)?;
        Ok(Sender { queue, present: Arc::new(Present::from(fd)) })
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.watch.as_fd(), "receiver").map_err(S::Error::custom)?;
        (&self.queue, index).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (queue, index) = <(Queue<T>, u32)>::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "receiver").map_err(D::Error::custom)?;
        Ok(Receiver { queue, watch: Arc::new(Watch::from(fd)) })
    }
}
