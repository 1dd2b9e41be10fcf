//! Native code of a task can overwrite the pool's shared memory. This module keeps the parent alive
//! when that happens. The parent checks each word when it reads it. At each tick it also looks for
//! damage, and ends the pool once it has found some. Workers are killed, since they may be in loops
//! over such numbers, and every task that is left has the error.
//!
//! | overwritten | found by |
//! |---|---|
//! | what only the parent writes | [`Shared::check_shared`], which has the parent's own copy |
//! | where shared memory lies, and how much of it is given out | whoever maps or lengthens a part of it; the pool's thread, now and then |
//! | what a worker writes | whoever reads it; a lock that names nobody, [`Shared::check_shared`] |
//! | frames, or where they are | the worker that reads them, which says so in its slot |
//! | anything by which a task gets lost | [`Shared::check_for_lost_tasks`] |
//!
//! Damage that makes sense is not found, such as one result in the place of another.

use std::sync::Arc;

use procession_shm::{Holder, Overwritten};

use super::job::Job;
use super::shared::Shared;

impl Shared {
    /// In the pool's thread, at each tick: looks at what no reading comes upon.
    pub(super) fn check_shared(&self) {
        if let Err((overwritten, slot)) = self.look_over() {
            self.end_overwritten(overwritten, slot);
        }
    }

    fn look_over(&self) -> Result<(), (Overwritten, Option<usize>)> {
        let anybody = |overwritten| (overwritten, None);
        self.control.check().map_err(anybody)?;
        let holder = self.control.tasks().holder(self.control.slots()).map_err(anybody)?;
        if let Some(Holder::Worker(slot)) = holder
            && self.crew.is_slot_empty(slot as usize)
        {
            return Err(anybody(Overwritten("the lock of the task ring")));
        }
        for (slot, _) in self.crew.serving() {
            self.control.slot(slot).check().map_err(|overwritten| (overwritten, Some(slot)))?;
        }
        Ok(())
    }

    /// In the pool's thread, at each tick while there are tasks: if they are in no place where a
    /// task can be, they will never be done.
    pub(super) fn check_for_lost_tasks(&self) {
        if !self.are_all_idle() {
            return;
        }
        // Those that were whole in the ring before the look at where they are.
        let jobs: Vec<Arc<Job>> = self.table.queued();
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
        // The results of tasks that had finished by then are in the streams.
        self.drain();
        if jobs.iter().any(|job| !job.is_finished() && job.remaining() > 0) {
            self.end_overwritten(Overwritten("the record of which tasks are queued or claimed"), None);
        }
    }

    /// Returns whether no task is queued, and no worker has any in hand.
    fn are_all_idle(&self) -> bool {
        let mut slots = (0..self.control.slots()).map(|slot| self.control.slot(slot));
        self.control.tasks().is_empty() == Ok(true) && slots.all(|slot| slot.has_nothing())
    }

    /// Returns whether no thread of the parent has frames, and none will have any of those that are
    /// in the ring or with workers now.
    fn is_nothing_underway(&self) -> bool {
        self.backlog.is_nobody_carrying() && !self.backlog.has_tasks() && !self.mail.has_deaths()
    }
}
