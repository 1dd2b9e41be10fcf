//! Queues as streams and sinks. One thread of the engine waits for all queues of the process.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use procession_core::queue::Side;
use procession_core::reactor::QueueWatch;

use super::{Async, Sealed};
use crate::{Error, Message, Queue, Result};

/// The state that a queue's stream keeps between polls.
#[derive(Debug)]
pub(crate) struct QueueWaits<T> {
    watch: QueueWatch,
    /// An item that waits for room.
    item: Option<T>,
}

impl<T> Sealed for Queue<T> {
    type Waits = QueueWaits<T>;
}

impl<T> Unpin for Async<Queue<T>> {}

impl<T: Message> Queue<T> {
    /// A stream of the items, which ends with the queue, and a sink that waits for room. Needs the
    /// feature `futures`. There is an example at [`Async`].
    ///
    /// ```
    /// use futures_util::StreamExt;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::new()?;
    /// queue.put(7)?;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let mut items = queue.into_async();
    /// assert_eq!(items.next().await.unwrap()?, 7);
    /// # Ok::<_, procession::Error>(()) })?;
    /// # Ok(()) }
    /// ```
    pub fn into_async(self) -> Async<Queue<T>> {
        let waits = QueueWaits { watch: self.engine.watch(), item: None };
        Async { of: self, waits }
    }
}

impl<T: Message> Stream for Async<Queue<T>> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        match self.of.try_get() {
            Ok(Some(item)) => Poll::Ready(Some(Ok(item))),
            Err(error) if error.is_closed() => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
            // The reactor looks at the queue after this, so no item is missed.
            Ok(None) => match self.waits.watch.wake_when(Side::Frames, context.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Some(Err(error.into()))),
            },
        }
    }
}

impl<T: Message> Sink<T> for Async<Queue<T>> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(context)
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<()> {
        let this = self.get_mut();
        if this.waits.item.is_some() {
            return Err(Error::invalid(
                "an item waits for room already: a sink takes the next once poll_ready says so",
            ));
        }
        this.waits.item = Some(item);
        this.put_item().map(drop)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.put_item()? {
            return Poll::Ready(Ok(()));
        }
        this.waits.watch.wake_when(Side::Room, context.waker())?;
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(context)
    }
}

impl<T: Message> Async<Queue<T>> {
    /// Puts the item that waits, if there is one; `false` if there is no room.
    fn put_item(&mut self) -> Result<bool> {
        let Some(item) = self.waits.item.take() else { return Ok(true) };
        match self.of.try_put(item) {
            Ok(()) => Ok(true),
            Err(full) if full.error().is_timeout() => {
                self.waits.item = Some(full.into_item());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
