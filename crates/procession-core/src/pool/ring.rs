//! The task ring as the pool's parent reaches it. A worker may be stopped while it holds one of the ring's locks (a debugger,
//! a control group's freezer, SIGSTOP), and then the ring is beyond reach until it goes on. So nothing here waits without
//! a bound, and nothing waits under another lock: what cannot be done now is postponed to the tick of the pool's thread.
//! If the ring stays beyond reach the pool's thread kills the worker that holds the lock, whose death the others are told of.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::{Holder, Overwritten, ParentHead, ParentTail, RingFull};

use super::Shared;
use super::frame::Header;
use super::task_handler::ring_full;
use crate::Result;
use crate::child::Child;

/// How long the ring is waited for where the work can be postponed. A worker that runs holds it for microseconds.
const BRIEFLY: Duration = Duration::from_millis(2);
/// How long a submission waits in one go, and how often. The time in which this whole program is stopped counts as one.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const MAX_LOOKS: usize = 100;
/// At so many ticks in a row may one worker hold the ring before it is killed: some 2 s.
const MAX_TICKS_HELD: u32 = 160;

/// What waits until the ring can be had.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    pub(super) deaths: Vec<(usize, Arc<Child>)>,
    /// Frames that are in neither the ring nor a slot.
    frames: Vec<Vec<u8>>,
    /// Who held the ring at the last ticks, and at how many of them.
    held: (Option<Holder>, u32),
}

impl Postponed {
    /// Whether there are tasks in it, or with the dead.
    pub(super) fn has_tasks(&self) -> bool {
        !self.deaths.is_empty() || !self.frames.is_empty()
    }
}

impl Shared {
    /// Locks the end of the ring where frames are taken. `None`: not now.
    pub(super) fn lock_ring(&self) -> Option<ParentHead<'_>> {
        self.control.tasks().lock_head_until(Instant::now() + BRIEFLY)
    }

    /// For a submission: runs `push` with the ring's other end locked, again if it says that the ring is busy.
    pub(super) fn push_to_ring(&self, mut push: impl FnMut(&mut ParentTail<'_>) -> Result<(), RingFull>) -> Result<()> {
        let ring = self.control.tasks();
        let mut pushed = push(&mut ring.lock_tail());
        let mut looks = 0;
        while matches!(pushed, Err(RingFull::Busy)) && looks < MAX_LOOKS {
            self.check_serving()?;
            if let Some(mut both) = ring.lock_both_until(Instant::now() + LOOK_AGAIN) {
                pushed = push(&mut both);
            }
            looks += 1;
        }
        if let Err(RingFull::Overwritten(overwritten)) = &pushed {
            self.end_overwritten(*overwritten, None);
            self.check_serving()?;
        }
        pushed.map_err(ring_full)
    }

    /// Puts frames that were claimed and never begun back into the ring; those of jobs that are over are dropped.
    pub(super) fn requeue(&self, frames: Vec<Vec<u8>>) -> Result<()> {
        self.postponed().frames.extend(frames);
        self.requeue_postponed()
    }

    /// Puts back what could not be put back before. Under no lock of the ring.
    pub(super) fn requeue_postponed(&self) -> Result<()> {
        let _carrying = self.carry();
        let mut frames = mem::take(&mut self.postponed().frames);
        frames.retain(|frame| Header::parse(frame).is_some_and(|(header, _)| self.job(header.job).is_some()));
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
        if pushed < frames.len() {
            self.postponed().frames.extend(frames.drain(pushed..));
        }
        self.wake_workers(pushed);
        Ok(())
    }

    /// In the pool's thread, at each tick: ends a worker that keeps the ring from all others, as it is stopped.
    pub(super) fn free_ring(&self) {
        let ring = self.control.tasks();
        // That it names nobody is found elsewhere; a thread of this process lets go of it.
        let holder = ring.holder(self.control.slots()).ok().flatten();
        let holder = holder.filter(|holder| *holder != Holder::Parent || !ring.is_held());
        let is_stuck = {
            let held = &mut self.postponed().held;
            *held = (holder, if holder.is_some() && held.0 == holder { held.1 + 1 } else { 0 });
            held.1 == MAX_TICKS_HELD
        };
        match holder {
            Some(Holder::Worker(slot)) if is_stuck => self.kill_worker(slot as usize),
            Some(Holder::Parent) if is_stuck => {
                self.end_overwritten(Overwritten("the lock of the task ring"), None);
            }
            _ => {}
        }
    }

    /// Whether something waits for the ring.
    pub(super) fn is_postponed(&self) -> bool {
        self.postponed().has_tasks() || self.has_abandoned.load(Ordering::SeqCst)
    }

    pub(super) fn postponed(&self) -> MutexGuard<'_, Postponed> {
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
