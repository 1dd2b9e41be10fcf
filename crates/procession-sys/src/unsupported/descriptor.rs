//! No fds of the engine. As [`linux/descriptor.rs`](../linux/descriptor.rs).

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use super::unsupported;

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn above_streams<T>(_made: T) -> io::Result<T> {
    unsupported()
}

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn duplicate(_number: RawFd) -> io::Result<OwnedFd> {
    unsupported()
}

/// Cannot be made.
#[derive(Debug)]
pub struct HeldStreams(());

impl HeldStreams {
    /// Refuses.
    #[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
    pub fn new() -> io::Result<HeldStreams> {
        unsupported()
    }
}
