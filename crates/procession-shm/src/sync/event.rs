//! An event is a flag that any process sets, clears and waits for. A set wakes all waiters, even if
//! the flag is cleared at once: the word counts the sets.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **set** 1. the word := next set, flag; **commit** | the event, set; a sleeper looks by itself |
//! | 2. wake all | nothing |
//! | **clear** 1. the word := the same set, no flag; **commit** | the event, clear |
//!
//! Nobody waits for a waiter, so a dead one costs nothing.

use std::io;
use std::time::Instant;

use super::arena::{self, Cell, Handle, Head, Held};
use super::spin;
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::Words;

const FLAG: u32 = 1;
const NEXT: u32 = 2;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct EventCell {
    head: Head,
    /// The number of times that it was set, modulo 2^31, and whether it is set now.
    sets: AtomicU32,
    waiters: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for EventCell {}

impl Cell for EventCell {
    const KIND: u32 = 7;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(_: u32) -> Option<usize> {
        Some(size_of::<Self>())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Event {
    cell: Held<EventCell>,
}

impl Event {
    /// Makes an event that is clear.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create() -> io::Result<Event> {
        Ok(Event { cell: arena::make::<EventCell>(0, |_| Ok(()))? })
    }

    /// Sets it, and wakes all waiters.
    pub fn set(&self) {
        let set = |sets: u32| (sets & FLAG == 0).then(|| sets.wrapping_add(NEXT) | FLAG);
        if self.cell.sets.fetch_update(Ordering::AcqRel, Ordering::Acquire, set).is_ok() {
            point(Step::EventSet);
        }
        // Also if it was set, because the process that set it may have died before it woke anybody.
        self.cell.waiters.wake(u32::MAX >> 1);
    }

    /// Clears it.
    pub fn clear(&self) {
        self.cell.sets.fetch_and(!FLAG, Ordering::AcqRel);
    }

    /// Returns whether it is set.
    pub fn is_set(&self) -> bool {
        self.cell.sets.load(Ordering::Acquire) & FLAG != 0
    }

    /// Waits until it is set, or was set since the call. Returns `false` if the deadline came
    /// first.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let sets = || self.cell.sets.load(Ordering::Acquire);
        let before = sets();
        before & FLAG != 0 || self.cell.waiters.wait_until(deadline, spin(), || sets() != before)
    }
}

impl Handle for Event {
    type Cell = EventCell;

    fn cell(&self) -> &Held<EventCell> {
        &self.cell
    }

    fn at(cell: Held<EventCell>) -> io::Result<Self> {
        Ok(Event { cell })
    }
}
