//! No lock between processes. As [`linux/mutex.rs`](../linux/mutex.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::time::Instant;

use super::unsupported;

/// The way in which a thread acquired a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// As usual.
    Clean,
    /// The last owner died while it held the lock.
    OwnerDied,
}

/// The treatment of a thread that locks a mutex which it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relock {
    /// It waits for itself.
    Waits,
    /// An error.
    Refused,
    /// It holds the mutex once more.
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

    /// Returns `false`: nobody holds it.
    pub fn unlock_if_held(&self) -> bool {
        false
    }

    /// Returns `false`: nobody holds it.
    pub fn is_held(&self) -> bool {
        false
    }

    /// Returns `false`: nobody holds it.
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

    /// Does nothing: nobody holds it.
    pub fn unlock(&self) {}
}
