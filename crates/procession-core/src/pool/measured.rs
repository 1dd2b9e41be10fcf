//! The moments at which a pool that measures reads its workers' meters. In the parent: in the
//! thread that finds a job or a worker ended, and in the one that asks.

use std::ops::Range;

use procession_shm::SlowCall;

use super::insights::Insights;
use super::job::Job;
use super::meters::Meters;
use super::shared::Shared;

/// Returns the index of the user's item that a call of a job is for.
fn index_in(job: &Job, call: &SlowCall) -> Option<usize> {
    job.first_call(call.task).checked_add(call.call as usize)
}

impl Shared {
    /// A worker is about to be started in this slot.
    pub(super) fn begin_meter(&self, slot: usize) {
        if let Some(meters) = self.crew.meters() {
            meters.begin(&self.control, slot);
        }
    }

    /// The worker could not be started.
    pub(super) fn withdraw_meter(&self, slot: usize) {
        if let Some(meters) = self.crew.meters() {
            meters.withdraw(slot);
        }
    }

    /// The slow calls of a job that is over.
    pub(super) fn collect_calls_of(&self, job: &Job) {
        if let Some(meters) = self.crew.meters() {
            let slots = 0..self.control.slots();
            meters.collect(&self.control, slots, |id| id == job.id, |call| index_in(job, call));
        }
    }

    /// The worker of a slot is dead.
    pub(super) fn end_meter(&self, slot: usize) {
        if let Some(meters) = self.crew.meters() {
            self.collect_calls(meters, slot..slot + 1);
            meters.end(&self.control, slot);
        }
    }

    /// Returns where the time went; `None` in a pool that does not measure.
    pub(super) fn insights(&self) -> Option<Insights> {
        let meters = self.crew.meters()?;
        self.drain();
        self.collect_calls(meters, 0..self.control.slots());
        Some(meters.show(&self.control))
    }

    fn collect_calls(&self, meters: &Meters, slots: Range<usize>) {
        let index_of = |call: &SlowCall| self.table.get(call.job).and_then(|job| index_in(&job, call));
        meters.collect(&self.control, slots, |_| true, index_of);
    }
}
