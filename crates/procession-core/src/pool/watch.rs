//! The watch on what tasks take: processor time and memory, which the kernel does not count for a
//! single task. In the pool's thread, at each tick while there are tasks, if the pool has such a
//! limit.
//!
//! A task that takes more is stopped as one that runs too long is: by the end of its worker, which
//! hits that task or none. So a worker's code cannot get around it.

use procession_shm::Snapshot;
use procession_sys::confine;

use super::crew::Cause;
use super::memory::Memory;
use super::shared::Shared;
use crate::child::Child;
use crate::confinement::{Limit, Limits};

impl Shared {
    /// Stops tasks that take more than they may.
    pub(super) fn enforce_limits(&self) {
        let limits = self.crew.limits();
        if !limits.is_watched() {
            return;
        }
        for (slot, worker) in self.crew.serving() {
            let Some(task) = self.control.slot(slot).running().look() else { continue };
            let Some(limit) = self.limit_passed(limits, slot, task, worker.pid()) else { continue };
            // Otherwise the numbers may be those of another process, which has its pid by now.
            if lives(&worker) {
                self.crew.stop_task(&self.control, slot, task, Cause::Limit(limit));
            }
        }
    }

    fn limit_passed(&self, limits: &Limits, slot: usize, task: Snapshot, pid: u32) -> Option<Limit> {
        // A worker of which nothing can be known any more has ended.
        if let Some(most) = limits.memory
            && Memory::of(pid).is_ok_and(|memory| memory.own() > most)
        {
            return Some(Limit::Memory(most));
        }
        let most = limits.cpu_time?;
        let now = confine::cpu_time(pid).ok()?;
        (self.crew.cpu_time_since(slot, task, pid, now) > most).then_some(Limit::CpuTime(most))
    }
}

fn lives(worker: &Child) -> bool {
    worker.end().is_none() && worker.pidfd().is_some_and(|pidfd| pidfd.has_ended().is_ok_and(|has_ended| !has_ended))
}
