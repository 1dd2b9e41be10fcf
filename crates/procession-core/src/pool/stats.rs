//! A snapshot of a pool's workers and tasks, taken by whichever thread asks. Workers write nothing
//! for it that they do not write anyway, and are not disturbed by it.

use std::sync::Arc;
use std::time::Instant;

use procession_shm::Snapshot;

use super::intake::Tally;
use super::memory::Memory;
use super::shared::Shared;
use crate::child::Child;

/// A pool at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The workers that are alive, by slot.
    pub workers: Vec<WorkerStats>,
    /// Tasks that have been submitted and have not begun.
    pub queued: usize,
    /// Tasks that returned a value.
    pub done: u64,
    /// Tasks that panicked, did not decode or encode, or ran out of their time.
    pub failed: u64,
    /// Tasks whose worker died, and that were not run again.
    pub lost: u64,
    /// Workers that were started in the place of others.
    pub respawns: u64,
}

/// A worker at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its process id.
    pub pid: u32,
    /// The task that it runs; `None`: nothing.
    pub running: Option<RunningTask>,
    /// Tasks that it has run.
    pub done: u64,
    /// Its resident memory, in bytes; `None` where `/proc` does not say, and on another machine.
    pub resident: Option<u64>,
}

/// A task that runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunningTask {
    /// The job's id: a handle on the job says the same.
    pub job: u64,
    /// The task's number in the job.
    pub index: usize,
    /// When the pool first saw it run: some 10 ms after its beginning at the latest, while the pool
    /// has tasks.
    pub since: Instant,
}

impl Shared {
    pub(super) fn stats(&self) -> Stats {
        self.drain();
        let running = self.crew.look(&self.control);
        let Tally { done, failed, lost } = self.intake.tally();
        let (roll, respawns) = self.crew.roll();
        let of = |(slot, child, begun_before): (usize, Arc<Child>, u64)| {
            let (pid, is_here) = (child.pid(), child.host().is_none());
            let running = running.get(slot).copied().flatten();
            let finished = self.control.slot(slot).running().begun().wrapping_sub(begun_before);
            WorkerStats {
                pid,
                running: running.map(|(snapshot, since)| RunningTask {
                    job: snapshot.job,
                    index: self.table.get(snapshot.job).map_or(0, |job| job.first_call(snapshot.index)),
                    since,
                }),
                done: finished.saturating_sub(running.is_some().into()),
                resident: is_here.then(|| Memory::of(pid).ok().map(|memory| memory.resident)).flatten(),
            }
        };
        let workers: Vec<_> = roll.into_iter().map(of).collect();
        let begun = |(snapshot, _): &(Snapshot, Instant)| {
            self.table.get(snapshot.job).map_or(0, |job| job.calls(snapshot.index, 1))
        };
        let begun: u64 = running.iter().flatten().map(begun).sum();
        let queued = self.table.remaining_calls().saturating_sub(begun) as usize;
        Stats { workers, queued, done, failed, lost, respawns }
    }
}
