//! The task ring as the pool's parent reaches it. A worker may be stopped while it holds one of the ring's locks (a debugger,
//! a control group's freezer, SIGSTOP), and then the ring is beyond reach until it goes on. So nothing here waits without
//! a bound, and nothing waits under another lock: what cannot be done now is postponed to the tick of the pool's thread.
//! If the ring stays beyond reach the pool's thread kills the worker that holds the lock, whose death the others are told of.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::{HeadGuard, RingFull, TailGuard};
use procession_sys::Signal;

use super::Shared;
use super::frame::Header;
use super::task_handler::ring_full;
use crate::child::Child;
use crate::{Error, Result};

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
    /// Who held each of the ring's ends at the last ticks, and at how many of them.
    held: [(u32, u32); 2],
}

impl Shared {
    /// Locks the end of the ring where frames are taken. `None`: not now.
    pub(super) fn lock_ring(&self) -> Result<Option<HeadGuard<'_>>> {
        let deadline = Instant::now() + BRIEFLY;
        self.control.tasks().lock_head_until(deadline).map_err(Error::os("cannot lock the task ring"))
    }

    /// For a submission: runs `push` with the ring's other end locked, again if it says that the ring is busy.
    pub(super) fn push_to_ring(&self, mut push: impl FnMut(&mut TailGuard<'_>) -> Result<(), RingFull>) -> Result<()> {
        let ring = self.control.tasks();
        for _ in 0..MAX_LOOKS {
            let deadline = Instant::now() + LOOK_AGAIN;
            let guard = ring.lock_tail_until(deadline).map_err(Error::os("cannot lock the task ring"))?;
            match guard.map(|mut guard| push(&mut guard)) {
                None | Some(Err(RingFull::Busy)) => self.check_serving()?,
                Some(pushed) => return pushed.map_err(ring_full),
            }
        }
        Err(ring_full(RingFull::Busy))
    }

    /// Puts frames that were claimed and never begun back into the ring; those of jobs that are over are dropped.
    pub(super) fn requeue(&self, frames: Vec<Vec<u8>>) -> Result<()> {
        self.postponed().frames.extend(frames);
        self.requeue_postponed()
    }

    /// Puts back what could not be put back before. Under no lock of the ring.
    pub(super) fn requeue_postponed(&self) -> Result<()> {
        let mut frames = mem::take(&mut self.postponed().frames);
        frames.retain(|frame| Header::parse(frame).is_some_and(|(header, _)| self.job(header.job).is_some()));
        if frames.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + BRIEFLY;
        let ring = self.control.tasks().lock_tail_until(deadline).map_err(Error::os("cannot lock the task ring"))?;
        let mut pushed = 0;
        if let Some(mut ring) = ring {
            while let Some(frame) = frames.get(pushed) {
                match ring.push(&[frame]) {
                    Ok(()) => pushed += 1,
                    Err(RingFull::Busy) => break,
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
        let holders = self.control.tasks().holders();
        let mut stuck = None;
        for (held, holder) in self.postponed().held.iter_mut().zip(holders) {
            *held = (holder, if holder != 0 && held.0 == holder { held.1 + 1 } else { 0 });
            if held.1 == MAX_TICKS_HELD {
                held.1 = 0;
                stuck = Some(holder);
            }
        }
        let Some(stuck) = stuck else { return };
        if let Some((_, child)) = self.workers().alive().find(|(_, child)| child.pid() == stuck) {
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }

    /// Whether something waits for the ring.
    pub(super) fn is_postponed(&self) -> bool {
        let postponed = self.postponed();
        !postponed.deaths.is_empty() || !postponed.frames.is_empty() || self.has_abandoned.load(Ordering::SeqCst)
    }

    pub(super) fn postponed(&self) -> MutexGuard<'_, Postponed> {
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
