//! The task that each worker runs, and since when, as the parent last saw it. In the parent, in any
//! thread.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procession_shm::{Control, Snapshot};

/// The task of each slot at the last look, and since when.
#[derive(Debug, Default)]
pub(super) struct RunningTasks(Mutex<Vec<Option<(Snapshot, Instant)>>>);

impl RunningTasks {
    /// Returns the task that each slot runs now, and since when as far as is known.
    pub(super) fn look(&self, control: &Control) -> Vec<Option<(Snapshot, Instant)>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.resize(control.slots(), None);
        for (slot, known) in known.iter_mut().enumerate() {
            let now = control.slot(slot).running().look();
            if known.map(|(snapshot, _)| snapshot) != now {
                *known = now.map(|snapshot| (snapshot, Instant::now()));
            }
        }
        known.clone()
    }
}
