//! No stream sockets with fds. As [`linux/socket.rs`](../linux/socket.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use super::unsupported;
pub use crate::stream::{Incoming, Kind, Peer};

/// Refuses.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    unsupported()
}

/// Refuses.
pub fn stop_sending(_socket: BorrowedFd<'_>) -> io::Result<()> {
    unsupported()
}

/// Refuses.
pub fn end_connection(_socket: BorrowedFd<'_>) -> io::Result<()> {
    unsupported()
}

/// Returns `None`: no kind is known.
pub fn kind(_fd: BorrowedFd<'_>) -> Option<Kind> {
    None
}

/// Refuses.
pub fn set_backlog(_listener: BorrowedFd<'_>, _connections: i32) -> io::Result<()> {
    unsupported()
}

/// Refuses.
pub fn peer(_socket: BorrowedFd<'_>) -> io::Result<Peer> {
    unsupported()
}

/// Returns a user that no process runs as.
pub fn current_user() -> u32 {
    u32::MAX
}

/// Refuses.
pub fn receive(_socket: BorrowedFd<'_>, _room: &mut [u8], _deadline: Option<Instant>) -> io::Result<Incoming> {
    unsupported()
}

/// Refuses.
pub fn send_all(
    _socket: BorrowedFd<'_>,
    _header: &[u8],
    _payload: &[u8],
    _fds: &[BorrowedFd<'_>],
    _deadline: Option<Instant>,
) -> Result<(), (usize, io::Error)> {
    unsupported().map_err(|error| (0, error))
}
