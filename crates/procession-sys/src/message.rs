//! What crosses a [`Link`](crate::link::Link): shared by the platforms, and seen as part of
//! [`crate::link`].

use std::os::fd::OwnedFd;

/// The most bytes of one message. More belongs in a memfd beside it.
pub const MAX_MESSAGE: usize = 65536;

/// The most fds of one message.
pub const MAX_FDS: usize = 128;

/// One message: never a part of one, never two.
#[derive(Debug)]
pub struct Message {
    /// What was sent, whole.
    pub bytes: Vec<u8>,
    /// The fds that came with it, `CLOEXEC`.
    pub fds: Vec<OwnedFd>,
}

/// What is there to be received right now.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// Nothing, but the other end is open.
    Nothing,
    /// Nothing, and never again: the other end is closed.
    Closed,
}
