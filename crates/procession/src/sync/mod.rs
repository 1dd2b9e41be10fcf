//! Synchronisation between processes: locks and their kin, as threads have them.
//!
//! | | for | when a process is killed |
//! |---|---|---|
//! | [`Lock`], [`RLock`] | one at a time | the next to lock is told ([`LockError`]), and can recover it |
//! | [`Mutex`], [`RwLock`] | a plain value that all share | the same |
//! | [`Semaphore`], [`BoundedSemaphore`] | so many at a time | a permit that it had is gone |
//! | [`Condition`] | to be notified | it is not waited for; what it was notified of goes to the next |
//! | [`Event`] | a flag to wait for | nothing |
//! | [`Barrier`] | a number of parties that wait for each other | it breaks, and the others are told |
//!
//! Each travels to a child as (part of) the argument of a process, of a pool's task or initializer,
//! or over a connection; under fork a closure may just capture it. Clones are the same one. Threads
//! of one process may use them too. They are 64 bytes and more (128 on aarch64) of shared memory
//! that many have in common, with no name and no file descriptor each.
//!
//! A wait that times out loses nothing, and the call can be made again. Only a [`Barrier`] breaks,
//! as in Python.
//!
//! A guard belongs to the thread that locked. A child that is forked while a guard is held has a
//! copy of it and not the lock: the copy cannot be used.

mod barrier;
mod condition;
mod event;
mod lock;
mod lock_error;
mod mutex;
mod rwlock;
mod semaphore;

use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::sync::Primitive;
use procession_core::{handle, sync as engine};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

pub use barrier::{Barrier, BarrierWaitResult};
pub use bytemuck::Pod;
pub use condition::Condition;
pub use event::Event;
pub use lock::{Lock, LockGuard, OwnerGuard, OwnerLock, RLock, RLockGuard};
pub use lock_error::LockError;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{BoundedSemaphore, Permits, Semaphore};

/// Encodes where a primitive is; possible on its way to a child only.
fn give<S: Serializer>(primitive: &impl Primitive, what: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let index = handle::send_fd(primitive.fd(), what).map_err(S::Error::custom)?;
    (index, primitive.offset()).serialize(serializer)
}

/// Decodes what [`give`] encoded.
fn take<'de, P: Primitive, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<Arc<P>, D::Error> {
    let (index, offset) = <(u32, u64)>::deserialize(deserializer)?;
    let fd = handle::receive_fd(index, what).map_err(D::Error::custom)?;
    let primitive = engine::attach(fd, offset, what).map_err(|error| {
        handle::refuse(&error.to_string());
        D::Error::custom(error)
    })?;
    Ok(Arc::new(primitive))
}

/// `None`, for ever, where the clock does not reach.
fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Implements what all have: they are cloned, shown and sent as handles.
macro_rules! travels {
    ($name:ident, $what:literal) => {
        $crate::sync::travels!(@ $name [] [] $what);
    };
    ($name:ident<$value:ident>, $what:literal) => {
        $crate::sync::travels!(@ $name [$value: $crate::sync::Pod] [$value] $what);
    };
    ($name:ident<const $kind:ident: $type:ty>, $what:expr) => {
        $crate::sync::travels!(@ $name [const $kind: $type] [$kind] $what);
    };
    (@ $name:ident [$($parameters:tt)*] [$($arguments:tt)*] $what:expr) => {
        impl<$($parameters)*> Clone for $name<$($arguments)*> {
            /// The same one.
            fn clone(&self) -> Self {
                $name { engine: self.engine.clone() }
            }
        }

        /// Only on its way to a child; anywhere else the error says what to do.
        impl<$($parameters)*> serde_core::Serialize for $name<$($arguments)*> {
            fn serialize<S: serde_core::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::sync::give(&*self.engine, $what, serializer)
            }
        }

        impl<'de, $($parameters)*> serde_core::Deserialize<'de> for $name<$($arguments)*> {
            fn deserialize<D: serde_core::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok($name { engine: $crate::sync::take($what, deserializer)? })
            }
        }
    };
}
use travels;
