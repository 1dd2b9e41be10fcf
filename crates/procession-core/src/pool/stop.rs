//! Tasks that are stopped before they are done: out of time, or cancelled. The word by which a
//! worker would finish its task is changed first, and only then its worker is killed; so the kill
//! hits that task or none.
//!
//! The pool's thread looks after time limits, at its tick; a cancel runs in the thread that asks
//! for it. The thread that comes upon the first error of a job that fails fast withdraws the job.

use std::collections::HashSet;
use std::sync::Arc;

use super::crew::Cause;
use super::job::Job;
use super::shared::Shared;
use super::table::Ended;
use crate::Error;

impl Shared {
    /// Stops tasks that run longer than their timeout.
    pub(super) fn enforce_timeouts(&self) {
        for (slot, seen) in self.crew.look(&self.control).into_iter().enumerate() {
            let Some((snapshot, since)) = seen else { continue };
            let timeout = self.table.get(snapshot.job).and_then(|job| job.terms.timeout);
            if timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                self.crew.stop_task(&self.control, slot, snapshot, Cause::Timeout);
            }
        }
    }

    /// Ends a job without the results that are missing: what is queued does not begin, what runs is
    /// stopped. `false`: it was finished before.
    pub(super) fn cancel(&self, job: &Arc<Job>) -> bool {
        let Some(ended) = self.table.fail(job, Error::Cancelled) else { return false };
        self.end_job(ended);
        if !self.stop_running(&HashSet::from([job.id])) {
            self.poke();
        }
        true
    }

    /// As [`cancel`](Self::cancel), but it leaves to the pool's thread what takes a walk through
    /// the ring. That thread makes one walk for all jobs that were given up meanwhile.
    pub(super) fn abandon(&self, job: &Arc<Job>) {
        let Some(ended) = self.table.fail(job, Error::Cancelled) else { return };
        if ended.has_tasks {
            self.backlog.add_withdrawal(job.id, true);
        }
        self.end_job(Ended { has_tasks: false, ..ended });
        self.poke();
    }

    /// Stops the tasks of these jobs that run. Returns `false` if some are left to the pool's
    /// thread, which tries again at its ticks.
    pub(super) fn stop_running(&self, jobs: &HashSet<u64>) -> bool {
        let mut is_done = true;
        if self.lifecycle.is_overwritten() {
            return is_done;
        }
        for slot in 0..self.control.slots() {
            let seen = self.control.slot(slot).running().look();
            if let Some(snapshot) = seen.filter(|snapshot| jobs.contains(&snapshot.job))
                && !self.crew.stop_task(&self.control, slot, snapshot, Cause::Cancelled)
            {
                self.backlog.add_withdrawal(snapshot.job, true);
                is_done = false;
            }
        }
        is_done
    }
}
