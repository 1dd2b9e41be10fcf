//! The fds that a program was started with, as [`Spawn`](super::spawn::Spawn) passes them. Called
//! in the child, in its first thread.

#![allow(unsafe_code)] // Questions about an fd known by its number, and its ownership.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

/// The number that the first passed fd has in the child.
pub const FIRST_FD: i32 = 3;

/// The most fds that can be passed.
pub(super) const MAX_INHERITED: i32 = 16;

/// Takes ownership of an fd that this program was started with, and makes it `CLOEXEC`.
///
/// # Errors
///
/// `InvalidInput` if `n` is not in `FIRST_FD..FIRST_FD + 16`; `NotFound` if no such fd was passed:
/// it is not open, was taken before, or is this program's own. (A passed fd is not `CLOEXEC`, and
/// an fd that Rust code opens is.)
pub fn inherited_fd(n: i32) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    if !(FIRST_FD..FIRST_FD + MAX_INHERITED).contains(&n) {
        let message = format!("fd {n} cannot have been passed: not in {FIRST_FD}..{}", FIRST_FD + MAX_INHERITED);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let not_passed = |why: &str| io::Error::new(io::ErrorKind::NotFound, format!("fd {n} was not passed: {why}"));
    let is_cloexec = cloexec_flag(n).ok_or_else(|| not_passed("it is not open"))?;
    if is_cloexec {
        return Err(not_passed("it is this program's own, or was taken before"));
    }
    let bit = 1 << (n - FIRST_FD);
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(not_passed("it was taken before"));
    }
    // SAFETY: the fd is open and not CLOEXEC, so it came through an exec, and Rust code of this
    // program did not open it: nothing here owns it. It is handed out once, as its bit in TAKEN was
    // clear.
    let fd = unsafe { OwnedFd::from_raw_fd(n) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Returns whether an exec closes the fd; `None` if the number is not open.
pub(super) fn cloexec_flag(fd: i32) -> Option<bool> {
    // SAFETY: asks for a flag of a number, which may or may not be an fd.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    (flags != -1).then_some(flags & libc::FD_CLOEXEC != 0)
}
