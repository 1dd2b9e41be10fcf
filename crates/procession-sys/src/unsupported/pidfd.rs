//! No processes. As [`linux/pidfd.rs`](../linux/pidfd.rs).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::unsupported;
use crate::{ExitStatus, Signal};

/// A process, by an fd of its own.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: u32,
}

#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
impl PidFd {
    /// Refuses.
    pub fn of_self() -> io::Result<PidFd> {
        unsupported()
    }

    /// Refuses.
    pub fn open(_pid: u32) -> io::Result<PidFd> {
        unsupported()
    }

    /// Keeps the parts, unused.
    pub fn from_parts(fd: OwnedFd, pid: u32) -> PidFd {
        PidFd { fd, pid }
    }

    /// Refuses.
    pub fn try_clone(&self) -> io::Result<PidFd> {
        unsupported()
    }

    /// Returns the pid it was made from.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Refuses.
    pub fn signal(&self, _signal: Signal) -> io::Result<bool> {
        unsupported()
    }

    /// Refuses.
    pub fn kill_group(&self) -> io::Result<bool> {
        unsupported()
    }

    /// Refuses.
    pub fn kill_group_by_fd(&self) -> io::Result<bool> {
        unsupported()
    }

    /// Refuses.
    pub fn wait_ended(&self, _deadline: Option<Instant>) -> io::Result<bool> {
        unsupported()
    }

    /// Refuses.
    pub fn has_ended(&self) -> io::Result<bool> {
        unsupported()
    }

    /// Returns `true`.
    pub fn is_open(&self) -> bool {
        true
    }

    /// Returns `true`.
    pub fn is_own(&self) -> bool {
        true
    }

    /// Returns `false`.
    pub fn is_stopped(&self) -> bool {
        false
    }

    /// Refuses.
    pub fn try_reap(&self) -> io::Result<Option<ExitStatus>> {
        unsupported()
    }

    /// Refuses.
    pub fn peek(&self) -> io::Result<Option<ExitStatus>> {
        unsupported()
    }

    /// Refuses.
    pub fn ended_status(&self) -> io::Result<Option<ExitStatus>> {
        unsupported()
    }

    /// Refuses.
    pub fn of_new_child(_pid: i32) -> io::Result<PidFd> {
        unsupported()
    }

    /// Refuses.
    pub fn reap(&self) -> io::Result<ExitStatus> {
        unsupported()
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the caller's pid.
pub fn current_pid() -> u32 {
    std::process::id()
}
