//! No waiting for fds. As [`linux/poller.rs`](../linux/poller.rs).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::unsupported;

/// A standing set of fds: cannot be made.
#[derive(Debug)]
pub struct Poller(());

#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
impl Poller {
    /// Refuses.
    pub fn new() -> io::Result<Poller> {
        unsupported()
    }

    /// Refuses.
    pub fn add(&self, _fd: BorrowedFd<'_>, _key: u64) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn add_unarmed(&self, _fd: BorrowedFd<'_>, _key: u64) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn arm(&self, _fd: BorrowedFd<'_>, _key: u64, _reads: bool, _writes: bool) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn remove(&self, _fd: BorrowedFd<'_>) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn wait(&self, _keys: &mut Vec<u64>, _timeout: Option<Duration>) -> io::Result<()> {
        unsupported()
    }
}

/// An fd to be made readable: cannot be made.
#[derive(Debug)]
pub struct Waker(OwnedFd);

#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
impl Waker {
    /// Refuses.
    pub fn new() -> io::Result<Waker> {
        unsupported()
    }

    /// Refuses.
    pub fn wake(&self) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn drain(&self) -> io::Result<()> {
        unsupported()
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!("none can be made")
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn wait_readable(_fds: &[BorrowedFd<'_>], _deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn wait_readable_unless(
    _fds: &[BorrowedFd<'_>],
    _deadline: Option<Instant>,
    _is_over: impl FnMut() -> bool,
) -> io::Result<Vec<bool>> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn wait_writable(_fd: BorrowedFd<'_>, _deadline: Option<Instant>) -> io::Result<bool> {
    unsupported()
}
