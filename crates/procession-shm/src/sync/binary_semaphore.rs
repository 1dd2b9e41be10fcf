//! One permit, bound to the process that has it, and released by any process: the lock of Python's
//! `multiprocessing`, which another process or thread may release. That rules out a robust mutex.
//! So the word names the owner, and waiters look now and then whether it lives.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **acquire** 1. the word: 0 := this process, **commit** | the name of a dead process, which the next waiter that looks takes over |
//! | **release** 1. the word := 0, **commit** | a sleeper looks by itself |
//! | 2. wake one | nothing |
//! | **taking over** 1. the word: the dead one := this process, **commit** | as after acquire |
//!
//! A waiter takes over by one compare-and-swap from the very process that it found dead, start time
//! and all. A dead process acquires nothing, so its name is there only if nobody else has released
//! or taken the permit meanwhile.

use std::cell::Cell as Local;
use std::io;
use std::time::{Duration, Instant};

use procession_sys::identity::Identity;

use super::arena::{self, Cell, Handle, Head, Held};
use super::{Refused, spin};
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::Words;

/// The time after which a waiter looks at the owner, and after which it looks again. The gate wakes
/// a sleeper for it.
const LOOK: Duration = Duration::from_millis(150);

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BinaryCell {
    head: Head,
    /// [`Identity`] of the process that has it; 0 if none has.
    owner: AtomicU64,
    waiters: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for BinaryCell {}

impl Cell for BinaryCell {
    const KIND: u32 = 6;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(_: u32) -> Option<usize> {
        Some(size_of::<Self>())
    }
}

/// See the module.
#[derive(Debug)]
pub struct BinarySemaphore {
    cell: Held<BinaryCell>,
}

impl BinarySemaphore {
    /// Makes a semaphore that nobody has.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create() -> io::Result<BinarySemaphore> {
        Ok(BinarySemaphore { cell: arena::make::<BinaryCell>(0, |_| Ok(()))? })
    }

    /// Takes the permit. Waits until the deadline, or until the owner is found dead. If the owner
    /// was dead, returns that process, once.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`], only if the owner is alive at the end.
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<Option<Identity>, Refused> {
        if self.replace(0) {
            return Ok(None);
        }
        let (looked, took_over) = (Local::new(Instant::now()), Local::new(None));
        let is_had = || {
            if self.replace(0) {
                return true;
            }
            if looked.get().elapsed() >= LOOK {
                took_over.set(self.take_over());
                looked.set(Instant::now());
            }
            took_over.get().is_some()
        };
        if self.cell.waiters.wait_until(deadline, spin(), is_had) {
            return Ok(took_over.get());
        }
        self.try_acquire().ok_or(Refused::TimedOut)
    }

    /// Takes the permit if no living process has it, and returns the process that died with it. A
    /// failure costs a look at the owner, some microseconds.
    pub fn try_acquire(&self) -> Option<Option<Identity>> {
        if self.replace(0) { Some(None) } else { self.take_over().map(Some) }
    }

    /// Takes the permit if no process has it, alive or dead.
    #[inline]
    pub fn try_acquire_free(&self) -> bool {
        self.cell.owner.load(Ordering::Relaxed) == 0 && self.replace(0)
    }

    /// Releases the permit, whichever process has it.
    ///
    /// # Errors
    ///
    /// [`Refused::Overflow`] if nobody has it.
    pub fn release(&self) -> Result<(), Refused> {
        if self.cell.owner.swap(0, Ordering::AcqRel) == 0 {
            return Err(Refused::Overflow);
        }
        point(Step::BinaryReleased);
        self.cell.waiters.wake(1);
        Ok(())
    }

    /// Returns the process that has it.
    pub fn owner(&self) -> Option<Identity> {
        Identity::from_word(self.cell.owner.load(Ordering::Acquire))
    }

    fn take_over(&self) -> Option<Identity> {
        let dead = self.owner().filter(|owner| *owner != Identity::of_self() && owner.has_ended());
        dead.filter(|dead| self.replace(dead.to_word()))
    }

    #[inline]
    fn replace(&self, owner: u64) -> bool {
        let own = Identity::of_self().to_word();
        let taken = self.cell.owner.compare_exchange(owner, own, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if taken {
            point(Step::BinaryTaken);
        }
        taken
    }
}

impl Handle for BinarySemaphore {
    type Cell = BinaryCell;

    fn cell(&self) -> &Held<BinaryCell> {
        &self.cell
    }

    fn at(cell: Held<BinaryCell>) -> io::Result<Self> {
        Ok(BinarySemaphore { cell })
    }
}
