//! No lock between processes. As [`linux/mutex.rs`](../linux/mutex.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::time::Instant;

use super::unsupported;

/// How a lock was had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// As usual.
    Clean,
    /// The owner before died holding it.
    OwnerDied,
}

/// What a thread meets that locks what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relock {
    /// It waits for itself.
    Waits,
    /// An error.
    Refused,
    /// It holds it once more.
    Counts,
}

/// A lock between processes: cannot be made.
#[derive(Debug)]
#[repr(C)]
pub struct RobustMutex(());

impl RobustMutex {
    /// Refuses.
    pub fn init(&self) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn init_as(&self, _relock: Relock) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn try_lock(&self) -> io::Result<Option<Acquired>> {
        unsupported()
    }

    /// Refuses.
    pub fn lock_until(&self, _deadline: Option<Instant>) -> io::Result<Option<Acquired>> {
        unsupported()
    }

    /// Nobody holds it.
    pub fn unlock_if_held(&self) -> bool {
        false
    }

    /// Nobody holds it.
    pub fn is_held(&self) -> bool {
        false
    }

    /// Nobody holds it.
    pub fn may_be_held_here(&self) -> bool {
        false
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
