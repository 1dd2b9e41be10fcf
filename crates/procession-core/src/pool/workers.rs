//! The workers of a pool, by slot: how they are started and replaced, and when that is given up. Used in the pool's thread;
//! under fork in the program's threads instead, as they come by to submit or to wait: a fork from the pool's thread would
//! copy whatever lock a thread of the program holds at that moment.
//!
//! A start may take long: a fork server may be stopped, an interpreter busy. So it happens under no lock. The thread that
//! starts a worker reserves its slot first, and enters the worker when it is there.
//!
//! What cannot be started, or dies before it is ready, is tried again after a pause that grows. When that has failed so
//! often in a row that no worker is left, the pool is broken: every task gets the reason as its error, and no more are taken.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_shm::Overwritten;
use procession_sys::Signal;

use super::overwritten::error_of;
use super::stats::Tally;
use super::stop::Cause;
use super::{OPEN, Shared, TERMINATED};
use crate::child::{Child, End};
use crate::preparation::{Preparation, Target};
use crate::start::{self, Method};
use crate::{Error, Result, supervisor};

/// Workers that die before they are ready, or cannot be started, in a row: then the pool is broken.
const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The workers, by slot, and what is known of the chances of replacing one.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) by_slot: Vec<Option<Arc<Child>>>,
    /// Slots whose worker some thread is starting.
    reserved: Vec<bool>,
    /// Whose running task has been condemned, and why.
    pub(super) condemned: Vec<Option<Cause>>,
    /// Tasks begun in each slot before its worker came.
    pub(super) begun_before: Vec<u64>,
    /// Of tasks that ended with their worker.
    pub(super) tally: Tally,
    /// Workers started in the place of others.
    pub(super) respawns: u64,
    hired: u64,
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
    last_failure: Option<Arc<Error>>,
}

impl Workers {
    pub(super) fn new(slots: usize) -> Workers {
        let by_slot = (0..slots).map(|_| None).collect();
        Workers {
            by_slot,
            reserved: vec![false; slots],
            condemned: vec![None; slots],
            begun_before: vec![0; slots],
            tally: Tally::default(),
            respawns: 0,
            hired: 0,
            failures: 0,
            not_before: None,
            last_failure: None,
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (usize, &Arc<Child>)> {
        self.by_slot.iter().enumerate().filter_map(|(slot, child)| Some((slot, child.as_ref()?)))
    }

    /// Whether there is no worker, and none to come of a start that has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.alive().next().is_none() && !self.reserved.contains(&true)
    }

    pub(super) fn is_vacant(&self, slot: usize) -> bool {
        self.by_slot[slot].is_none() && !self.reserved[slot]
    }

    pub(super) fn note_failure(&mut self, error: Error) {
        self.failures += 1;
        self.not_before = Some(Instant::now() + FIRST_PAUSE * (1 << self.failures.min(6)));
        self.last_failure = Some(Arc::new(error));
    }
}

impl Shared {
    /// Starts a worker in an empty slot.
    pub(super) fn hire(self: &Arc<Self>, slot: usize) -> Result<()> {
        let name = self.reserve(&mut self.workers(), slot);
        self.start_worker(slot, name, false)
    }

    /// Makes an empty slot, which may have had a worker, ready for one that the caller is to start. Returns its name.
    fn reserve(&self, workers: &mut Workers, slot: usize) -> String {
        self.control.slot(slot).reset();
        self.renew_stream(slot);
        workers.begun_before[slot] = self.control.slot(slot).running().begun();
        workers.reserved[slot] = true;
        workers.hired += 1;
        let prefix = match self.starter.method() {
            Method::Fork => "Fork",
            Method::Spawn => "Spawn",
            Method::ForkServer => "ForkServer",
        };
        format!("{prefix}PoolWorker-{}", workers.hired)
    }

    /// Starts a worker in a slot that was reserved. Under no lock.
    fn start_worker(self: &Arc<Self>, slot: usize, name: String, is_replacement: bool) -> Result<()> {
        let preparation = Preparation {
            name,
            daemon: true,
            target: Target::Worker {
                control: self.control.clone(),
                slot: slot as u32,
                service: self.service.clone(),
                desk: self.desk.workers(),
            },
        };
        let started = start::start(&*self.starter, preparation);
        let mut workers = self.workers();
        workers.reserved[slot] = false;
        let entered = started.and_then(|child| self.enter(&mut workers, slot, child, is_replacement));
        drop(workers);
        if self.state() != OPEN {
            // The pool's thread waits for this start to be over.
            self.poke();
        }
        entered
    }

    fn enter(
        self: &Arc<Self>,
        workers: &mut Workers,
        slot: usize,
        child: Arc<Child>,
        is_replacement: bool,
    ) -> Result<()> {
        let pool: Weak<Shared> = Arc::downgrade(self);
        supervisor::watch(&child, move |child| {
            if let Some(pool) = pool.upgrade() {
                // At once: other workers wait for the ring, whatever the pool's thread is at.
                if child.check_open().is_ok() {
                    pool.release_ring(slot);
                }
                pool.events().deaths.push((slot, child.clone()));
                pool.happened.notify_all();
            }
        })
        .inspect_err(|_| {
            // Unwatched it could die unnoticed. It has done nothing yet.
            let _ = child.signal(Signal::KILL);
            let _ = child.wait(None);
            self.release_ring(slot);
        })?;
        self.notes.started(child.pid(), slot, is_replacement);
        if self.state() == TERMINATED || self.is_overwritten() {
            // It came too late to be killed with the others.
            let _ = child.signal(Signal::KILL);
        }
        workers.by_slot[slot] = Some(child);
        Ok(())
    }

    /// Keeps the workers of the first so many slots: starts those that are missing, dismisses the others.
    pub(super) fn resize(self: &Arc<Self>, size: usize) -> Result<()> {
        let room = self.control.room();
        if !(1..=room).contains(&size) {
            return Err(Error::Invalid(format!(
                "this pool can have 1 to {room} workers, not {size}: make a new Pool for more, or terminate() it for none"
            )));
        }
        self.check_open()?;
        let mut workers = self.workers();
        if let Err(error) = self.control.grow(size) {
            if error.kind() == ErrorKind::InvalidData {
                let what = Overwritten("the record of how much shared memory is given out");
                let error = error_of(&workers, what, None);
                self.break_down(&mut workers, error);
                return self.check_serving();
            }
            return Err(Error::os("cannot make shared memory for more workers")(error));
        }
        let before = self.size.swap(size, Ordering::SeqCst);
        for slot in 0..size.max(before) {
            self.control.slot(slot).dismiss(slot >= size);
        }
        let vacant: Vec<_> = (before..size).filter(|slot| workers.is_vacant(*slot)).collect();
        let mut reserved: VecDeque<_> =
            vacant.into_iter().map(|slot| (slot, self.reserve(&mut workers, slot))).collect();
        drop(workers);
        while let Some((slot, name)) = reserved.pop_front() {
            if let Err(error) = self.start_worker(slot, name, false) {
                let mut workers = self.workers();
                reserved.iter().for_each(|(slot, _)| workers.reserved[*slot] = false);
                // Unless another thread has resized it since.
                if self.size.compare_exchange(size, before, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    (before..size).for_each(|slot| self.control.slot(slot).dismiss(true));
                }
                drop(workers);
                self.control.task_gate().wake(self.control.slots() as u32);
                return Err(error);
            }
        }
        self.control.task_gate().wake(self.control.slots() as u32);
        self.notes.tell();
        Ok(())
    }

    /// What the pool's thread does not do under fork, and so every thread does that comes by.
    pub(super) fn refill_if_mine(self: &Arc<Self>) {
        // Beside a callback a fork is refused; the vacancy waits for its end.
        if self.vacancy_is_mine() && !self.calling_back.load(Ordering::SeqCst) {
            self.refill();
            self.wake_futures();
        }
    }

    /// Whether there is an empty slot that a thread of the program, and not the pool's, is to fill.
    pub(super) fn vacancy_is_mine(&self) -> bool {
        self.starter.method() == Method::Fork && self.vacant.load(Ordering::SeqCst)
    }

    /// Starts workers in the empty slots. Under no lock.
    pub(super) fn refill(self: &Arc<Self>) {
        while let Some((slot, name)) = self.reserve_vacant() {
            let started = self.start_worker(slot, name, true);
            let mut workers = self.workers();
            if let Err(error) = started {
                self.vacant.store(true, Ordering::SeqCst);
                if matches!(error, Error::Interrupted) {
                    // Nothing was started, and nothing is wrong: the next to come by fills the slot.
                    return;
                }
                workers.note_failure(error);
                self.break_if_hopeless(&mut workers);
                return;
            }
            workers.respawns += 1;
        }
    }

    /// An empty slot for this thread to fill, if there is one and it is time.
    fn reserve_vacant(&self) -> Option<(usize, String)> {
        if !self.vacant.load(Ordering::SeqCst) {
            return None;
        }
        let mut workers = self.workers();
        if workers.not_before.is_some_and(|then| then > Instant::now()) {
            return None;
        }
        let is_over = self.state() == TERMINATED || self.control.has_closed() || self.is_overwritten();
        let slot = (0..self.size()).find(|slot| !is_over && workers.is_vacant(*slot));
        if slot.is_none() {
            // A slot that another thread has reserved is that thread's.
            self.vacant.store(false, Ordering::SeqCst);
        }
        slot.map(|slot| (slot, self.reserve(&mut workers, slot)))
    }

    pub(super) fn break_if_hopeless(&self, workers: &mut Workers) {
        if workers.failures >= MOST_FAILURES
            && workers.alive().next().is_none()
            && let Some(error) = workers.last_failure.clone()
        {
            self.break_with(error);
        }
    }

    pub(super) fn break_down(&self, workers: &mut Workers, error: Error) {
        let is_overwritten = matches!(error, Error::Overwritten { .. });
        workers.note_failure(error);
        if let Some(error) = workers.last_failure.clone() {
            self.break_with(error);
        }
        if is_overwritten {
            for (_, child) in workers.alive() {
                // Refused only when it has ended, which the supervisor reports.
                let _ = child.signal(Signal::KILL);
            }
        }
    }

    pub(super) fn break_with(&self, error: Arc<Error>) {
        self.vacant.store(false, Ordering::SeqCst);
        let is_overwritten = matches!(*error, Error::Overwritten { .. });
        let error = if is_overwritten && !self.control.has_file() {
            Arc::new(Error::closed_descriptor("of the pool's shared memory"))
        } else {
            error
        };
        let error = self.broken.get_or_init(|| error).clone();
        self.give_up(&Arc::new(Error::Broken(error)));
    }

    /// The worker of this slot is dead, and does not hold the ring any longer.
    fn release_ring(&self, slot: usize) {
        self.control.tasks().release(slot as u32, self.control.slot(slot));
    }

    /// Makes the stream of a slot whose worker is dead ready for the next.
    pub(super) fn renew_stream(&self, slot: usize) {
        // Under the lock, so that nobody sees the one without the other.
        let mut readers = self.readers();
        self.control.stream(slot).reset();
        readers[slot].renew();
    }

    pub(super) fn kill_worker(&self, slot: usize) {
        if let Some(child) = self.workers().by_slot[slot].as_ref() {
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }

    pub(super) fn worker_pids(self: &Arc<Self>) -> Vec<u32> {
        self.refill_if_mine();
        self.workers().alive().map(|(_, child)| child.pid()).collect()
    }

    pub(super) fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a worker ended before it was ready.
pub(super) fn failure_of(child: &Child, end: &End) -> Error {
    match end.returned(child.pid()) {
        Err(error) => error,
        Ok(Some((tag, payload))) => Error::Initializer { tag, payload: payload.to_vec() },
        Ok(None) => {
            let status = end.status.map_or("unknown status".into(), |status| status.to_string());
            Error::Invalid(format!("worker process {} ended before it was ready ({status})", child.pid()))
        }
    }
}
