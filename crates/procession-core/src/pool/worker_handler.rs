//! The worker handler: notices that workers have ended, accounts for what they had taken, has them
//! replaced. It is the pool's own thread, woken by the supervisor, by `close` and `terminate`, and
//! by a tick while tasks are outstanding.
//!
//! A death is handled in this order, since each step needs the one before:
//!
//! | step | after it |
//! |---|---|
//! | unlock the task ring, if the worker died holding it (the supervisor's thread does) | its half-made claim is void |
//! | lock the task ring, or come back at the next tick | nobody is at a claim |
//! | take back | what it had claimed and not begun is in this process's hands |
//! | drain its stream | every result that it committed is in its job |
//! | the frame it had begun | its next task without a result is lost; those behind it go back |
//! | requeue | another worker runs them |

use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use procession_shm::{Overwritten, Spin, interrupt};
use procession_sys::thread::spawn_engine_thread;

use super::crew::{Cause, Departure};
use super::frame::Header;
use super::lifecycle::Phase;
use super::mail::Rest;
use super::shared::Shared;
use super::table::Delivery;
use super::trace;
use crate::child::Child;
use crate::engine::engine;
use crate::outcome::{Loss, tag};
use crate::{Error, Result, supervisor};

/// The interval at which outstanding work is looked after: results that nobody waits for, frames
/// that are stuck behind a long task.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// At every so many ticks this thread makes sure that it would be told of deaths.
const CHECK_EVERY: usize = 50;
/// At every so many ticks threads of the program are asked to come by and start a worker.
const ASK_EVERY: u32 = 10;
/// The time for which the tick goes on after the last task, so that a steady trickle of tasks need
/// not wake the thread each time.
const DOZE_AFTER: Duration = Duration::from_secs(1);

/// The time for which the pool's end waits for a callback that has lines of its workers.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(3);

/// Says that the pool's thread has ended, however it did.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // A mistake of the engine's. Nobody is to wait for what will not come.
            self.0.break_down(Error::Bug("the pool's thread panicked"));
        }
        // Before it is said that this thread has ended: whoever waits for that may end the
        // interpreter next, in which callbacks run.
        self.0.crew.output().finish(Some(Instant::now() + OUTPUT_TIMEOUT));
        self.0.run_callbacks();
        self.0.hooks.run_end_callbacks();
        self.0.mail.end_thread();
        // Those that came since the last look; later ones run where they come from.
        self.0.run_callbacks();
    }
}

impl Shared {
    pub(super) fn begin_worker_handler(self: &Arc<Self>) -> Result<()> {
        let shared = self.clone();
        spawn_engine_thread("pool", move || shared.handle_workers())
            .map_err(Error::os("cannot start the pool's thread"))?;
        self.mail.expect_thread();
        Ok(())
    }

    fn handle_workers(self: Arc<Self>) {
        self.mail.begin_thread();
        let _gone = Gone(&self);
        let mut busy_until = Instant::now() + DOZE_AFTER;
        let (mut is_lively, mut next_tick, mut ticks_vacant) = (false, Instant::now(), 0);
        loop {
            is_lively = self.await_news(busy_until, is_lively);
            self.close_if_idle(busy_until);
            let is_tick = Instant::now() >= next_tick;
            if is_tick {
                next_tick = Instant::now() + TICK;
            }
            if self.tend(is_tick) {
                busy_until = Instant::now() + DOZE_AFTER;
            }
            if self.vacancy_is_mine() && self.table.outstanding() > 0 {
                if ticks_vacant % ASK_EVERY == 0 {
                    self.hooks.ask_for_workers();
                }
                ticks_vacant += u32::from(is_tick || ticks_vacant == 0);
            } else {
                ticks_vacant = 0;
            }
            self.run_callbacks();
            if !self.lifecycle.is_open() && self.crew.is_empty() && self.is_done() {
                // Also those of jobs that were given up since.
                self.run_callbacks();
                return;
            }
        }
    }

    /// Does the pool thread's work: some of it each time, some at a tick only. Returns whether
    /// there are tasks.
    pub(super) fn tend(self: &Arc<Self>, is_tick: bool) -> bool {
        let deaths = self.backlog.take_deaths().into_iter().chain(self.mail.take_deaths());
        deaths.for_each(|(slot, child)| self.reap_worker(slot, child));
        self.withdraw_postponed();
        if is_tick {
            self.table.spans().drop_old();
        }
        if is_tick && !self.lifecycle.is_overwritten() {
            self.do_postponed();
        }
        // In this order: a pool that is closed and not fed any more has no further tasks to come.
        let is_closed = self.lifecycle.phase() == Phase::Closed;
        let is_fed = self.lifecycle.is_fed();
        let is_busy = self.table.outstanding() > 0;
        if is_busy {
            self.drain();
            if is_tick && !self.lifecycle.is_overwritten() {
                // Not each time it is woken: what a worker has just claimed it is about to begin.
                self.relieve();
                self.enforce_timeouts();
                self.enforce_limits();
                self.check_for_lost_tasks();
            }
        } else if is_closed && !is_fed {
            self.control.close();
            self.wake_all();
        }
        if !self.crew.is_forked() {
            self.refill();
        }
        is_busy || !self.backlog.is_empty() || !self.lifecycle.is_open()
    }

    fn do_postponed(&self) {
        // Not at each tick: these are system calls.
        if self.backlog.next_tick().is_multiple_of(CHECK_EVERY) {
            if let Err(error) = supervisor::check() {
                self.break_down(error);
            }
            if let Err(overwritten) = self.control.check_file() {
                self.end_overwritten(overwritten, None);
            }
        }
        if let Err(error) = self.requeue_postponed() {
            self.break_down(error);
        }
        self.free_ring();
        self.check_shared();
        // Memory that is refused stays in use, as before.
        let _ = self.control.tasks().shrink();
    }

    /// Returns whether nothing is left for a worker to do.
    fn is_done(&self) -> bool {
        self.lifecycle.phase() == Phase::Terminated || !self.lifecycle.is_fed() && self.table.outstanding() == 0
    }

    /// Waits for something to do; `is_lively`: there was something the last time, and more may
    /// follow at once. Returns whether there is now.
    fn await_news(&self, busy_until: Instant, is_lively: bool) -> bool {
        let now = Instant::now();
        // Under fork a vacancy is not this thread's to fill.
        let pause = if self.crew.is_forked() { None } else { self.crew.pause_before_refill(now) };
        let may_doze = now >= busy_until && pause.is_none();
        if may_doze {
            self.lending.trim();
        }
        if self.mail.take_poke() {
            return true;
        }
        if may_doze {
            return self.mail.rest(Rest::Doze(self.idle_time_left(busy_until)), || self.table.outstanding() > 0);
        }
        // Also for a tick after a callback, as the next one often follows.
        if self.table.is_awaited() || self.mail.has_called_back() {
            // This is the gate where workers wake whoever takes results: futures and callbacks have
            // no thread of their own that sleeps there.
            let spin = if is_lively { self.intake.spin } else { Spin::none() };
            let news = || self.has_results() || self.mail.has_news();
            let is_lively = self.control.result_gate().wait_until(Some(now + TICK), &spin, news);
            self.mail.take_poke();
            return is_lively;
        }
        self.mail.rest(Rest::For(pause.map_or(TICK, |pause| pause.max(TICK))), || false)
    }

    /// Returns the time until the pool closes by itself, if it does and nobody may submit bit by
    /// bit.
    fn idle_time_left(&self, busy_until: Instant) -> Option<Duration> {
        let limit = self.hooks.idle_limit().filter(|_| self.lifecycle.is_open() && !self.lifecycle.is_fed())?;
        let end = busy_until.checked_add(limit.saturating_sub(DOZE_AFTER))?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    /// Closes a pool that has been without tasks for as long as it may.
    fn close_if_idle(&self, busy_until: Instant) {
        if Instant::now() >= busy_until && self.idle_time_left(busy_until).is_some_and(|left| left.is_zero()) {
            self.table.locked(|outstanding| {
                if outstanding == 0 && !self.lifecycle.is_fed() {
                    self.lifecycle.advance_to(Phase::Closed);
                }
            });
        }
    }

    /// Wakes the pool's thread if it has no tick.
    pub(super) fn stir(&self) {
        if self.mail.is_dozing() {
            self.poke();
        }
    }

    /// Accounts for what a dead worker had taken. See the module's table.
    fn reap_worker(self: &Arc<Self>, slot: usize, child: Arc<Child>) {
        self.end_meter(slot);
        // Both may take their time, and so come first.
        let end = match child.check_open().and_then(|()| child.wait(None)) {
            Ok(end) => end,
            Err(error) => {
                self.crew.vacate(slot);
                engine().release(&child);
                return self.break_down(error);
            }
        };
        self.wake_again();
        let has_given_up = self.lifecycle.has_given_up();
        let frames = match if has_given_up { Ok(Some(Vec::new())) } else { self.take_back(slot) } {
            Ok(Some(frames)) => frames,
            Ok(None) => return self.backlog.add_death(slot, child.clone()),
            Err(overwritten) => {
                self.end_overwritten(overwritten, Some(slot));
                Vec::new()
            }
        };
        let words = self.control.slot(slot);
        if let Err(overwritten) = words.check()
            && !self.lifecycle.has_given_up()
        {
            self.end_overwritten(overwritten, Some(slot));
        }
        let is_wanted = !self.lifecycle.has_given_up();
        let departure = self.crew.note_end(slot, &child, end, words.was_ready(), is_wanted);
        trace::ended(child.pid(), slot, end.code(), !words.is_finished());
        if !self.lifecycle.is_overwritten()
            && let Err(error) = self.account(slot, frames, departure)
        {
            self.break_down(error);
        }
        self.crew.vacate(slot);
        engine().release(&child);
        if !self.crew.is_replaced() {
            self.crew.keep_ended(&child);
            self.announce();
        } else if slot < self.crew.size() && !self.control.has_closed() && !self.lifecycle.has_given_up() {
            self.crew.set_vacant(true);
            // Under fork whoever waits for results is to refill.
            self.announce();
        }
        self.break_if_hopeless();
    }

    /// `frames`: what it had claimed and not begun.
    fn account(&self, slot: usize, mut frames: Vec<Vec<u8>>, departure: Departure) -> Result<()> {
        let Departure { loss, cause } = departure;
        let pid = loss.pid;
        let words = self.control.slot(slot);
        let overwritten = |Overwritten(what)| Error::Overwritten { what, pid: Some(pid) };
        let begun = words.last_begun(self.control.tasks().longest()).map_err(overwritten)?;
        let ended = self.intake.finish_stream(&self.control, slot, &self.table).map_err(overwritten)?;
        self.end_jobs(ended);
        self.free_blocks(slot).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => overwritten(Overwritten("the record of large buffers")),
            _ => Error::os("cannot free what a dead worker had")(error),
        })?;
        if let Some(frame) = begun
            && let Some((header, state, items)) = Header::parse(&frame)
            && let Some(job) = self.table.get(header.job)
            && let Some(lost) = job.next_of(header.chunk)
            && (header.first..header.first + header.count).contains(&lost)
        {
            // One that left by itself was between two tasks.
            let again = words.is_finished() || cause.is_none() && !self.hooks.has_no_retries() && job.retry(lost);
            let first = if again { lost } else { lost + 1 };
            let count = header.first + header.count - first;
            if count > 0
                && let Some(items) = header.behind(items, first - header.first)
            {
                let rest = Header { first, count, ..header };
                frames.insert(0, [&rest.encode(), state, items].concat());
            }
            if !again {
                let tag = if cause == Some(Cause::Timeout) { tag::TIMED_OUT } else { tag::LOST };
                let loss = Loss { call: words.running().call_of(lost), ..loss };
                let delivery = self.table.deliver(&job, header.chunk, lost, tag, &loss.encode());
                if delivery.is_counted() {
                    let calls = if tag == tag::LOST { job.calls(lost, 1) } else { 1 };
                    self.intake.count_end(slot, calls, tag == tag::LOST);
                }
                if let Delivery::Finished(ended) = delivery {
                    self.end_job(ended);
                }
            }
        }
        self.requeue(frames)
    }

    /// A worker is dead, and its results are read: what it had of others is nobody's, and what it
    /// told nobody of is free.
    fn free_blocks(&self, slot: usize) -> std::io::Result<()> {
        self.control.arguments().release_held_by(slot as u32)?;
        self.control.results(slot).reclaim()?;
        self.lending.sweep();
        Ok(())
    }

    /// Gives idle workers what others have claimed and not begun, once the ring has nothing else
    /// for them.
    fn relieve(&self) {
        match self.control.tasks().is_empty() {
            Ok(true) => {}
            Ok(false) => return self.wake_again(),
            Err(overwritten) => return self.end_overwritten(overwritten, None),
        }
        for slot in 0..self.control.slots() {
            match self.take_back(slot) {
                Ok(Some(frames)) => {
                    if let Err(error) = self.requeue(frames) {
                        return self.break_down(error);
                    }
                }
                Ok(None) => return,
                Err(overwritten) => return self.end_overwritten(overwritten, Some(slot)),
            }
        }
    }

    pub(super) fn terminate(&self) {
        self.lifecycle.advance_to(Phase::Terminated);
        // Before the kill, so that no task of theirs is taken for lost.
        let ended = self.table.fail_all(&Arc::new(Error::Terminated));
        let jobs: Vec<_> = ended.iter().map(|ended| ended.job.clone()).collect();
        self.end_jobs(ended);
        self.crew.kill_all();
        jobs.iter().for_each(|job| self.settle_uncalled(job));
        self.announce();
        self.poke();
    }

    /// Waits until the workers and the pool's thread have ended; `false` when the deadline came
    /// first.
    pub(super) fn wait_gone(&self, deadline: Option<Instant>) -> bool {
        if !self.mail.has_begun() {
            // The pool was never whole: its thread did not begin, so this thread reaps.
            return self.crew.serving().iter().all(|(_, child)| child.wait(deadline).is_ok());
        }
        loop {
            // A condition variable does not tell of signals.
            let longest = interrupt::is_interruptible().then_some(TICK);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.mail.wait_for_end(longest.into_iter().chain(left).min()) {
                return true;
            }
            if interrupt::ask() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
        }
    }

    /// Waits until the workers have ended, or the deadline is there.
    pub(super) fn wait_for_workers(&self, deadline: Instant) {
        for (_, child) in self.crew.serving() {
            // Past the deadline or past waiting for: it has been killed all the same.
            let _ = child.wait(Some(deadline));
        }
    }
}
