//! The standard streams of a child that its parent captures: pipes for them, and their place in the
//! child. Pipes are made in the parent by the thread that starts the child; the streams are
//! replaced in the child, before any code of a user runs there.

#![allow(unsafe_code)] // C's `setvbuf` and `stdout`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use super::descriptor::above_streams;
use super::poller::poll_until;
pub use crate::stream_name::StreamName;

/// Makes a pipe and returns its reading end, which never waits, and its writing end, which does.
///
/// Bytes in the pipe stay there when their writer dies.
///
/// # Errors
///
/// If no fd is left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (reader, writer) = (above_streams(reader)?, above_streams(writer)?);
    fcntl_setfl(&reader, fcntl_getfl(&reader)? | OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// Opens what swallows everything.
///
/// # Errors
///
/// If there is no `/dev/null`, or no fd is left.
pub fn null() -> io::Result<OwnedFd> {
    above_streams(open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Takes the file of the standard input, and leaves an empty one in its place.
///
/// # Errors
///
/// If it is closed, there is no `/dev/null`, or no fd is left.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = above_streams(rustix::io::fcntl_dupfd_cloexec(stdin(), 0)?)?;
    dup2_stdin(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
    Ok(taken)
}

/// Makes these files the standard output and the standard error of this process. C's standard
/// output is written out line by line from now on, as on a terminal: what a `printf` has ended with
/// a newline survives the process.
///
/// # Errors
///
/// None that a caller could cause.
pub fn redirect(output: BorrowedFd<'_>, error: BorrowedFd<'_>) -> io::Result<()> {
    dup2_stdout(output)?;
    dup2_stderr(error)?;
    unsafe extern "C" {
        #[link_name = "stdout"]
        static mut C_STDOUT: *mut libc::FILE;
    }
    // SAFETY: the variable is the C library's own and holds an open stream; it is read by value. A
    // null buffer has the library keep the one that it has.
    unsafe { libc::setvbuf(C_STDOUT, std::ptr::null_mut(), libc::_IOLBF, 0) };
    Ok(())
}

/// Reads what is in a pipe. `None`: nothing, and more may come.
///
/// # Errors
///
/// If it cannot be read.
pub fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(len) => return Ok(Some(len)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes to a standard stream of this process, past the buffer and the lock of the language's own:
/// a thread of the engine holds no lock that a forked child could want.
///
/// # Errors
///
/// If the stream is closed or full.
pub fn write(stream: StreamName, bytes: &[u8]) -> io::Result<()> {
    match stream {
        StreamName::Stdout => write_all(stdout(), bytes),
        StreamName::Stderr => write_all(stderr(), bytes),
    }
}

/// Writes all bytes. Waits while the file takes none.
///
/// # Errors
///
/// If nobody reads it, or it is full.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(Errno::AGAIN) => {
                poll_until(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)], None, || false)?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_pipe_survives_its_writer() {
        let (reader, writer) = pipe().unwrap();
        let mut buffer = [0; 10];
        assert_eq!(read_now(reader.as_fd(), &mut buffer).unwrap(), None);
        rustix::io::write(&writer, b"left").unwrap();
        drop(writer);
        assert_eq!(read_now(reader.as_fd(), &mut buffer).unwrap(), Some(4));
        assert_eq!(&buffer[..4], b"left");
        assert_eq!(read_now(reader.as_fd(), &mut buffer).unwrap(), Some(0));
    }
}
