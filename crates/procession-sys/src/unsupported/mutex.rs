//! No lock between processes. As [`linux/mutex.rs`](../linux/mutex.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;

use super::unsupported;

/// How a lock was had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// As usual.
    Clean,
    /// The owner before died holding it.
    OwnerDied,
}

/// A lock between processes: cannot be made.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RobustMutex(());

impl RobustMutex {
    /// Refuses.
    pub fn init(&self) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn lock(&self) -> io::Result<Acquired> {
        unsupported()
    }

    /// Refuses.
    pub fn mark_consistent(&self) -> io::Result<()> {
        unsupported()
    }

    /// Nobody holds it.
    pub fn unlock(&self) {}
}
