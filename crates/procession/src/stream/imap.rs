//! Lazy maps as streams. The pool's own thread wakes the task; items are pulled by the thread that
//! polls.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Async, Sealed};
use crate::pool::{Imap, ImapUnordered};
use crate::{Message, Result};

impl<R> Sealed for Imap<R> {
    type Waits = ();

    fn end(&mut self, (): ()) {
        self.end_await();
    }
}

impl<R> Sealed for ImapUnordered<R> {
    type Waits = ();

    fn end(&mut self, (): ()) {
        self.0.end_await();
    }
}

impl<R> Unpin for Async<Imap<R>> {}

impl<R> Unpin for Async<ImapUnordered<R>> {}

impl<R: Message> Imap<R> {
    /// A stream of the results, in the items' order. The thread that polls it pulls the items, and
    /// waits, for a second at most, if more than 256 MiB of them are on their way. Needs the
    /// feature `futures`.
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let squares = pool.imap(|x: u64| x * x, 0..4).into_async();
    /// assert_eq!(squares.try_collect::<Vec<_>>().await?, [0, 1, 4, 9]);
    /// # Ok(()) })
    /// # }
    /// ```
    pub fn into_async(self) -> Async<Imap<R>> {
        Async { of: self, waits: () }
    }
}

impl<R: Message> ImapUnordered<R> {
    /// A stream of the results, as they come; otherwise as [`Imap::into_async`].
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let mut squares = pool.imap_unordered(|x: u64| x * x, 0..4).into_async();
    /// let mut sum = 0;
    /// while let Some(square) = squares.try_next().await? {
    ///     sum += square;
    /// }
    /// assert_eq!(sum, 14);
    /// # Ok::<_, procession::Error>(()) })?;
    /// # Ok(()) }
    /// ```
    pub fn into_async(self) -> Async<ImapUnordered<R>> {
        Async { of: self, waits: () }
    }
}

impl<R: Message> Stream for Async<Imap<R>> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().of.poll_result(context.waker())
    }
}

impl<R: Message> Stream for Async<ImapUnordered<R>> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().of.0.poll_result(context.waker())
    }
}
