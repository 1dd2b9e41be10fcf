//! The worker handler: keeps the number of workers, notices deaths, accounts for what the dead had taken. It is the
//! pool's own thread, woken by the supervisor, by `close` and `terminate`, and by a tick while tasks are outstanding.
//!
//! A death is handled in this order, since each step needs the one before:
//!
//! | step | after it |
//! |---|---|
//! | lock the task ring | if the worker died holding the lock, its half-made claim is void |
//! | take back | what it had claimed and not begun is in this process's hands |
//! | drain its stream | every result that it committed is in its job |
//! | the frame it had begun | its next task without a result is lost; those behind it go back |
//! | requeue, replace | another worker runs them |
//!
//! Workers by `fork` are replaced by the program's threads that come by instead, to submit or to wait: a fork from the pool's thread would copy
//! whatever lock the program's thread holds at that moment.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use procession_shm::Sight;
use procession_sys::Signal;
use procession_sys::thread::spawn_engine_thread;

use super::frame::{Header, span};
use super::result_handler::Reader;
use super::{CLOSED, OPEN, Shared, TERMINATED};
use crate::child::{Child, End};
use crate::outcome::{Loss, tag};
use crate::preparation::{Preparation, Target};
use crate::start::{self, Method};
use crate::{Error, Result, supervisor};

/// How often outstanding work is looked after: results nobody waits for, frames stuck behind a long task.
const TICK: Duration = Duration::from_millis(10);
/// How long the tick goes on after the last task, so that a steady trickle of tasks need not wake the thread each time.
const DOZE_AFTER: Duration = Duration::from_secs(1);
/// Workers that die before they are ready, or cannot be started, in a row: then the pool is broken.
const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The workers, by slot, and what is known of the chances of replacing one.
#[derive(Debug)]
pub(super) struct Workers {
    by_slot: Vec<Option<Arc<Child>>>,
    /// Whose running task has been condemned, and why.
    condemned: Vec<Option<Cause>>,
    hired: u64,
    failures: u32,
    not_before: Option<Instant>,
    last_failure: Option<Arc<Error>>,
}

/// Why a worker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// Its task ran longer than it was given.
    Timeout,
    /// Its task is wanted no more.
    Cancelled,
}

/// What the pool's thread has been told.
#[derive(Debug, Default)]
pub(super) struct Events {
    deaths: Vec<(usize, Arc<Child>)>,
    poked: bool,
    /// Every worker is gone and so is the pool's thread.
    gone: bool,
    /// The pool's thread runs.
    begun: bool,
}

impl Workers {
    pub(super) fn new(slots: usize) -> Workers {
        let by_slot = (0..slots).map(|_| None).collect();
        let condemned = vec![None; slots];
        Workers { by_slot, condemned, hired: 0, failures: 0, not_before: None, last_failure: None }
    }

    fn alive(&self) -> impl Iterator<Item = (usize, &Arc<Child>)> {
        self.by_slot.iter().enumerate().filter_map(|(slot, child)| Some((slot, child.as_ref()?)))
    }

    fn note_failure(&mut self, error: Error) {
        self.failures += 1;
        self.not_before = Some(Instant::now() + FIRST_PAUSE * (1 << self.failures.min(6)));
        self.last_failure = Some(Arc::new(error));
    }
}

impl Shared {
    /// Starts a worker in an empty slot.
    pub(super) fn hire(self: &Arc<Self>, slot: usize) -> Result<()> {
        let mut workers = self.workers();
        self.hire_into(&mut workers, slot)
    }

    fn hire_into(self: &Arc<Self>, workers: &mut Workers, slot: usize) -> Result<()> {
        self.control.slot(slot).reset();
        self.control.stream(slot).reset();
        self.readers()[slot] = Reader::default();
        workers.hired += 1;
        let prefix = match self.starter.method() {
            Method::Fork => "Fork",
            Method::Spawn => "Spawn",
            Method::ForkServer => "ForkServer",
        };
        let preparation = Preparation {
            name: format!("{prefix}PoolWorker-{}", workers.hired),
            daemon: true,
            target: Target::Worker { control: self.control.clone(), slot: slot as u32, service: self.service.clone() },
        };
        let child = start::start(self.starter, preparation)?;
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
        workers.by_slot[slot] = Some(child);
        Ok(())
    }

    pub(super) fn begin_worker_handler(self: Arc<Self>) -> Result<()> {
        let shared = self.clone();
        spawn_engine_thread("pool", move || shared.handle_workers())
            .map_err(Error::os("cannot start the pool's thread"))?;
        self.events().begun = true;
        Ok(())
    }

    fn handle_workers(self: Arc<Self>) {
        let mut busy_until = Instant::now() + DOZE_AFTER;
        let mut seen = vec![None; self.control.slots()];
        loop {
            let deaths = self.next_deaths(busy_until);
            for (slot, child) in deaths {
                self.bury(slot, &child);
            }
            if self.outstanding.load(Ordering::SeqCst) > 0 {
                busy_until = Instant::now() + DOZE_AFTER;
                self.drain();
                self.relieve();
                self.enforce_timeouts(&mut seen);
            } else if self.state() == CLOSED {
                self.control.close();
                self.control.task_gate().wake(self.control.slots() as u32);
            }
            if self.starter.method() != Method::Fork {
                self.refill();
            }
            if self.state() != OPEN && self.workers().alive().next().is_none() && self.is_done() {
                break;
            }
        }
        self.events().gone = true;
        self.happened.notify_all();
    }

    /// Nothing is left for a worker to do.
    fn is_done(&self) -> bool {
        self.state() == TERMINATED || self.outstanding.load(Ordering::SeqCst) == 0
    }

    fn next_deaths(&self, busy_until: Instant) -> Vec<(usize, Arc<Child>)> {
        let now = Instant::now();
        let pause = self.workers_pause(now);
        let mut events = self.events();
        if events.deaths.is_empty() && !mem::take(&mut events.poked) {
            if now >= busy_until && pause.is_none() {
                self.dozing.store(true, Ordering::SeqCst);
                // Work that came before the flag was seen has woken nobody: look once more.
                while events.deaths.is_empty() && !events.poked && self.outstanding.load(Ordering::SeqCst) == 0 {
                    events = self.happened.wait(events).unwrap_or_else(PoisonError::into_inner);
                }
                self.dozing.store(false, Ordering::SeqCst);
            } else {
                let left = pause.map_or(TICK, |pause| pause.max(TICK));
                events = self.happened.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            events.poked = false;
        }
        mem::take(&mut events.deaths)
    }

    /// How long until a vacancy that this thread is to fill may be tried again.
    fn workers_pause(&self, now: Instant) -> Option<Duration> {
        if self.starter.method() == Method::Fork || !self.vacant.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.workers().not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now)))
    }

    /// Makes the pool's thread look, now.
    pub(super) fn poke(&self) {
        self.events().poked = true;
        self.happened.notify_all();
    }

    /// Wakes the pool's thread if it has no tick.
    pub(super) fn stir(&self) {
        if self.dozing.load(Ordering::SeqCst) {
            self.poke();
        }
    }

    /// Accounts for what a dead worker had taken. See the module's table.
    fn bury(self: &Arc<Self>, slot: usize, child: &Arc<Child>) {
        let mut workers = self.workers();
        let end = match child.wait(None) {
            Ok(end) => end,
            Err(error) => return self.break_down(&mut workers, error),
        };
        let words = self.control.slot(slot);
        if words.was_ready() {
            workers.failures = 0;
        } else {
            workers.note_failure(failure_of(child, end));
        }
        let loss = Loss { pid: child.pid(), code: end.code() };
        let cause = workers.condemned[slot].take();
        if let Err(error) = self.account(slot, loss, cause) {
            self.break_down(&mut workers, error);
        }
        workers.by_slot[slot] = None;
        if !self.control.is_closed() && self.state() != TERMINATED {
            self.vacant.store(true, Ordering::SeqCst);
            // Under fork whoever waits for results is to refill.
            self.announce();
        }
        self.break_if_hopeless(&mut workers);
    }

    fn account(&self, slot: usize, loss: Loss, cause: Option<Cause>) -> Result<()> {
        let words = self.control.slot(slot);
        // Locking forces the recovery of a claim that its death cut short.
        let mut frames = self.take_back(slot)?;
        let begun = words.last_begun();
        {
            let mut readers = self.readers();
            // What makes no sense was not committed by a sound worker: the tasks behind it are accounted for below.
            let _ = self.drain_slot(slot, &mut readers[slot]);
            readers[slot] = Reader::default();
        }
        if let Some(frame) = begun
            && let Some((header, items)) = Header::parse(&frame)
            && let Some(job) = self.job(header.job)
            && let Some(lost) = job.next_of(header.chunk)
            && (header.first..header.first + header.count).contains(&lost)
        {
            let again = cause.is_none() && job.retry(lost);
            let first = if again { lost } else { lost + 1 };
            let count = header.first + header.count - first;
            if count > 0
                && let Some(skipped) = span(items, first - header.first)
            {
                let rest = Header { first, count, ..header };
                frames.insert(0, [&rest.encode(), &items[skipped..]].concat());
            }
            let tag = if cause == Some(Cause::Timeout) { tag::TIMED_OUT } else { tag::LOST };
            if !again && job.deliver(header.chunk, lost, tag, &loss.encode()) {
                self.retire(&job);
            }
        }
        self.requeue(&frames)
    }

    /// Gives idle workers what others have claimed and not begun, once the ring has nothing else for them.
    fn relieve(&self) {
        if !self.control.tasks().is_empty() {
            return;
        }
        for slot in 0..self.control.slots() {
            if let Err(error) = self.take_back(slot).and_then(|frames| self.requeue(&frames)) {
                self.break_down(&mut self.workers(), error);
            }
        }
    }

    /// Ends workers whose task runs longer than it was given. `seen`: what each ran at the last look, and since when.
    fn enforce_timeouts(&self, seen: &mut [Option<(Sight, Instant)>]) {
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

    fn take_back(&self, slot: usize) -> Result<Vec<Vec<u8>>> {
        let mut ring = self.control.tasks().lock(0).map_err(Error::os("cannot lock the task ring"))?;
        Ok(ring.take_back(self.control.slot(slot)))
    }

    /// What the pool's thread does not do under fork, and so every thread does that comes by.
    pub(super) fn refill_if_mine(self: &Arc<Self>) {
        if self.vacancy_is_mine() {
            self.refill();
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
        for slot in 0..workers.by_slot.len() {
            if workers.by_slot[slot].is_some() {
                continue;
            }
            if let Err(error) = self.hire_into(&mut workers, slot) {
                workers.note_failure(error);
                self.break_if_hopeless(&mut workers);
                return;
            }
        }
        self.vacant.store(false, Ordering::SeqCst);
    }

    fn break_if_hopeless(&self, workers: &mut Workers) {
        if workers.failures >= MOST_FAILURES
            && workers.alive().next().is_none()
            && let Some(error) = workers.last_failure.clone()
        {
            self.break_with(error);
        }
    }

    fn break_down(&self, workers: &mut Workers, error: Error) {
        workers.note_failure(error);
        if let Some(error) = workers.last_failure.clone() {
            self.break_with(error);
        }
    }

    fn break_with(&self, error: Arc<Error>) {
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

    pub(super) fn terminate(&self) {
        self.state.store(TERMINATED, Ordering::SeqCst);
        let workers = self.workers();
        for (_, child) in workers.alive() {
            let _ = child.signal(Signal::KILL);
        }
        drop(workers);
        self.give_up(&Arc::new(Error::Terminated));
        self.poke();
    }

    /// Waits until the workers and the pool's thread have ended; `false` when the deadline came first.
    pub(super) fn wait_gone(&self, deadline: Option<Instant>) -> bool {
        let mut events = self.events();
        if !events.begun {
            drop(events);
            // The pool was never whole: its thread did not begin, so this thread reaps.
            return self.workers().alive().all(|(_, child)| child.wait(deadline).is_ok());
        }
        while !events.gone {
            events = match deadline {
                None => self.happened.wait(events).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.happened.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    pub(super) fn worker_pids(self: &Arc<Self>) -> Vec<u32> {
        self.refill_if_mine();
        self.workers().alive().map(|(_, child)| child.pid()).collect()
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a worker ended before it was ready.
fn failure_of(child: &Child, end: &End) -> Error {
    match end.returned(child.pid()) {
        Err(error) => error,
        Ok(Some((tag, payload))) => Error::Initializer { tag, payload: payload.to_vec() },
        Ok(None) => {
            let status = end.status.map_or("unknown status".into(), |status| status.to_string());
            Error::Invalid(format!("worker process {} ended before it was ready ({status})", child.pid()))
        }
    }
}
