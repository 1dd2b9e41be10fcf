//! A semaphore is a number of permits, which any process acquires and releases. A permit is bound
//! to nobody, so a process that is killed with one takes it along. Where that must not happen, use
//! a lock.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **acquire** 1. one permit less | a permit that is gone |
//! | **release** 1. one permit more | the permit; a waiter looks by itself |
//! | 2. wake one | nothing |

use std::io;
use std::time::Instant;

use super::arena::{self, Cell, Handle, Head, Held};
use super::{Refused, spin};
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::Words;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SemaphoreCell {
    /// Its measure is the most permits.
    head: Head,
    permits: AtomicU32,
    waiters: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for SemaphoreCell {}

impl Cell for SemaphoreCell {
    const KIND: u32 = 5;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(_: u32) -> Option<usize> {
        Some(size_of::<Self>())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Semaphore {
    cell: Held<SemaphoreCell>,
}

impl Semaphore {
    /// The most permits of a semaphore.
    pub const MAX_PERMITS: u32 = u32::MAX >> 1;

    /// Makes a semaphore with this many permits, and never more than `most`.
    ///
    /// # Errors
    ///
    /// If the system refuses; `InvalidInput` for more permits than there may be.
    pub fn create(permits: u32, most: u32) -> io::Result<Semaphore> {
        if permits > most || most > Self::MAX_PERMITS {
            let text = format!("a semaphore of {permits} permits of {most}: it may have up to {}", Self::MAX_PERMITS);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let cell = arena::make::<SemaphoreCell>(most, |cell| {
            cell.permits.store(permits, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Semaphore { cell })
    }

    /// Takes a permit. Waits for one until the deadline.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`].
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        let is_taken = self.try_acquire() || self.cell.waiters.wait_until(deadline, spin(), || self.try_acquire());
        if is_taken { Ok(()) } else { Err(Refused::TimedOut) }
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> bool {
        let taken =
            self.cell.permits.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |permits| permits.checked_sub(1));
        if taken.is_ok() {
            point(Step::SemaphoreTaken);
        }
        taken.is_ok()
    }

    /// Adds `count` permits, whether or not they were acquired before.
    ///
    /// # Errors
    ///
    /// [`Refused::Overflow`] if that is more than the semaphore may have; then it adds none.
    pub fn release(&self, count: u32) -> Result<(), Refused> {
        let most = self.cell.head.measure.load(Ordering::Relaxed);
        let more = |permits: u32| permits.checked_add(count).filter(|permits| *permits <= most);
        self.cell.permits.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).map_err(|_| Refused::Overflow)?;
        point(Step::SemaphoreReleased);
        self.cell.waiters.wake(count);
        Ok(())
    }

    /// Returns how many permits there are now.
    pub fn value(&self) -> u32 {
        self.cell.permits.load(Ordering::Acquire)
    }
}

impl Handle for Semaphore {
    type Cell = SemaphoreCell;

    fn cell(&self) -> &Held<SemaphoreCell> {
        &self.cell
    }

    fn at(cell: Held<SemaphoreCell>) -> io::Result<Self> {
        Ok(Semaphore { cell })
    }
}
