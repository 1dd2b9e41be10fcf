//! Streams and sinks: lazy maps, queues and connections in an async program. Used in any process,
//! in the thread that polls. The engine's threads wake it (`procession_core::reactor`).

mod connection;
mod imap;
mod queue;

use std::fmt;

/// A lazy map, a queue or a connection as a [`Stream`](futures_core::Stream), and the latter two as
/// a [`Sink`](futures_sink::Sink), in any runtime. Needs the feature `futures`.
///
/// | of | made by | stream of | sink of |
/// |---|---|---|---|
/// | [`Imap`](crate::pool::Imap), [`ImapUnordered`](crate::pool::ImapUnordered) | `pool.imap(..).into_async()` | `Result<R>` | |
/// | [`Queue<T>`](crate::Queue) | [`queue.into_async()`](crate::Queue::into_async) | `Result<T>`, to the queue's end | `T` |
/// | [`Connection<Tx, Rx>`](crate::Connection) | [`connection.into_async()`](crate::Connection::into_async) | `Result<Rx>`, to the connection's end | `Tx` |
///
/// No task blocks its thread, and no wait has a thread of its own: one thread of the engine waits
/// for all queues, its supervisor for all connections, each pool's own for its results.
///
/// The types themselves are no streams, because their methods have the names of those that
/// `StreamExt` and `SinkExt` bring: `imap.next()` would be ambiguous, and `connection.send(value)`
/// would block.
///
/// Closing a sink (`SinkExt::close`, `forward`) sends what is left, and closes nothing, because a
/// queue has other producers: [`Queue::close`](crate::Queue::close) does.
///
/// ```
/// use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
/// use procession::Queue;
///
/// # fn main() -> procession::Result<()> {
/// # let pool = procession::Context::fork().pool(2)?;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let squares = pool.imap(|x: u64| x * x, 0..10).into_async();
/// assert_eq!(squares.try_fold(0, async |sum, square| Ok(sum + square)).await?, 285);
///
/// let queue = Queue::bounded(1)?;
/// let (mut sink, mut stream) = (queue.clone().into_async(), queue.into_async());
/// let producer = async move {
///     sink.send("first".to_owned()).await?;
///     sink.send("second".to_owned()).await?; // waits for room
///     sink.get_ref().close();
///     Ok::<_, procession::Error>(())
/// };
/// let consumer = async move {
///     while let Some(item) = stream.next().await {
///         println!("{}", item?);
///     }
///     Ok::<_, procession::Error>(())
/// };
/// future::try_join(producer, consumer).await?;
/// # Ok(()) })
/// # }
/// ```
///
/// # Dropping
///
/// A dropped lazy map cancels what is on its way, once it was polled.
/// [`into_inner`](Async::into_inner) gives the iterator back, which does not. A dropped queue loses
/// an item that waits for room. A dropped connection loses the frame that it has not begun to send;
/// if it has begun one, the other end sees a frame that was cut off.
#[must_use = "streams and sinks do nothing unless they are polled"]
pub struct Async<T: Awaited> {
    of: T,
    waits: T::Waits,
}

/// A type that [`Async`] makes a stream.
#[allow(private_bounds, reason = "nobody else can implement it")]
pub trait Awaited: Sealed {}

impl<T: Sealed> Awaited for T {}

/// The parts that a kind of stream needs besides itself.
pub(crate) trait Sealed: Sized {
    /// The state that it keeps between polls.
    type Waits;

    /// It is polled no more.
    fn end(&mut self, _: Self::Waits) {}
}

#[allow(private_bounds, reason = "see Awaited")]
impl<T: Awaited> Async<T> {
    /// Returns the object that this is the stream of.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let stream = procession::Queue::<u64>::new()?.into_async();
    /// stream.get_ref().put(7)?;
    /// assert_eq!(stream.get_ref().len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.of
    }

    /// Gives it back. An item or frame that waits to go is lost, as when this is dropped.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let stream = procession::Queue::<u64>::new()?.into_async();
    /// stream.into_inner().put(7)?;
    /// # Ok(()) }
    /// ```
    pub fn into_inner(mut self) -> T {
        self.of.end(self.waits);
        self.of
    }
}

impl<T: Awaited + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.of).finish()
    }
}
