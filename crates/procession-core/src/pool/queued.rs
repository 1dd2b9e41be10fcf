//! Tasks that have not begun, and are given up without harm to those that run. Used in the thread
//! that asks.
//!
//! A job of one task is in exactly one place. That it has not begun is known where its frame is
//! found: in the ring, in what a worker has claimed and not begun, or in this process's hands. It
//! is looked for under the ring's lock, so no worker can begin it meanwhile. A job of several tasks
//! may have begun in part, and stays.

use std::collections::HashSet;

use super::Pool;
use super::job::Job;
use super::shared::Shared;
use super::table::Ended;
use crate::{Error, Result};

impl Pool {
    /// Gives up the jobs of one task that have not begun, as
    /// [`Handle::withdraw`](super::Handle::withdraw) does. How many these were.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child; if the shared memory cannot be used.
    pub fn cancel_queued(&self) -> Result<usize> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.cancel_queued(None)
    }
}

impl Shared {
    /// Returns whether a worker is at one of the job's tasks now.
    pub(super) fn is_running(&self, job: &Job) -> bool {
        let running = (0..self.control.slots()).filter_map(|slot| self.control.slot(slot).running().look());
        !job.is_finished() && running.map(|seen| seen.job).any(|id| id == job.id)
    }

    /// Gives up this job, or each, if it is of one task that has not begun. How many were given up:
    /// none while a worker that is stopped keeps the ring.
    pub(super) fn cancel_queued(&self, only: Option<&Job>) -> Result<usize> {
        if self.lifecycle.is_overwritten() {
            return Ok(0);
        }
        let single = |job: &Job| job.len == 1 && !job.is_finished();
        let wanted: HashSet<u64> = match only {
            Some(job) => single(job).then_some(job.id).into_iter().collect(),
            None => self.table.queued().iter().filter(|job| single(job)).map(|job| job.id).collect(),
        };
        if wanted.is_empty() {
            return Ok(0);
        }
        let _carrying = self.backlog.carry();
        let mut frames = self.backlog.take_frames();
        let found = self.take_queued(&wanted, &mut frames);
        let jobs = found.into_iter().filter_map(|id| self.table.get(id));
        let ended: Vec<_> = jobs.filter_map(|job| self.table.fail(&job, Error::Cancelled)).collect();
        // Without those of the jobs that are over.
        self.requeue(frames)?;
        let cancelled = ended.len();
        // Nothing of them is queued any more.
        self.end_jobs(ended.into_iter().map(|ended| Ended { has_tasks: false, ..ended }).collect());
        Ok(cancelled)
    }

    /// Has no worker get what is wanted and has not begun, and says what that is. `frames` takes
    /// what workers have claimed and not begun.
    fn take_queued(&self, wanted: &HashSet<u64>, frames: &mut Vec<Vec<u8>>) -> Vec<u64> {
        let mut found = Vec::new();
        {
            let Some(mut ring) = self.lock_ring() else { return found };
            let voided = ring.void_where(|beginning| {
                let id = u64::from_le_bytes(beginning);
                let is_wanted = wanted.contains(&id);
                found.extend(is_wanted.then_some(id));
                is_wanted
            });
            let mut ill = voided.err().map(|overwritten| (overwritten, None));
            for slot in 0..self.control.slots() {
                match ring.take_back(self.control.slot(slot)) {
                    Ok(taken) => frames.extend(taken),
                    Err(overwritten) => ill = Some((overwritten, Some(slot))),
                }
            }
            drop(ring);
            if let Some((overwritten, slot)) = ill {
                self.end_overwritten(overwritten, slot);
            }
        }
        let in_hand = frames.iter().filter_map(|frame| frame.first_chunk().copied().map(u64::from_le_bytes));
        found.extend(in_hand.filter(|id| wanted.contains(id)));
        found
    }
}
