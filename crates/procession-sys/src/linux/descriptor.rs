//! Numbers of fds: copies of fds that are known by their number, and how new fds stay clear of the
//! standard streams. Called by everything that makes an fd, in any process and thread.
//!
//! The kernel gives a new fd the lowest free number. In a program that was started with a standard
//! stream closed (`program >&-`) that number is 0, 1 or 2. Output of C code would then be written
//! into the engine's memory or sockets. Therefore each new fd of the engine goes through
//! [`above_streams`].

#![allow(unsafe_code)] // `dup` of a number, and ownership of the new fd.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;

/// The lowest number that is no standard stream's.
pub const FIRST_ABOVE_STREAMS: RawFd = 3;

/// Moves an fd that was just made to a number above the standard streams, unless it has one.
///
/// The new fd is `CLOEXEC`. A thread that writes to the closed stream between the making of the fd
/// and this call writes into the fd all the same.
///
/// # Errors
///
/// If no fd is left.
pub fn above_streams<T: From<OwnedFd> + Into<OwnedFd> + AsFd>(made: T) -> io::Result<T> {
    if made.as_fd().as_raw_fd() >= FIRST_ABOVE_STREAMS {
        return Ok(made);
    }
    Ok(T::from(fcntl_dupfd_cloexec(made.into(), FIRST_ABOVE_STREAMS)?))
}

/// Returns a copy of the fd with this number, which stays its owner's. The copy is above the
/// standard streams.
///
/// # Errors
///
/// `EBADF` if the number is not an open fd's; if no fd is left.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new fd of a number, which may or may not be an fd; nothing of the old one is
    // changed.
    let new = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, FIRST_ABOVE_STREAMS) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this fd, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Keeps the numbers of the standard streams in use while it exists, so that code which is not the
/// engine's makes its fds above them. A closed stream stays as good as closed meanwhile: reading
/// and writing fail with `EBADF`.
///
/// No other thread may open one of the closed streams meanwhile, by `dup2` to its number: it would
/// be closed again.
#[derive(Debug)]
pub struct HeldStreams {
    _held: Vec<OwnedFd>,
}

impl HeldStreams {
    /// Holds those of the numbers that are free.
    ///
    /// # Errors
    ///
    /// If no fd is left, or `/` cannot be opened.
    pub fn new() -> io::Result<HeldStreams> {
        let mut held = Vec::new();
        // SAFETY: asks for a flag of a number, which may or may not be an fd.
        while (0..FIRST_ABOVE_STREAMS).any(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } == -1) {
            let placeholder = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            if placeholder.as_raw_fd() >= FIRST_ABOVE_STREAMS {
                // Another thread has just closed or opened a stream, which is not for this code to
                // mend.
                break;
            }
            held.push(placeholder);
        }
        Ok(HeldStreams { _held: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_has_another_number_and_closed_number_is_refused() {
        let (one, _other) = rustix::pipe::pipe().unwrap();
        assert_ne!(duplicate(one.as_raw_fd()).unwrap().as_raw_fd(), one.as_raw_fd());
        assert!(duplicate(-1).is_err());
    }

    #[test]
    fn fd_above_the_streams_is_not_moved() {
        let (one, _other) = rustix::pipe::pipe().unwrap();
        let number = one.as_raw_fd();
        assert_eq!(above_streams(one).unwrap().as_raw_fd(), number);
    }
}
