//! The task that each worker runs, and since when, as the parent last saw it. In the parent, in any
//! thread.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::{Control, Snapshot};

use crate::observe::monotonic_nanos;

/// The task of each slot at the last look, and since when.
#[derive(Debug, Default)]
pub(super) struct RunningTasks(Mutex<Vec<Option<(Snapshot, Instant)>>>);

impl RunningTasks {
    /// Returns the task that each slot runs now, and since when as far as is known. One that a
    /// worker only prepares for does not run.
    pub(super) fn look(&self, control: &Control) -> Vec<Option<(Snapshot, Instant)>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.resize(control.slots(), None);
        for (slot, known) in known.iter_mut().enumerate() {
            let now = control.slot(slot).running().look().filter(|seen| !seen.prepares);
            if known.map(|(snapshot, _)| snapshot) != now {
                *known = now.map(|snapshot| (snapshot, Instant::now()));
                if let Some(snapshot) = now {
                    control.slot(slot).running().show(snapshot, monotonic_nanos());
                }
            }
        }
        known.clone()
    }
}

/// The processor time that each slot's worker had used when its task was first seen.
#[derive(Debug, Default)]
pub(super) struct CpuTimes(Mutex<Vec<Option<Seen>>>);

/// A task at the first look that found it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    task: Snapshot,
    pid: u32,
    used: Duration,
}

impl CpuTimes {
    /// Returns the processor time that the task has used since the first look at it. `now` is what
    /// its worker has used by now.
    pub(super) fn since(&self, slot: usize, task: Snapshot, pid: u32, now: Duration) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() <= slot {
            seen.resize(slot + 1, None);
        }
        match seen[slot] {
            Some(seen) if seen.task == task && seen.pid == pid => now.saturating_sub(seen.used),
            _ => {
                seen[slot] = Some(Seen { task, pid, used: now });
                Duration::ZERO
            }
        }
    }
}
