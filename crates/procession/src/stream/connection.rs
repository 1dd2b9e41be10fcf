//! Connections as streams and sinks. The engine's supervisor waits for their sockets.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use procession_core::connection::Outgoing;
use procession_core::reactor::{Direction, SocketWatch};
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use super::{Async, Sealed};
use crate::{Connection, Error, Result, message};

/// The state that a connection's stream keeps between polls.
#[derive(Debug)]
pub(crate) struct ConnectionWaits {
    watch: SocketWatch,
    /// The frame that is on its way.
    frame: Option<Outgoing>,
    /// Nothing more will be received.
    is_over: bool,
}

impl<Tx, Rx> Sealed for Connection<Tx, Rx> {
    type Waits = ConnectionWaits;
}

impl<Tx, Rx> Unpin for Async<Connection<Tx, Rx>> {}

impl<Tx, Rx> Connection<Tx, Rx> {
    /// A stream of what is received, which ends when the other end is gone, and a sink of what is
    /// sent. Needs the feature `futures`. `StreamExt::split` makes two halves, to be used in two
    /// tasks.
    ///
    /// ```
    /// use futures_util::{SinkExt, StreamExt};
    ///
    /// # fn main() -> procession::Result<()> {
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (left, right) = procession::pipe::<u32, String>(true)?;
    /// let (mut left, mut right) = (left.into_async()?, right.into_async()?);
    /// left.send(7).await?;
    /// let number = right.next().await.unwrap()?;
    /// right.send(format!("got {number}")).await?;
    /// assert_eq!(left.next().await.unwrap()?, "got 7");
    /// drop(right);
    /// assert!(left.next().await.is_none());
    /// # Ok(()) })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If no file descriptor is left.
    pub fn into_async(self) -> Result<Async<Connection<Tx, Rx>>> {
        let waits = ConnectionWaits { watch: self.engine.watch()?, frame: None, is_over: false };
        Ok(Async { of: self, waits })
    }
}

impl<Tx, Rx: DeserializeOwned + 'static> Stream for Async<Connection<Tx, Rx>> {
    type Item = Result<Rx>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Rx>>> {
        let this = self.get_mut();
        if this.waits.is_over {
            return Poll::Ready(None);
        }
        match this.of.try_recv() {
            Ok(Some(value)) => Poll::Ready(Some(Ok(value))),
            Ok(None) => match this.waits.watch.wake_when(Direction::In, context.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Some(Err(error.into()))),
            },
            Err(error) => {
                this.waits.is_over = error.is_closed() || error.is_malformed();
                Poll::Ready((!error.is_closed()).then_some(Err(error)))
            }
        }
    }
}

impl<Tx: Serialize + 'static, Rx> Sink<Tx> for Async<Connection<Tx, Rx>> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.flush(context)
    }

    fn start_send(self: Pin<&mut Self>, value: Tx) -> Result<()> {
        let this = self.get_mut();
        if this.waits.frame.is_some() {
            return Err(Error::invalid("a value is on its way already: a sink takes the next once poll_ready says so"));
        }
        let (payload, handles) = message::encode_with_handles(&value)
            .map_err(|why| Error::unencodable("message", "Connection::send", why))?;
        this.waits.frame = Some(this.of.engine.begin_send(&payload, handles)?);
        this.send_frame().map(drop)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.flush(context)
    }
}

impl<Tx, Rx> Async<Connection<Tx, Rx>> {
    fn flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.send_frame()? {
            return Poll::Ready(Ok(()));
        }
        this.waits.watch.wake_when(Direction::Out, context.waker())?;
        Poll::Pending
    }

    /// Sends what the socket takes of the frame that is on its way; `true` if none is.
    fn send_frame(&mut self) -> Result<bool> {
        let Some(frame) = &mut self.waits.frame else { return Ok(true) };
        let sent = self.of.engine.go_on(frame);
        if !matches!(sent, Ok(false)) {
            self.waits.frame = None;
        }
        Ok(sent?)
    }
}
