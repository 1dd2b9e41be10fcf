//! Tasks that are to end before they are done: out of time, or cancelled. A task is condemned first, by the word that its
//! worker would finish it with, and only then its worker is killed; so the kill hits that task or none.
//!
//! Time limits are looked after in the pool's thread, at its tick; a cancel runs in the thread that asks for it.

use std::time::Instant;

use procession_shm::Sight;
use procession_sys::Signal;

use super::Shared;

/// Why a worker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Its task ran longer than it was given.
    Timeout,
    /// Its task is wanted no more.
    Cancelled,
}

impl Shared {
    /// Ends workers whose task runs longer than it was given. `seen`: what each ran at the last look, and since when.
    pub(super) fn enforce_timeouts(&self, seen: &mut [Option<(Sight, Instant)>]) {
        for (slot, seen) in seen.iter_mut().enumerate() {
            let now = self.control.slot(slot).running().look();
            match (&seen, now) {
                (Some((before, since)), Some(sight)) if *before == sight => {
                    let timeout = self.job(sight.job).and_then(|job| job.terms.timeout);
                    if timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                        self.condemn(slot, sight, Cause::Timeout);
                    }
                }
                _ => *seen = now.map(|sight| (sight, Instant::now())),
            }
        }
    }

    /// Ends the workers that run a task of this job, and lets none begin another.
    pub(super) fn stop(&self, job: u64) {
        for slot in 0..self.control.slots() {
            let running = self.control.slot(slot).running();
            running.stop(job);
            if let Some(sight) = running.look().filter(|sight| sight.job == job) {
                self.condemn(slot, sight, Cause::Cancelled);
            }
        }
    }

    fn condemn(&self, slot: usize, sight: Sight, cause: Cause) {
        let mut workers = self.workers();
        let Some(child) = workers.by_slot[slot].clone() else { return };
        if self.control.slot(slot).running().condemn(sight) {
            workers.condemned[slot] = Some(cause);
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }
}
