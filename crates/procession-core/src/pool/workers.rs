//! The start and replacement of a pool's workers, and changes of the pool's size. These happen in
//! the pool's thread; under fork, in threads of the program that come by to submit or to wait. A
//! fork from the pool's thread would copy whatever lock a thread of the program holds at that
//! moment.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Weak};

use procession_shm::Overwritten;
use procession_sys::Signal;

use super::crew::Reserved;
use super::lifecycle::Phase;
use super::shared::Shared;
use super::trace;
use crate::child::Child;
use crate::output::Paused;
use crate::start::StartMethod;
use crate::{Error, Result, supervisor};

impl Shared {
    /// Starts the first workers.
    pub(super) fn start_first_workers(self: &Arc<Self>) -> Result<()> {
        // The first may print before the last is forked.
        let _paused = self.pause_for_forks();
        let first = self.crew.reserve_first();
        // A face may start all of them when it is asked for the first.
        first.iter().for_each(|reserved| self.begin_meter(reserved.slot));
        first.iter().try_for_each(|reserved| self.start_worker(reserved, false))
    }

    /// Holds back the program's code in the collector's thread while workers are forked.
    fn pause_for_forks(&self) -> Option<Paused<'_>> {
        (self.crew.method() == StartMethod::Fork).then(|| self.crew.output().pause())
    }

    /// Starts a worker in a slot that was reserved.
    fn start_worker(self: &Arc<Self>, reserved: &Reserved, is_replacement: bool) -> Result<()> {
        let slot = reserved.slot;
        self.control.slot(slot).reset();
        self.intake.renew_stream(&self.control, slot);
        self.begin_meter(slot);
        let begun_before = self.control.slot(slot).running().begun();
        let started = self.crew.output().capture().and_then(|(streams, recording, capture)| {
            let seal = self.intake.renew_seal(slot).map_err(Error::os("cannot make the keys of a worker"))?;
            let child =
                self.crew.start(reserved, &self.control, self.broker.workers_end(), (streams, recording), seal)?;
            self.crew.output().follow(capture, Some(slot), &child).inspect_err(|_| end_unknown(&child))?;
            Ok(child)
        });
        let entered = started.and_then(|child| {
            // Before it is watched: it may have ended already.
            self.crew.enter(slot, child.clone(), begun_before);
            self.watch(slot, &child).map(|()| child)
        });
        match entered {
            Ok(child) => {
                trace::started(child.pid(), slot, is_replacement);
                if self.lifecycle.has_given_up() {
                    // It came too late to be killed with the others.
                    self.crew.kill(slot);
                }
                self.poke_leaver();
                Ok(())
            }
            Err(error) => {
                self.withdraw_meter(slot);
                self.crew.vacate(slot);
                self.poke_leaver();
                Err(error)
            }
        }
    }

    /// The pool's thread, which ends after the last worker, waits for each start to be over.
    fn poke_leaver(&self) {
        if !self.lifecycle.is_open() {
            self.poke();
        }
    }

    fn watch(self: &Arc<Self>, slot: usize, child: &Arc<Child>) -> Result<()> {
        let pool: Weak<Shared> = Arc::downgrade(self);
        let watched = supervisor::watch(child, move |child| {
            if let Some(pool) = pool.upgrade() {
                // At once: other workers wait for the ring, whatever the pool's thread is at.
                if child.check_open().is_ok() {
                    pool.release_ring(slot);
                }
                pool.mail.post_death(slot, child.clone());
            }
        });
        watched.inspect_err(|_| {
            // Unwatched it could end unnoticed.
            end_unknown(child);
            self.release_ring(slot);
        })
    }

    /// The worker of this slot is dead, and does not hold the ring any longer.
    fn release_ring(&self, slot: usize) {
        self.control.tasks().release(slot as u32, self.control.slot(slot));
    }

    /// Keeps the workers of the first so many slots: starts those that are missing, dismisses the
    /// others.
    pub(super) fn resize(self: &Arc<Self>, size: usize) -> Result<()> {
        let room = self.control.room();
        if !(1..=room).contains(&size) {
            return Err(Error::Invalid(format!(
                "this pool can have 1 to {room} workers, not {size}: make a new Pool for more, or terminate() it for none"
            )));
        }
        self.lifecycle.check_open()?;
        let (before, reserved) = match self.crew.resize(&self.control, size) {
            Ok(resized) => resized,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.end_overwritten(Overwritten("the record of how much shared memory is given out"), None);
                return self.lifecycle.check_serving();
            }
            Err(error) => return Err(Error::os("cannot make shared memory for more workers")(error)),
        };
        let mut reserved = VecDeque::from(reserved);
        let _paused = self.pause_for_forks();
        let mut started = Ok(());
        while started.is_ok()
            && let Some(next) = reserved.pop_front()
        {
            started = self.start_worker(&next, false);
        }
        if started.is_err() {
            reserved.iter().for_each(|left| self.crew.vacate(left.slot));
            self.crew.resize_back(&self.control, size, before);
        }
        self.wake_all();
        started
    }

    /// Starts workers in empty slots under fork. There the pool's thread leaves that to every
    /// thread of the program that comes by.
    pub(super) fn refill_if_mine(self: &Arc<Self>) {
        // Beside a callback a fork is refused; the vacancy waits for its end.
        if self.vacancy_is_mine()
            && !self.mail.is_calling_back()
            && let Some(_paused) = self.crew.output().try_pause()
        {
            self.refill();
        }
    }

    /// Returns whether there is an empty slot that a thread of the program, and not the pool's, is
    /// to fill.
    pub(super) fn vacancy_is_mine(&self) -> bool {
        self.crew.is_forked() && self.crew.has_vacancy()
    }

    /// Starts workers in the empty slots.
    pub(super) fn refill(self: &Arc<Self>) {
        while let Some(reserved) = self.reserve_vacant() {
            match self.start_worker(&reserved, true) {
                Ok(()) => self.crew.note_respawn(),
                Err(error) => {
                    self.crew.set_vacant(true);
                    // Interrupted: nothing was started, and nothing is wrong. The next to come by
                    // fills the slot.
                    if !matches!(error, Error::Interrupted) {
                        self.crew.note_failure(error);
                        self.break_if_hopeless();
                    }
                    return;
                }
            }
        }
    }

    fn reserve_vacant(&self) -> Option<Reserved> {
        let is_over = self.lifecycle.phase() == Phase::Terminated || self.control.has_closed();
        if is_over || self.lifecycle.is_overwritten() {
            self.crew.set_vacant(false);
            return None;
        }
        self.crew.reserve_vacant()
    }

    pub(super) fn worker_pids(self: &Arc<Self>) -> Vec<u32> {
        self.refill_if_mine();
        // One that is about to begin on another machine has none.
        self.crew.serving().iter().map(|(_, child)| child.pid()).filter(|pid| *pid != 0).collect()
    }
}

/// Ends a worker that cannot be looked after. It has done nothing yet.
fn end_unknown(child: &Child) {
    let _ = child.signal(Signal::KILL);
    let _ = child.wait(None);
}
