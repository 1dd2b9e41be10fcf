//! No capture of streams. As [`linux/stdio.rs`](../linux/stdio.rs).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::unsupported;
pub use crate::stream_name::StreamName;

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn null() -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn take_stdin() -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn redirect(_output: BorrowedFd<'_>, _error: BorrowedFd<'_>) -> io::Result<()> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn read_now(_fd: BorrowedFd<'_>, _buffer: &mut [u8]) -> io::Result<Option<usize>> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn write(_stream: StreamName, _bytes: &[u8]) -> io::Result<()> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn write_all(_fd: BorrowedFd<'_>, _bytes: &[u8]) -> io::Result<()> {
    unsupported()
}
