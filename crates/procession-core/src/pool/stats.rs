//! What a pool is doing: a snapshot, taken by whichever thread asks. Workers write nothing for it that they do not write
//! anyway, and are not disturbed by it.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use procession_shm::Sight;

use super::Shared;
use super::memory::Memory;
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
    /// What it runs; `None`: nothing.
    pub running: Option<RunningTask>,
    /// Tasks that it has run.
    pub done: u64,
    /// Its resident memory, in bytes; `None` where `/proc` does not say.
    pub resident: Option<u64>,
}

/// A task that runs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunningTask {
    /// The job's id: a handle on the job says the same.
    pub job: u64,
    /// Which of the job's tasks.
    pub index: usize,
    /// When the pool first saw it run: some 10 ms after its beginning at the latest, while the pool has tasks.
    pub since: Instant,
}

/// What each slot ran at the last look, and since when.
pub(super) type Sights = Vec<Option<(Sight, Instant)>>;

/// Results that a stream has brought.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
}

impl Shared {
    pub(super) fn stats(&self) -> Stats {
        self.drain();
        let sights = self.look();
        let mut tally = self.readers().iter().fold(Tally::default(), |sum, reader| sum.plus(reader.tally));
        let (workers, respawns) = {
            let workers = self.workers();
            tally = tally.plus(workers.tally);
            let of = |(slot, child): (usize, &Arc<Child>)| {
                let running = sights.get(slot).copied().flatten();
                let begun = self.control.slot(slot).running().begun();
                let finished = begun.wrapping_sub(workers.begun_before[slot]);
                WorkerStats {
                    pid: child.pid(),
                    running: running.map(|(sight, since)| RunningTask {
                        job: sight.job,
                        index: sight.index as usize,
                        since,
                    }),
                    done: finished.saturating_sub(running.is_some().into()),
                    resident: Memory::of(child.pid()).ok().map(|memory| memory.resident),
                }
            };
            (workers.alive().map(of).collect::<Vec<_>>(), workers.respawns)
        };
        let remaining: usize = self.jobs().iter().map(|job| job.remaining()).sum();
        let running = workers.iter().filter(|worker| worker.running.is_some()).count();
        let Tally { done, failed, lost } = tally;
        Stats { workers, queued: remaining.saturating_sub(running), done, failed, lost, respawns }
    }

    /// What each slot runs now, and since when as far as is known.
    pub(super) fn look(&self) -> Sights {
        let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        sights.resize(self.control.slots(), None);
        for (slot, known) in sights.iter_mut().enumerate() {
            let now = self.control.slot(slot).running().look();
            if known.map(|(sight, _)| sight) != now {
                *known = now.map(|sight| (sight, Instant::now()));
            }
        }
        sights.clone()
    }
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally { done: self.done + other.done, failed: self.failed + other.failed, lost: self.lost + other.lost }
    }
}
