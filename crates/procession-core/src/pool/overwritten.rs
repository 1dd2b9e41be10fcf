//! What native code of a task may do to the pool's shared memory, and how the parent outlives it. Whatever the parent reads there
//! it checks where it reads it; here is what it looks for at each tick, and what it does once it has found something: it ends
//! the pool. Workers are killed, since they may be in loops over such numbers, and every task that is left has the error.
//!
//! | overwritten | found by |
//! |---|---|
//! | what only the parent writes | [`Shared::check_shared`], which has the parent's own copy |
//! | where shared memory lies, and how much of it is given out | whoever maps or lengthens a part of it; the pool's thread, now and then |
//! | what a worker writes | whoever reads it; a lock that names nobody, [`Shared::check_shared`] |
//! | frames, or where they are | the worker that reads them, which says so in its slot |
//! | anything by which a task gets lost | [`Shared::check_for_lost_tasks`] |
//!
//! What is overwritten by numbers that make sense is not found: one result for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procession_shm::{Holder, Overwritten};

use super::Shared;
use super::job::Job;
use super::workers::Workers;
use crate::Error;

/// A thread of the parent has frames in its own hands, or is about to.
pub(super) struct Carrying<'a>(&'a AtomicUsize);

impl Drop for Carrying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Ends the pool. `slot`: the one whose words they were. Under no lock.
    pub(super) fn end_overwritten(&self, overwritten: Overwritten, slot: Option<usize>) {
        let mut workers = self.workers();
        let error = error_of(&workers, overwritten, slot);
        self.break_down(&mut workers, error);
    }

    /// Whether the pool has ended so: nothing in its shared memory is read any more.
    pub(super) fn is_overwritten(&self) -> bool {
        self.broken.get().is_some_and(|error| matches!(**error, Error::Overwritten { .. }))
    }

    /// From now on until it is dropped.
    pub(super) fn carry(&self) -> Carrying<'_> {
        self.carrying.fetch_add(1, Ordering::SeqCst);
        Carrying(&self.carrying)
    }

    /// In the pool's thread, at each tick: looks at what no reading comes upon.
    pub(super) fn check_shared(&self) {
        let mut workers = self.workers();
        if let Err((overwritten, slot)) = self.look_over(&workers) {
            let error = error_of(&workers, overwritten, slot);
            self.break_down(&mut workers, error);
        }
    }

    fn look_over(&self, workers: &Workers) -> Result<(), (Overwritten, Option<usize>)> {
        let anybody = |overwritten| (overwritten, None);
        self.control.check().map_err(anybody)?;
        let holder = self.control.tasks().holder(self.control.slots()).map_err(anybody)?;
        if let Some(Holder::Worker(slot)) = holder
            && workers.is_vacant(slot as usize)
        {
            return Err(anybody(Overwritten("the lock of the task ring")));
        }
        for (slot, _) in workers.alive() {
            self.control.slot(slot).check().map_err(|overwritten| (overwritten, Some(slot)))?;
        }
        Ok(())
    }

    /// In the pool's thread, at each tick while there are tasks: if they are in no place where a task can be, they will never be
    /// done.
    pub(super) fn check_for_lost_tasks(&self) {
        if !self.are_all_idle() {
            return;
        }
        // Those that were whole in the ring before the look at where they are.
        let jobs: Vec<Arc<Job>> = self.jobs().iter().filter(|job| job.is_queued()).cloned().collect();
        if jobs.is_empty() || !self.is_nothing_underway() {
            return;
        }
        let pushed = self.control.tasks().pushed();
        {
            // Under the lock no claim is half made.
            let Some(_ring) = self.lock_ring() else { return };
            if !self.are_all_idle() {
                return;
            }
        }
        if !self.is_nothing_underway() || self.control.tasks().pushed() != pushed {
            return;
        }
        // Whatever was finished by then is in the streams.
        self.drain();
        if jobs.iter().any(|job| !job.is_finished() && job.remaining() > 0) {
            self.end_overwritten(Overwritten("the record of which tasks are queued or claimed"), None);
        }
    }

    /// Whether no task is queued, and no worker has any in hand.
    fn are_all_idle(&self) -> bool {
        let mut slots = (0..self.control.slots()).map(|slot| self.control.slot(slot));
        self.control.tasks().is_empty() == Ok(true) && slots.all(|slot| slot.has_nothing())
    }

    /// Whether no thread of the parent has frames, and none will have of what is in the ring or with workers now.
    fn is_nothing_underway(&self) -> bool {
        self.carrying.load(Ordering::SeqCst) == 0 && !self.postponed().has_tasks() && self.events().deaths.is_empty()
    }
}

pub(super) fn error_of(workers: &Workers, Overwritten(what): Overwritten, slot: Option<usize>) -> Error {
    let pid = slot.and_then(|slot| Some(workers.by_slot[slot].as_ref()?.pid()));
    Error::Overwritten { what, pid }
}
