//! Synchronisation between processes: locks, semaphores, conditions, events, barriers. Used through
//! the faces, in any process and any thread. Each primitive is a cell of an [`arena`], which holds
//! many.
//!
//! | type | what it is | when its owner or its waiter is killed |
//! |---|---|---|
//! | [`Lock`], [`RLock`] | a lock bound to the thread that locked it | every `lock` reports the death until one owner recovers it |
//! | [`Mutex`] | a lock with a plain value behind it | the same |
//! | [`RwLock`] | the same for many readers or one writer | the same for a writer; a reader leaves nothing |
//! | [`Semaphore`] | permits, bound to nobody | a dead holder's permit is gone |
//! | [`BinarySemaphore`] | one permit, bound to a process, released by anybody | a waiter takes it over and learns of the death |
//! | [`Condition`] | waiters, notified in their order | its record is freed; its notification goes to the next |
//! | [`Event`] | a flag to wait for | nothing |
//! | [`Barrier`] | a number of parties that wait for each other | it breaks |
//!
//! # Guards that are forgotten, and forks
//!
//! A held lock is in its thread's list of robust mutexes, by address. If a handle is dropped while
//! a thread of this process holds its lock (because the guard was forgotten), the arena therefore
//! stays mapped for good. A forked child has copies of its parent's guards and holds none of the
//! locks: dropping a copy does nothing.

pub(crate) mod arena;
mod barrier;
mod binary_semaphore;
mod condition;
mod event;
mod lock;
mod mutex;
mod rwlock;
mod semaphore;
mod waiter;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use procession_sys::per_process::PerProcess;

pub use barrier::{Barrier, leave_barriers};
pub use binary_semaphore::BinarySemaphore;
pub use bytemuck::Pod;
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, OwnerLock, RLock};
pub use mutex::{Mutex, MutexGuard};
pub use procession_sys::mutex::Acquired;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::Semaphore;

use crate::spin::Spin;

/// A synchronization primitive: a place in an arena, by which it travels to another process.
pub trait Primitive: Sized {
    /// Returns the arena's memfd.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Returns the place in the arena. The caller may send it to another process, so no other
    /// primitive ever gets this place.
    fn offset(&self) -> u64;

    /// Opens the primitive at that place.
    ///
    /// # Errors
    ///
    /// `InvalidData` if there is none of this kind.
    fn attach(fd: OwnedFd, offset: u64) -> io::Result<Self>;
}

/// Why an operation was refused.
#[derive(Debug)]
pub enum Refused {
    /// The deadline came first.
    TimedOut,
    /// The calling thread holds the lock already, and would wait for itself.
    Deadlock,
    /// It was released more often than acquired.
    Overflow,
    /// There are too many waiters.
    Full {
        /// The most waiters.
        most: usize,
    },
    /// The barrier is broken.
    Broken,
    /// The system refuses, or shared memory is damaged.
    Os(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Deadlock => Refused::Deadlock,
            _ => Refused::Os(error),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::TimedOut => f.write_str("the time given ran out"),
            Refused::Deadlock => f.write_str("this thread holds it already, and would wait for itself"),
            Refused::Overflow => f.write_str("it was released more often than it was acquired"),
            Refused::Full { most } => write!(f, "{most} wait already, which is as many as can"),
            Refused::Broken => f.write_str("the barrier is broken"),
            Refused::Os(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// Returns what waiters do before they sleep. At least one process waits and one wakes.
fn spin() -> &'static Spin {
    static SPIN: PerProcess<Spin> = PerProcess::new(|| Spin::new(2));
    SPIN.get()
}
