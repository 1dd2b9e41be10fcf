//! The messages that cross a [`Link`](crate::link::Link). The platforms share them; users see them
//! as part of [`crate::link`].

use std::os::fd::OwnedFd;

/// The most bytes of one message. More belongs in a memfd beside it.
pub const MAX_MESSAGE: usize = 65536;

/// The most fds of one message.
pub const MAX_FDS: usize = 128;

/// One message: never a part of one, never two.
#[derive(Debug)]
pub struct Message {
    /// All the bytes that were sent.
    pub bytes: Vec<u8>,
    /// The fds that came with it, `CLOEXEC`.
    pub fds: Vec<OwnedFd>,
}

/// The outcome of an attempt to receive without waiting.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// Nothing, but the other end is open.
    Nothing,
    /// Nothing, and never again: the other end is closed.
    Closed,
}
