//! No forks. As [`linux/fork.rs`](../linux/fork.rs).

use std::io;

use super::pidfd::PidFd;
use super::unsupported;
pub use crate::fork_terms::{ForkError, OtherThread, OtherThreads, ThreadsAtFork};

/// Refuses.
///
/// # Errors
///
/// Always [`ForkError::Os`], `Unsupported`.
pub fn fork(_allow: Option<ThreadsAtFork>, _child: impl FnOnce() -> i32) -> Result<PidFd, ForkError> {
    unsupported().map_err(ForkError::Os)
}

/// The action of SIGCHLD: unknown.
#[derive(Debug)]
pub struct DefaultChildSignal;

#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
impl DefaultChildSignal {
    /// Refuses.
    pub fn set() -> io::Result<DefaultChildSignal> {
        unsupported()
    }

    /// Refuses.
    pub fn restore(&self) -> io::Result<()> {
        unsupported()
    }
}
