//! The task ring as the pool's parent reaches it. Work that must wait, because a worker holds one
//! of the ring's locks, goes into the [backlog](super::backlog). If the ring stays beyond reach the
//! pool's thread kills the worker that holds the lock, whose death the others are told of.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use procession_shm::{Holder, Overwritten, ParentHead, ParentTail, RingFull};

use super::frame::Header;
use super::shared::Shared;
use crate::{Error, Result};

/// The longest wait for the ring if the work can be postponed. A worker that runs holds the ring
/// for microseconds.
const BRIEFLY: Duration = Duration::from_millis(2);
/// The longest single wait of a submission, and the most such waits. A stop of this whole program
/// counts as one wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_LOOKS: usize = 100;

/// The frames that were taken back for a withdrawal.
struct TakenBack {
    /// Frames that workers had claimed and not begun.
    frames: Vec<Vec<u8>>,
    /// Of each slot the job of the frame that it began last.
    begun: Vec<Option<u64>>,
}

impl Shared {
    /// Locks the end of the ring where frames are taken. `None`: not now.
    pub(super) fn lock_ring(&self) -> Option<ParentHead<'_>> {
        self.control.tasks().lock_head_until(Instant::now() + BRIEFLY)
    }

    /// For a submission: runs `push` with the ring's other end locked, again if it says that the
    /// ring is busy.
    pub(super) fn push_to_ring(&self, mut push: impl FnMut(&mut ParentTail<'_>) -> Result<(), RingFull>) -> Result<()> {
        let ring = self.control.tasks();
        let mut pushed = push(&mut ring.lock_tail());
        let mut looks = 0;
        while matches!(pushed, Err(RingFull::Busy)) && looks < MAX_LOOKS {
            self.lifecycle.check_serving()?;
            if let Some(mut both) = ring.lock_both_until(Instant::now() + LOOK_INTERVAL) {
                pushed = push(&mut both);
            }
            looks += 1;
        }
        if let Err(RingFull::Overwritten(overwritten)) = &pushed {
            self.end_overwritten(*overwritten, None);
            self.lifecycle.check_serving()?;
        }
        pushed.map_err(ring_full)
    }

    /// Puts frames that were claimed and never begun back into the ring; those of jobs that are
    /// over are dropped.
    pub(super) fn requeue(&self, frames: Vec<Vec<u8>>) -> Result<()> {
        self.backlog.add_frames(frames);
        self.requeue_postponed()
    }

    /// Puts back what could not be put back before.
    pub(super) fn requeue_postponed(&self) -> Result<()> {
        let _carrying = self.backlog.carry();
        let mut frames = self.backlog.take_frames();
        let mut jobs = HashMap::new();
        frames.retain(|frame| {
            let job = Header::parse(frame).and_then(|(header, ..)| self.table.get(header.job));
            job.map(|job| jobs.insert(job.id, job)).is_some()
        });
        if frames.is_empty() {
            return Ok(());
        }
        let mut pushed = 0;
        {
            let mut ring = self.control.tasks().lock_tail();
            while let Some(frame) = frames.get(pushed) {
                match ring.push(&[frame]) {
                    Ok(()) => pushed += 1,
                    // Once workers have claimed others, there is room without growth.
                    Err(RingFull::Busy | RingFull::NoMemory(_)) => break,
                    Err(error) => return Err(ring_full(error)),
                }
            }
        }
        self.backlog.add_frames(frames.drain(pushed..));
        self.wake_for(pushed);
        // A job may have ended meanwhile, in a thread that could not find these frames. Running
        // tasks of a job that has failed fast are let finish, as ever.
        for job in jobs.values().filter(|job| job.is_finished()) {
            self.backlog.add_withdrawal(job.id, matches!(job.early_end(), Some(Error::Cancelled)));
        }
        Ok(())
    }

    /// Lets no task begin of a job that is off the table, now or as soon as the ring can be had.
    /// One that runs goes on.
    pub(super) fn withdraw(&self, job: u64) {
        if !self.withdraw_all(&HashSet::from([job])) {
            self.backlog.add_withdrawal(job, false);
        }
    }

    /// As [`withdraw`](Self::withdraw), by one walk through the ring; `false`: not now.
    fn withdraw_all(&self, jobs: &HashSet<u64>) -> bool {
        if self.lifecycle.is_overwritten() {
            return true;
        }
        let _carrying = self.backlog.carry();
        let taken = {
            let Some(ring) = self.lock_ring() else { return false };
            self.take_all_back(ring, jobs)
        };
        let TakenBack { frames, begun } = match taken {
            Ok(taken) => taken,
            Err((overwritten, slot)) => {
                self.end_overwritten(overwritten, slot);
                return true;
            }
        };
        if let Err(error) = self.requeue(frames) {
            self.break_down(error);
            return true;
        }
        // A slot has nothing left but the frame that it is at.
        for (slot, begun) in begun.into_iter().enumerate() {
            if let Some(job) = begun.filter(|job| jobs.contains(job)) {
                self.control.slot(slot).running().stop(job);
            }
        }
        true
    }

    /// In the pool's thread: withdraws the jobs for which the ring could not be had before, and
    /// those that were abandoned.
    pub(super) fn withdraw_postponed(&self) {
        let postponed = self.backlog.take_withdrawals();
        if postponed.is_empty() {
            return;
        }
        if !self.withdraw_all(&postponed.iter().map(|(job, _)| *job).collect()) {
            postponed.into_iter().for_each(|(job, stops)| self.backlog.add_withdrawal(job, stops));
            return;
        }
        let stopped = postponed.into_iter().filter_map(|(job, stops)| stops.then_some(job));
        self.stop_running(&stopped.collect());
    }

    /// Has no frame of the jobs be claimed any more, and takes back what workers have claimed and
    /// not begun.
    fn take_all_back(
        &self,
        mut ring: ParentHead<'_>,
        jobs: &HashSet<u64>,
    ) -> Result<TakenBack, (Overwritten, Option<usize>)> {
        let mut taken = TakenBack { frames: Vec::new(), begun: Vec::new() };
        let is_of_them = |beginning| jobs.contains(&u64::from_le_bytes(beginning));
        ring.void_where(is_of_them).map_err(|overwritten| (overwritten, None))?;
        let longest = self.control.tasks().longest();
        for index in 0..self.control.slots() {
            let (slot, of_slot) = (self.control.slot(index), |overwritten| (overwritten, Some(index)));
            taken.frames.extend(ring.take_back(slot).map_err(of_slot)?);
            let begun = slot.begins_with(longest).map_err(of_slot)?;
            taken.begun.push(begun.map(u64::from_le_bytes));
        }
        Ok(taken)
    }

    /// Takes back what a slot's worker has claimed and not begun. `None`: the ring cannot be had
    /// now. In the pool's thread, which alone looks for tasks that are in no place: they are in its
    /// hands then.
    pub(super) fn take_back(&self, slot: usize) -> Result<Option<Vec<Vec<u8>>>, Overwritten> {
        self.lock_ring().map(|mut ring| ring.take_back(self.control.slot(slot))).transpose()
    }

    /// In the pool's thread, at each tick: ends a worker that keeps the ring from all others, as it
    /// is stopped.
    pub(super) fn free_ring(&self) {
        let ring = self.control.tasks();
        // That it names nobody is found elsewhere; a thread of this process lets go of it.
        let holder = ring.holder(self.control.slots()).ok().flatten();
        let holder = holder.filter(|holder| *holder != Holder::Parent || !ring.is_held());
        let is_stuck = self.backlog.note_holder(holder);
        match holder {
            Some(Holder::Worker(slot)) if is_stuck => self.crew.kill(slot as usize),
            Some(Holder::Parent) if is_stuck => {
                self.end_overwritten(Overwritten("the lock of the task ring"), None);
            }
            _ => {}
        }
    }

    /// Wakes workers for so many frames that have just been pushed. One that looks for work needs
    /// no wake.
    pub(super) fn wake_for(&self, frames: usize) {
        let workers = frames.min(self.control.slots());
        let sleepers = workers.saturating_sub(usize::from(self.control.search().is_on()));
        if sleepers > 0 {
            self.control.task_gate().wake(sleepers as u32);
        }
    }

    /// Wakes every worker that sleeps.
    pub(super) fn wake_all(&self) {
        self.control.task_gate().wake(self.control.slots() as u32);
    }

    /// In the pool's thread, when a worker has ended or frames lie in the ring at a tick: the
    /// worker that was to find them may be dead or stopped, and no other know of them.
    pub(super) fn wake_again(&self) {
        self.control.search().end();
        self.control.task_gate().wake(1);
    }
}

fn ring_full(error: RingFull) -> Error {
    match error {
        RingFull::NoMemory(source) => Error::Os { what: "the pool has no room for these tasks".into(), source },
        RingFull::Overwritten(Overwritten(what)) => Error::Overwritten { what, pid: None },
        error => Error::Invalid(format!(
            "the pool cannot take these tasks: {error}. Send less at once, in smaller chunks, or wait for results first"
        )),
    }
}
