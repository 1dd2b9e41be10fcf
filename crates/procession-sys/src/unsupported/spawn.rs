//! No programs are executed. As [`linux/spawn.rs`](../linux/spawn.rs).

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::pidfd::PidFd;
use super::unsupported;

/// The number that the first passed fd has in the child.
pub const FIRST_FD: i32 = 3;

/// A program to execute.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// Its file.
    pub program: &'a Path,
    /// The arguments, beginning with the program's name.
    pub args: &'a [OsString],
    /// The fds that it gets.
    pub fds: &'a [BorrowedFd<'a>],
    /// A shared object that the loader loads before the program begins.
    pub preload: Option<&'a Preload>,
    /// True if SIGINT is blocked.
    pub holds_interrupts: bool,
}

/// An object to preload into a child.
#[derive(Debug)]
pub struct Preload;

impl Preload {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always `Unsupported`.
    pub fn of(_path: &Path) -> io::Result<Preload> {
        unsupported()
    }

    /// Returns `None`.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Spawn<'_> {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always `Unsupported`.
    pub fn start(&self) -> io::Result<PidFd> {
        unsupported()
    }
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn inherited_fd(_n: i32) -> io::Result<OwnedFd> {
    unsupported()
}

/// Returns the program's file.
///
/// # Errors
///
/// If it cannot be found.
pub fn current_executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}
