//! Numbers that are said to be fds. Called by a face whose language passes fds around as plain numbers, in any process and thread.

#![allow(unsafe_code)] // `dup` of a number, and ownership of what it gives.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A copy of the fd with this number, which stays its owner's.
///
/// # Errors
///
/// `EBADF` if the number is no open fd's; if no fd is left.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new fd of a number, which may or may not be an fd; nothing of the old one is changed.
    let new = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_is_a_copy_and_what_is_no_fd_is_refused() {
        let (one, _other) = rustix::pipe::pipe().unwrap();
        assert_ne!(duplicate(one.as_raw_fd()).unwrap().as_raw_fd(), one.as_raw_fd());
        assert!(duplicate(-1).is_err());
    }
}
