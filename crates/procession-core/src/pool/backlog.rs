//! Work that waits until the task ring can be locked. A worker may be stopped while it holds one of
//! the ring's locks (a debugger, a control group's freezer, SIGSTOP), and then nobody reaches the
//! ring until the worker goes on. So nothing waits for it without a bound: what cannot be done now
//! is put here, and done at a tick of the pool's thread. In the parent, in any thread.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_shm::Holder;

use crate::child::Child;

/// At so many ticks in a row may one worker hold the ring before it is killed: some 2 s.
const MAX_TICKS_HELD: u32 = 160;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    postponed: Mutex<Postponed>,
    /// There are withdrawals; readable without the lock.
    has_withdrawals: AtomicBool,
    /// Threads that have frames in their own hands.
    carrying: AtomicUsize,
    /// Of the pool's thread, so far.
    ticks: AtomicUsize,
}

#[derive(Debug, Default)]
struct Postponed {
    deaths: Vec<(usize, Arc<Child>)>,
    /// Frames that are in neither the ring nor a slot.
    frames: Vec<Vec<u8>>,
    /// Jobs that have ended though tasks of theirs are queued, and whether those that run are to be
    /// stopped.
    withdrawals: Vec<(u64, bool)>,
    /// The holder of the ring at the last tick, and for how many ticks in a row.
    held: (Option<Holder>, u32),
}

/// A thread of the parent has frames in its own hands, or is about to, until this is dropped.
#[derive(Debug)]
pub(super) struct Carrying<'a>(&'a AtomicUsize);

impl Drop for Carrying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backlog {
    pub(super) fn add_death(&self, slot: usize, child: Arc<Child>) {
        self.postponed().deaths.push((slot, child));
    }

    pub(super) fn take_deaths(&self) -> Vec<(usize, Arc<Child>)> {
        mem::take(&mut self.postponed().deaths)
    }

    pub(super) fn add_frames(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.postponed().frames.extend(frames);
    }

    pub(super) fn take_frames(&self) -> Vec<Vec<u8>> {
        mem::take(&mut self.postponed().frames)
    }

    /// Notes that tasks of a job are queued that are not to begin, and whether those that run are
    /// to be stopped.
    pub(super) fn add_withdrawal(&self, job: u64, stops: bool) {
        self.postponed().withdrawals.push((job, stops));
        self.has_withdrawals.store(true, Ordering::SeqCst);
    }

    pub(super) fn take_withdrawals(&self) -> Vec<(u64, bool)> {
        if !self.has_withdrawals.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        mem::take(&mut self.postponed().withdrawals)
    }

    /// Returns whether there are tasks in the backlog, or with workers that have died.
    pub(super) fn has_tasks(&self) -> bool {
        let postponed = self.postponed();
        !postponed.deaths.is_empty() || !postponed.frames.is_empty()
    }

    /// Returns whether nothing waits for the ring.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_tasks() && !self.has_withdrawals.load(Ordering::SeqCst)
    }

    /// Says that the caller has frames in its own hands, or is about to.
    pub(super) fn carry(&self) -> Carrying<'_> {
        self.carrying.fetch_add(1, Ordering::SeqCst);
        Carrying(&self.carrying)
    }

    /// Returns whether no thread has frames in its own hands.
    pub(super) fn is_nobody_carrying(&self) -> bool {
        self.carrying.load(Ordering::SeqCst) == 0
    }

    /// Notes at a tick who holds the ring. Returns whether the same has held it at so many ticks
    /// that it is stuck; said once.
    pub(super) fn note_holder(&self, holder: Option<Holder>) -> bool {
        let held = &mut self.postponed().held;
        *held = (holder, if holder.is_some() && held.0 == holder { held.1 + 1 } else { 0 });
        held.1 == MAX_TICKS_HELD
    }

    /// Counts a tick. Returns how many there were before.
    pub(super) fn next_tick(&self) -> usize {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn postponed(&self) -> MutexGuard<'_, Postponed> {
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_keeps_the_ring_for_long_is_stuck_and_named_once() {
        let backlog = Backlog::default();
        let worker = Some(Holder::Worker(1));
        let stuck = |ticks: u32| (0..ticks).filter(|_| backlog.note_holder(worker)).count();
        assert_eq!(stuck(MAX_TICKS_HELD), 0);
        assert_eq!(stuck(MAX_TICKS_HELD), 1);
        assert!(!backlog.note_holder(None));
        assert_eq!(stuck(MAX_TICKS_HELD), 0, "it has let go meanwhile");
    }

    #[test]
    fn what_is_taken_is_gone() {
        let backlog = Backlog::default();
        backlog.add_withdrawal(7, true);
        backlog.add_frames([vec![1]]);
        assert!(backlog.has_tasks() && !backlog.is_empty());
        assert_eq!((backlog.take_withdrawals(), backlog.take_frames()), (vec![(7, true)], vec![vec![1]]));
        assert!(backlog.is_empty() && backlog.take_withdrawals().is_empty());
    }

    #[test]
    fn frames_are_carried_until_the_guard_goes() {
        let backlog = Backlog::default();
        let carrying = backlog.carry();
        assert!(!backlog.is_nobody_carrying());
        drop(carrying);
        assert!(backlog.is_nobody_carrying());
    }
}
