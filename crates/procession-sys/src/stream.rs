//! The facts that a process can know of stream sockets. The platforms share them; users see them as
//! part of [`crate::socket`].

use std::os::fd::OwnedFd;

/// The kind of stream socket, by the two ends that it connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Processes of this machine. It carries fds.
    Unix,
    /// Machines. It carries bytes only.
    Network,
}

/// The outcome of an attempt to receive.
#[derive(Debug)]
pub enum Incoming {
    /// This many bytes, and the fds that were sent with the last piece of them.
    Bytes(usize, Vec<OwnedFd>),
    /// Nothing, and never again: the other end is closed.
    End,
    /// Nothing until the deadline.
    TimedOut,
    /// Bytes whose fds were lost: a message had too many, or this process may open no more.
    FdsLost,
}

/// The process at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its pid when it connected.
    pub pid: u32,
    /// The user whose rights it had.
    pub user: u32,
}
