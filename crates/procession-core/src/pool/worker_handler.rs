//! The worker handler: notices deaths, accounts for what the dead had taken, has them replaced. It is the pool's own
//! thread, woken by the supervisor, by `close` and `terminate`, and by a tick while tasks are outstanding.
//!
//! A death is handled in this order, since each step needs the one before:
//!
//! | step | after it |
//! |---|---|
//! | lock the task ring, or come back at the next tick | if the worker died holding the lock, its half-made claim is void |
//! | take back | what it had claimed and not begun is in this process's hands |
//! | drain its stream | every result that it committed is in its job |
//! | the frame it had begun | its next task without a result is lost; those behind it go back |
//! | requeue | another worker runs them |

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procession_shm::{Spin, interrupt};
use procession_sys::Signal;
use procession_sys::thread::spawn_engine_thread;

use super::frame::{Header, span};
use super::job::{Delivery, Job};
use super::stats::Tally;
use super::stop::Cause;
use super::workers::failure_of;
use super::{CLOSED, OPEN, Shared, TERMINATED};
use crate::child::Child;
use crate::engine::engine;
use crate::outcome::{Loss, tag};
use crate::start::Method;
use crate::{Error, Result, supervisor};

/// How often outstanding work is looked after: results nobody waits for, frames stuck behind a long task.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// At every so many ticks this thread makes sure that it would be told of deaths.
const CHECK_EVERY: usize = 50;
/// How long the tick goes on after the last task, so that a steady trickle of tasks need not wake the thread each time.
const DOZE_AFTER: Duration = Duration::from_secs(1);

/// What the pool's thread has been told.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) deaths: Vec<(usize, Arc<Child>)>,
    /// Finished jobs whose callbacks have not run.
    pub(super) completions: Vec<Arc<Job>>,
    poked: bool,
    /// The pool's thread waits, and not where workers wake whoever takes results.
    rests: bool,
    /// Every worker is gone and so is the pool's thread.
    gone: bool,
    /// The pool's thread runs.
    begun: bool,
}

impl Events {
    pub(super) fn is_news(&self) -> bool {
        self.poked || !self.deaths.is_empty()
    }
}

/// Says that the pool's thread has ended, however it did.
struct Gone<'a>(&'a Arc<Shared>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // A mistake of the engine's. Nobody is to wait for what will not come.
            let why = "the pool's thread panicked: this is a bug in procession, please report it";
            self.0.break_with(Arc::new(Error::Invalid(why.into())));
        }
        self.0.wake_futures();
        self.0.events().gone = true;
        self.0.happened.notify_all();
        // Those that came since the last look; later ones run where they come from.
        self.0.run_callbacks();
    }
}

impl Shared {
    pub(super) fn begin_worker_handler(self: Arc<Self>) -> Result<()> {
        let shared = self.clone();
        spawn_engine_thread("pool", move || shared.handle_workers())
            .map_err(Error::os("cannot start the pool's thread"))?;
        self.events().begun = true;
        Ok(())
    }

    fn handle_workers(self: Arc<Self>) {
        self.become_own_thread();
        let _gone = Gone(&self);
        let mut busy_until = Instant::now() + DOZE_AFTER;
        let (mut is_lively, mut next_tick) = (false, Instant::now());
        loop {
            is_lively = self.await_news(busy_until, is_lively);
            let is_tick = Instant::now() >= next_tick;
            if is_tick {
                next_tick = Instant::now() + TICK;
            }
            if self.tend(is_tick) {
                busy_until = Instant::now() + DOZE_AFTER;
            }
            self.run_callbacks();
            if self.state() != OPEN && self.workers().is_empty() && self.is_done() {
                // Also those of jobs that were given up since.
                self.run_callbacks();
                return;
            }
        }
    }

    /// What the pool's thread does each time it looks, and what it does at a tick. Whether there are tasks.
    pub(super) fn tend(self: &Arc<Self>, is_tick: bool) -> bool {
        let mut deaths = mem::take(&mut self.postponed().deaths);
        deaths.append(&mut self.events().deaths);
        for (slot, child) in deaths {
            self.bury(slot, child);
        }
        self.withdraw_abandoned();
        if is_tick {
            self.do_postponed();
        }
        // In this order: who is not fed any more has no further tasks to come.
        let is_fed = self.is_fed();
        let is_busy = self.outstanding.load(Ordering::SeqCst) > 0;
        if is_busy {
            self.drain();
            if is_tick {
                // Not each time it is woken: what a worker has just claimed it is about to begin.
                self.relieve();
                self.enforce_timeouts();
            }
        } else if self.state() == CLOSED && !is_fed {
            self.control.close();
            self.control.task_gate().wake(self.control.slots() as u32);
        }
        if self.starter.method() != Method::Fork {
            self.refill();
        }
        self.wake_futures();
        is_busy || self.is_postponed() || self.state() != OPEN
    }

    fn do_postponed(&self) {
        // At each tick but few: it is a system call.
        if self.ticks.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECK_EVERY)
            && let Err(error) = supervisor::check()
        {
            self.break_down(&mut self.workers(), error);
        }
        if let Err(error) = self.requeue_postponed() {
            self.break_down(&mut self.workers(), error);
        }
        self.free_ring();
    }

    /// Nothing is left for a worker to do.
    fn is_done(&self) -> bool {
        self.state() == TERMINATED || !self.is_fed() && self.outstanding.load(Ordering::SeqCst) == 0
    }

    /// Waits for something to do; `is_lively`: there was something the last time, and more may follow at once. Whether there
    /// is now.
    fn await_news(&self, busy_until: Instant, is_lively: bool) -> bool {
        let spin = if is_lively { self.spin } else { Spin::none() };
        let mut is_lively = true;
        let now = Instant::now();
        let pause = self.workers_pause(now);
        if now >= busy_until && pause.is_none() {
            self.trim_blocks();
        }
        let mut events = self.events();
        if events.deaths.is_empty() && !mem::take(&mut events.poked) {
            if now >= busy_until && pause.is_none() {
                self.dozing.store(true, Ordering::SeqCst);
                events.rests = true;
                // Work that came before the flag was seen has woken nobody: look once more.
                while events.deaths.is_empty() && !events.poked && self.outstanding.load(Ordering::SeqCst) == 0 {
                    events = self.happened.wait(events).unwrap_or_else(PoisonError::into_inner);
                }
                self.dozing.store(false, Ordering::SeqCst);
            } else if self.awaited.load(Ordering::SeqCst) > 0 || self.has_called_back.swap(false, Ordering::SeqCst) {
                // Also for a tick after a callback, as the next one often follows.
                drop(events);
                // Where workers wake whoever takes results: futures and callbacks have no thread of their own that sleeps there.
                let news = || self.has_results() || self.events().is_news();
                is_lively = self.control.result_gate().wait_until(Some(now + TICK), &spin, news);
                events = self.events();
            } else {
                let left = pause.map_or(TICK, |pause| pause.max(TICK));
                events.rests = true;
                events = self.happened.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
                is_lively = events.is_news();
            }
            events.poked = false;
            events.rests = false;
        }
        is_lively
    }

    /// Whether the pool's thread has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.events().gone
    }

    /// How long until a vacancy that this thread is to fill may be tried again.
    fn workers_pause(&self, now: Instant) -> Option<Duration> {
        if self.starter.method() == Method::Fork || !self.vacant.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.workers().not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now)))
    }

    /// Has the pool's thread wait where workers wake whoever takes results: `awaited` says by now that somebody awaits some.
    /// A thread that does not rest is left alone, since it looks at that under this lock before it rests again. To poke it
    /// is a system call.
    pub(super) fn send_to_results(&self) {
        if self.events().rests {
            self.poke();
        }
    }

    /// Makes the pool's thread look, now.
    pub(super) fn poke(&self) {
        self.events().poked = true;
        self.happened.notify_all();
        if self.awaited.load(Ordering::SeqCst) > 0 {
            self.control.result_gate().wake(1);
        }
    }

    /// Wakes the pool's thread if it has no tick.
    pub(super) fn stir(&self) {
        if self.dozing.load(Ordering::SeqCst) {
            self.poke();
        }
    }

    /// Accounts for what a dead worker had taken. See the module's table.
    fn bury(self: &Arc<Self>, slot: usize, child: Arc<Child>) {
        // Both may take their time, and so come first, under no lock.
        let ended = child.check_open().and_then(|()| child.wait(None));
        let taken_back = ended.and_then(|end| Ok((end, self.take_back(slot)?)));
        let (end, frames) = match taken_back {
            Ok((end, Some(frames))) => (end, frames),
            // Of a pool that has given everything up nothing is taken back.
            Ok((end, None)) if self.state() == TERMINATED => (end, Vec::new()),
            Ok((_, None)) => return self.postponed().deaths.push((slot, child.clone())),
            Err(error) => {
                let mut workers = self.workers();
                workers.by_slot[slot] = None;
                engine().release(&child);
                return self.break_down(&mut workers, error);
            }
        };
        let child = &child;
        let mut workers = self.workers();
        let words = self.control.slot(slot);
        if words.was_ready() {
            workers.failures = 0;
        } else {
            workers.note_failure(failure_of(child, end));
        }
        let cause = workers.condemned[slot].take();
        let is_killed = cause.is_none() && end.code() == Some(-Signal::KILL.as_raw());
        let by_oom_killer = if is_killed { self.oom.blames() } else { Some(false) };
        let loss = Loss { pid: child.pid(), code: end.code(), by_oom_killer };
        self.notes.ended(child.pid(), slot, end.code(), !words.is_finished());
        if let Err(error) = self.account(slot, frames, loss, cause, &mut workers.tally) {
            self.break_down(&mut workers, error);
        }
        workers.by_slot[slot] = None;
        engine().release(child);
        if slot < self.size() && !self.control.is_closed() && self.state() != TERMINATED {
            self.vacant.store(true, Ordering::SeqCst);
            // Under fork whoever waits for results is to refill.
            self.announce();
        }
        self.break_if_hopeless(&mut workers);
    }

    /// `frames`: what it had claimed and not begun.
    fn account(
        &self,
        slot: usize,
        mut frames: Vec<Vec<u8>>,
        loss: Loss,
        cause: Option<Cause>,
        tally: &mut Tally,
    ) -> Result<()> {
        let words = self.control.slot(slot);
        let begun = words.last_begun();
        {
            let mut readers = self.readers();
            // What makes no sense was not committed by a sound worker: the tasks behind it are accounted for below.
            let _ = self.drain_slot(slot, &mut readers[slot]);
            readers[slot].renew();
        }
        self.bury_blocks(slot);
        if let Some(frame) = begun
            && let Some((header, items)) = Header::parse(&frame)
            && let Some(job) = self.job(header.job)
            && let Some(lost) = job.next_of(header.chunk)
            && (header.first..header.first + header.count).contains(&lost)
        {
            // One that left by itself was between two tasks.
            let again = words.is_finished() || cause.is_none() && job.retry(lost);
            let first = if again { lost } else { lost + 1 };
            let count = header.first + header.count - first;
            if count > 0
                && let Some(skipped) = span(items, first - header.first)
            {
                let rest = Header { first, count, ..header };
                frames.insert(0, [&rest.encode(), &items[skipped..]].concat());
            }
            let tag = if cause == Some(Cause::Timeout) { tag::TIMED_OUT } else { tag::LOST };
            if !again {
                let delivery = job.deliver(header.chunk, lost, tag, &loss.encode());
                let count = if tag == tag::LOST { &mut tally.lost } else { &mut tally.failed };
                *count += u64::from(delivery != Delivery::Stale);
                self.conclude(&job, delivery);
            }
        }
        self.requeue(frames)
    }

    /// Gives idle workers what others have claimed and not begun, once the ring has nothing else for them.
    fn relieve(&self) {
        if !self.control.tasks().is_empty() {
            return;
        }
        for slot in 0..self.control.slots() {
            match self.take_back(slot).and_then(|frames| frames.map(|frames| self.requeue(frames)).transpose()) {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(error) => return self.break_down(&mut self.workers(), error),
            }
        }
    }

    /// Takes back what a slot's worker has claimed and not begun. `None`: the ring cannot be had now. Locking it forces the
    /// recovery of a claim that a death cut short.
    fn take_back(&self, slot: usize) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(self.lock_ring()?.map(|mut ring| ring.take_back(self.control.slot(slot))))
    }

    pub(super) fn terminate(&self) {
        self.state.store(TERMINATED, Ordering::SeqCst);
        // Before the kill, so that no task of theirs is taken for lost.
        let jobs = self.give_up(&Arc::new(Error::Terminated));
        for (_, child) in self.workers().alive() {
            // Refused only when it has ended.
            let _ = child.signal(Signal::KILL);
        }
        for job in jobs {
            self.settle_uncalled(&job);
        }
        self.announce();
        self.wake_futures();
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
            // A condition variable does not tell of signals.
            let look = interrupt::is_interruptible().then(|| Instant::now() + TICK);
            let until = deadline.into_iter().chain(look).min();
            events = match until {
                None => self.happened.wait(events).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.happened.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if events.gone {
                break;
            }
            drop(events);
            if interrupt::ask() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            events = self.events();
        }
        true
    }

    /// Waits until the workers have ended, or the deadline is there.
    pub(super) fn wait_for_workers(&self, deadline: Instant) {
        let children: Vec<_> = self.workers().alive().map(|(_, child)| child.clone()).collect();
        for child in children {
            // Past the deadline or past waiting for: it has been killed all the same.
            let _ = child.wait(Some(deadline));
        }
    }

    pub(super) fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
