//! The standard streams that a child is to have. Made by the parent's collector, sent with the
//! preparation data, put in place in the child's bootstrap.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_sys::stdio;

/// The files that a child's standard output and standard error are to be.
#[derive(Debug)]
pub struct Streams {
    output: OwnedFd,
    error: OwnedFd,
}

impl Streams {
    /// These two.
    pub fn new(output: OwnedFd, error: OwnedFd) -> Streams {
        Streams { output, error }
    }

    /// Those that swallow everything.
    ///
    /// # Errors
    ///
    /// If there is no `/dev/null`, or no fd is left.
    pub(super) fn null() -> io::Result<Streams> {
        let null = stdio::null()?;
        Ok(Streams { output: null.try_clone()?, error: null })
    }

    /// Both files, the output's first.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.output.as_fd(), self.error.as_fd()]
    }

    /// In the child: puts them in place.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn install(self) -> io::Result<()> {
        stdio::redirect(self.output.as_fd(), self.error.as_fd())
    }
}
