//! No fds. As [`linux/descriptor.rs`](../linux/descriptor.rs).

use std::io;
use std::os::fd::{OwnedFd, RawFd};

use super::unsupported;

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn duplicate(_number: RawFd) -> io::Result<OwnedFd> {
    unsupported()
}
