//! Tells a queue whether its producers and consumers are there. Each producer holds the writing end
//! of a pipe, and each consumer the reading end. The kernel closes the ends of a process that was
//! killed. In any process that has an end, in any thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use procession_sys::descriptor::above_streams;
use procession_sys::poller;

use crate::{Error, Result};

/// A producer's part: as long as one is anywhere, the queue goes on.
#[derive(Debug)]
pub struct Present(OwnedFd);

/// A consumer's part.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// The two parts of a new queue.
    ///
    /// # Errors
    ///
    /// If the system refuses: no fd left.
    pub fn pair() -> Result<(Watch, Present)> {
        let pair = || -> io::Result<_> {
            let (reader, writer) = io::pipe()?;
            Ok((Watch(above_streams(reader.into())?), Present(above_streams(writer.into())?)))
        };
        pair().map_err(Error::os("cannot make the pipe by which a channel ends"))
    }

    /// Returns whether no producer is left.
    ///
    /// # Errors
    ///
    /// If the system refuses to look.
    pub fn is_over(&self) -> Result<bool> {
        self.wait_for(&[self.as_fd()], Some(Instant::now())).map(|ready| ready[0])
    }

    /// Waits until `other` is readable or no producer is left, or until the deadline.
    ///
    /// # Errors
    ///
    /// If the system refuses to wait.
    pub fn wait(&self, other: &impl AsFd, deadline: Option<Instant>) -> Result<()> {
        self.wait_for(&[self.as_fd(), other.as_fd()], deadline).map(drop)
    }

    fn wait_for(&self, fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<Vec<bool>> {
        poller::wait_readable(fds, deadline).map_err(Error::os("cannot wait for a channel"))
    }
}

impl Present {
    /// Returns whether a consumer is left.
    ///
    /// # Errors
    ///
    /// If the system refuses to look.
    pub fn is_watched(&self) -> Result<bool> {
        // The writing end is never readable: what is told of it is that nobody reads.
        let told = poller::wait_readable(&[self.0.as_fd()], Some(Instant::now()));
        told.map(|told| !told[0]).map_err(Error::os("cannot look at a channel"))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Present {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Watch {
    fn from(fd: OwnedFd) -> Watch {
        Watch(fd)
    }
}

impl From<OwnedFd> for Present {
    fn from(fd: OwnedFd) -> Present {
        Present(fd)
    }
}
