//! The workers of a pool, by slot: how they are started and replaced, and when that is given up. Used under the lock of
//! [`Workers`], in the pool's thread; under fork in the program's threads instead, as they come by to submit or to wait:
//! a fork from the pool's thread would copy whatever lock a thread of the program holds at that moment.
//!
//! What cannot be started, or dies before it is ready, is tried again after a pause that grows. When that has failed so
//! often in a row that no worker is left, the pool is broken: every task gets the reason as its error, and no more are taken.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_sys::Signal;

use super::stats::Tally;
use super::stop::Cause;
use super::{Shared, TERMINATED};
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

    pub(super) fn note_failure(&mut self, error: Error) {
        self.failures += 1;
        self.not_before = Some(Instant::now() + FIRST_PAUSE * (1 << self.failures.min(6)));
        self.last_failure = Some(Arc::new(error));
    }
}

impl Shared {
    /// Starts a worker in a slot that has had none.
    pub(super) fn hire(self: &Arc<Self>, slot: usize) -> Result<()> {
        let mut workers = self.workers();
        self.hire_into(&mut workers, slot, false)
    }

    /// Starts a worker in an empty slot, which may have had one.
    fn rehire(self: &Arc<Self>, workers: &mut Workers, slot: usize, is_replacement: bool) -> Result<()> {
        self.control.slot(slot).reset();
        self.control.stream(slot).reset();
        self.readers()[slot].renew();
        workers.begun_before[slot] = self.control.slot(slot).running().begun();
        self.hire_into(workers, slot, is_replacement)
    }

    fn hire_into(self: &Arc<Self>, workers: &mut Workers, slot: usize, is_replacement: bool) -> Result<()> {
        workers.hired += 1;
        let prefix = match self.starter.method() {
            Method::Fork => "Fork",
            Method::Spawn => "Spawn",
            Method::ForkServer => "ForkServer",
        };
        let preparation = Preparation {
            name: format!("{prefix}PoolWorker-{}", workers.hired),
            daemon: true,
            target: Target::Worker {
                control: self.control.clone(),
                slot: slot as u32,
                service: self.service.clone(),
                desk: self.desk.workers(),
            },
        };
        let child = start::start(&*self.starter, preparation)?;
        let pool: Weak<Shared> = Arc::downgrade(self);
        supervisor::watch(&child, move |child| {
            if let Some(pool) = pool.upgrade() {
                pool.events().deaths.push((slot, child.clone()));
                pool.happened.notify_all();
            }
        })
        .inspect_err(|_| {
            // Unwatched it could die unnoticed. It has done nothing yet.
            let _ = child.signal(Signal::KILL);
            let _ = child.wait(None);
        })?;
        self.notes.started(child.pid(), slot, is_replacement);
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
        let before = self.size.swap(size, Ordering::SeqCst);
        self.control.grow(size);
        for slot in 0..size.max(before) {
            self.control.slot(slot).dismiss(slot >= size);
        }
        for slot in before..size {
            if workers.by_slot[slot].is_none()
                && let Err(error) = self.rehire(&mut workers, slot, false)
            {
                self.size.store(before, Ordering::SeqCst);
                (before..size).for_each(|slot| self.control.slot(slot).dismiss(true));
                self.control.task_gate().wake(self.control.slots() as u32);
                return Err(error);
            }
        }
        drop(workers);
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

    /// Starts workers in the empty slots.
    pub(super) fn refill(self: &Arc<Self>) {
        let mut workers = self.workers();
        if !self.vacant.load(Ordering::SeqCst) || workers.not_before.is_some_and(|then| then > Instant::now()) {
            return;
        }
        if self.state() == TERMINATED || self.control.is_closed() {
            self.vacant.store(false, Ordering::SeqCst);
            return;
        }
        for slot in 0..self.size() {
            if workers.by_slot[slot].is_some() {
                continue;
            }
            if let Err(error) = self.rehire(&mut workers, slot, true) {
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
        self.vacant.store(false, Ordering::SeqCst);
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
        workers.note_failure(error);
        if let Some(error) = workers.last_failure.clone() {
            self.break_with(error);
        }
    }

    pub(super) fn break_with(&self, error: Arc<Error>) {
        self.vacant.store(false, Ordering::SeqCst);
        let error = self.broken.get_or_init(|| error).clone();
        self.give_up(&Arc::new(Error::Broken(error)));
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
