//! Synchronisation between processes: what every process that has a handle may lock, take, set or
//! wait for. Used through the faces, in any process and any thread of it; each is a cell of an
//! [`arena`], which many share.
//!
//! | room | what it is | when its owner, or who waits, is killed |
//! |---|---|---|
//! | [`Lock`], [`RLock`] | bound to the thread that locked it | the next to lock is told, and every next until one recovers it |
//! | [`Mutex`] | a lock with a plain value behind it | the same |
//! | [`RwLock`] | the same for many readers or one writer | the same for a writer; of a reader nothing is left |
//! | [`Semaphore`] | permits, bound to nobody | a dead holder's permit is gone |
//! | [`BinarySemaphore`] | one permit, bound to a process, given back by anybody | who waits takes it over and is told |
//! | [`Condition`] | waiters in seats, notified in their order | its seat is free; a notification it was given goes to the next |
//! | [`Event`] | a flag to wait for | nothing |
//! | [`Barrier`] | a number of parties that wait for each other | it breaks |
//!
//! # Guards that are forgotten, and forks
//!
//! A lock that is held is in its thread's list of robust mutexes, by address. A handle that is
//! dropped while a thread of this process holds its lock (whose guard was forgotten) therefore
//! leaves its arena mapped, for good. A forked child has copies of its parent's guards and holds
//! none of the locks: a copy that is dropped does nothing.

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

/// What every primitive is: a place in an arena, by which it travels to another process.
pub trait Primitive: Sized {
    /// The arena's memfd.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Where in the arena it is. Who asks may tell another process, so the place is never another
    /// primitive's from now on.
    fn offset(&self) -> u64;

    /// The one at that place.
    ///
    /// # Errors
    ///
    /// `InvalidData` if none of this kind is there.
    fn attach(fd: OwnedFd, offset: u64) -> io::Result<Self>;
}

/// Why something could not be done.
#[derive(Debug)]
pub enum Refused {
    /// The deadline came first.
    TimedOut,
    /// The calling thread holds it already, and would wait for itself.
    Deadlock,
    /// More was released than had been taken.
    Overflow,
    /// So many wait that there is no place for another.
    Full {
        /// How many can.
        most: usize,
    },
    /// The barrier is broken.
    Broken,
    /// The system refuses, or shared memory is beyond use.
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

/// What waiters do before they sleep: one taker and one giver are the least that there are.
fn spin() -> &'static Spin {
    static SPIN: PerProcess<Spin> = PerProcess::new(|| Spin::new(2));
    SPIN.get()
}
