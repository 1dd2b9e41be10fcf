//! Synchronisation between processes: the primitives of `procession_shm`, with the engine's errors.
//! Used in any process that has a handle, from any thread.
//!
//! A handle of any of them is an arena's fd and an offset: [`Primitive`]. [`BinarySemaphore`] is
//! for faces whose locks may be released by anybody.

use std::io;
use std::os::fd::{OwnedFd, RawFd};

pub use procession_shm::sync::{
    Acquired, Barrier, BinarySemaphore, Condition, Event, Lock, Mutex, MutexGuard, OwnerLock, Pod, Primitive, RLock,
    Refused, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, leave_barriers,
};

use procession_sys::descriptor;

use crate::{Error, Result};

/// A new one, or why there is none; `what` names it.
///
/// # Errors
///
/// [`Error::Invalid`] for what cannot be made; [`Error::Os`] if the system refuses.
pub fn made<P>(created: io::Result<P>, what: &str) -> Result<P> {
    created.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::Invalid(format!("cannot make a {what}: {error}")),
        _ => Error::os(format!("cannot make the shared memory of a new {what}"))(error),
    })
}

/// One that came as a handle.
///
/// # Errors
///
/// If there is none of its kind.
pub fn attach<P: Primitive>(fd: OwnedFd, offset: u64, what: &str) -> Result<P> {
    P::attach(fd, offset).map_err(Error::os(format!("cannot use a {what} that was sent here")))
}

/// As [`attach`], by the number of an arena's fd, which stays the caller's.
///
/// # Errors
///
/// As [`attach`].
pub fn attach_number<P: Primitive>(number: RawFd, offset: u64, what: &str) -> Result<P> {
    let fd = descriptor::duplicate(number).map_err(Error::os(format!("cannot use a {what} that was sent here")))?;
    attach(fd, offset, what)
}

/// Returns a function that turns the refusal by a `what` into an error for its user. `awaited`
/// names the event that a timeout preceded.
pub fn refused(what: &'static str, awaited: &'static str) -> impl Fn(Refused) -> Error {
    move |refused| match refused {
        Refused::TimedOut => Error::Timeout { what: awaited },
        Refused::Deadlock => Error::Invalid(format!(
            "this thread holds the {what} already, and would wait for itself: drop the guard first, or use an RLock"
        )),
        Refused::Overflow => Error::Invalid(format!(
            "the {what} was released more often than it was acquired: release what was acquired only"
        )),
        Refused::Full { most } => {
            Error::Invalid(format!("{most} wait at the {what} already, which is as many as can: use several"))
        }
        Refused::Broken => Error::BarrierBroken,
        Refused::Os(error) => Error::os(format!("cannot use a {what}"))(error),
    }
}
