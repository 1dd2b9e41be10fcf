//! Tasks that are to end before they are done: out of time, or cancelled. A task is condemned first, by the word that its
//! worker would finish it with, and only then its worker is killed; so the kill hits that task or none.
//!
//! Time limits are looked after in the pool's thread, at its tick; a cancel runs in the thread that asks for it. A job that
//! fails fast is withdrawn by the thread that comes upon its first error, once that holds no lock.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use procession_shm::{Overwritten, ParentHead, Sight};
use procession_sys::Signal;

use super::Shared;
use super::job::Job;
use crate::{Error, Result};

/// Why a worker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// Its task ran longer than it was given.
    Timeout,
    /// Its task is wanted no more.
    Cancelled,
}

impl Shared {
    /// Ends workers whose task runs longer than it was given.
    pub(super) fn enforce_timeouts(&self) {
        for (slot, seen) in self.look().into_iter().enumerate() {
            let Some((sight, since)) = seen else { continue };
            let timeout = self.job(sight.job).and_then(|job| job.terms.timeout);
            if timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                self.condemn(slot, sight, Cause::Timeout);
            }
        }
    }

    /// Ends a job without the results that are missing: what is queued does not begin, what runs is ended with its worker.
    /// `false`: it was finished before.
    pub(super) fn cancel(&self, job: &Arc<Job>) -> Result<bool> {
        if !job.fail(&Arc::new(Error::Cancelled)) {
            return Ok(false);
        }
        self.retire(job);
        self.withdraw(job.id)?;
        for slot in 0..self.control.slots() {
            if let Some(sight) = self.control.slot(slot).running().look().filter(|sight| sight.job == job.id) {
                self.condemn(slot, sight, Cause::Cancelled);
            }
        }
        Ok(true)
    }

    /// Notes that a job has ended though tasks of it are queued. Under any lock.
    pub(super) fn abandon(&self, job: u64) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        self.has_abandoned.store(true, Ordering::SeqCst);
    }

    /// Withdraws the jobs that were abandoned. Under no lock.
    pub(super) fn withdraw_abandoned(&self) {
        if !self.has_abandoned.load(Ordering::SeqCst) {
            return;
        }
        self.has_abandoned.store(false, Ordering::SeqCst);
        let jobs = mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        for job in jobs {
            if let Err(error) = self.withdraw(job) {
                self.break_down(&mut self.workers(), error);
            }
        }
    }

    /// Lets no task begin of a job that is off the table, now or as soon as the ring can be had. One that runs goes on.
    fn withdraw(&self, job: u64) -> Result<()> {
        if self.is_overwritten() {
            return Ok(());
        }
        let beginning = job.to_le_bytes();
        let _carrying = self.carry();
        let (frames, keep) = {
            let Some(ring) = self.lock_ring() else {
                self.abandon(job);
                return Ok(());
            };
            match self.take_all_back(ring, beginning) {
                Ok(taken) => taken,
                Err((overwritten, slot)) => {
                    self.end_overwritten(overwritten, slot);
                    return Ok(());
                }
            }
        };
        self.requeue(frames)?;
        for (slot, begun) in keep.into_iter().enumerate() {
            if begun.is_none_or(|begun| self.job(u64::from_le_bytes(begun)).is_some()) {
                self.control.slot(slot).running().stop(job);
            }
        }
        Ok(())
    }

    /// Has no frame that begins so be claimed any more. Gives what workers have claimed and not begun, and of each slot that is in
    /// the middle of a frame of another job what that begins with: the job may have been withdrawn too, and slots are told that of
    /// one job at a time.
    #[allow(clippy::type_complexity, reason = "two lists and what may be wrong")]
    fn take_all_back(
        &self,
        mut ring: ParentHead<'_>,
        beginning: [u8; 8],
    ) -> Result<(Vec<Vec<u8>>, Vec<Option<[u8; 8]>>), (Overwritten, Option<usize>)> {
        let (mut frames, mut keep) = (Vec::new(), Vec::new());
        ring.void(beginning).map_err(|overwritten| (overwritten, None))?;
        let longest = self.control.tasks().longest();
        for index in 0..self.control.slots() {
            let (slot, of_slot) = (self.control.slot(index), |overwritten| (overwritten, Some(index)));
            frames.extend(ring.take_back(slot).map_err(of_slot)?);
            keep.push(slot.begins_with(longest).map_err(of_slot)?.filter(|begun| *begun != beginning));
        }
        Ok((frames, keep))
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
