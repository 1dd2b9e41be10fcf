//! The result handler: takes results off the workers' streams and completes their jobs.
//!
//! It has no thread of its own. Of the threads that wait for results, one has the *turn*: it sleeps where workers wake
//! it, drains every stream, and so completes the others' jobs too; they wait until it has or until the turn is free.
//! So the usual round trip, one thread that waits for its own result, has one wake each way and no hop between threads.
//! Results that nobody waits for are drained by the pool's thread at its tick; those that a future or a callback awaits, as
//! they come.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use procession_shm::{Arrival, Overwritten, Spin, StreamReader, interrupt};

use super::chunk::Run;
use super::frame::Identity;
use super::job::{Awaits, Delivery, Job};
use super::jobs::Jobs;
use super::stats::Tally;
use super::{Shared, worker};
use crate::Error;
use crate::outcome::tag;
use crate::wire;

/// How soon a thread that waits tries again to start a worker, or asks after signals.
const RETRY: Duration = Duration::from_millis(10);

/// The parent's end of one worker's result stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    stream: StreamReader,
    current: Option<Current>,
    /// Of this worker and of those that had the slot before it.
    pub(super) tally: Tally,
}

impl Reader {
    /// For the next worker in the slot.
    pub(super) fn renew(&mut self) {
        *self = Reader { tally: self.tally, ..Reader::default() };
    }
}

/// The chunk whose results are arriving.
#[derive(Debug)]
struct Current {
    /// `None`: the job is over, or has been given up.
    job: Option<Arc<Job>>,
    chunk: u32,
    next: u32,
    /// What has arrived and is not in the job yet; nothing, between two looks at the stream.
    run: Run,
}

impl Current {
    /// A job that is over is its handle's alone, and so are the blocks of its results: this worker's next job may be long in
    /// coming.
    fn forget_if_over(&mut self, delivery: Delivery) {
        if matches!(delivery, Delivery::Finished | Delivery::Failed) {
            self.job = None;
        }
    }
}

/// Who waits for results.
#[derive(Debug, Default)]
pub(super) struct Turn {
    taken: bool,
    /// Threads that wait for the turn or for a result; nobody is woken, at the price of a system call, for none.
    waiting: usize,
}

/// The task that a result in a stream is said to be of.
const TASK: Overwritten = Overwritten("which task a result is of, in the stream");
/// The large buffers that a result in a stream is said to have.
const BUFFERS: Overwritten = Overwritten("which large buffers a result has, in the stream");

impl Shared {
    /// Waits until `done`, handling results meanwhile; `false` when the deadline came first, or a signal has ended the wait.
    pub(super) fn wait_until(self: &Arc<Self>, done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        self.wait_spinning(done, deadline, self.spin)
    }

    /// The same, by this way of looking before the first sleep.
    pub(super) fn wait_spinning(
        self: &Arc<Self>,
        done: impl Fn() -> bool,
        deadline: Option<Instant>,
        mut spin: Spin,
    ) -> bool {
        if done() {
            return true;
        }
        if self.is_own_thread() {
            return self.wait_tending(done, deadline);
        }
        let mut stretch = None;
        while !done() {
            if interrupt::is_over_by(deadline) {
                // One last look, so that a deadline of now is a poll.
                self.drain();
                return done();
            }
            self.refill_if_mine();
            // A slot that cannot be filled yet is tried again soon.
            let is_vacant = self.vacancy_is_mine();
            let until = if is_vacant { earlier(deadline, Instant::now() + RETRY) } else { deadline };
            if !self.take_turn() {
                self.wait_for_turn(&done, deadline);
                continue;
            }
            while self.drain() && !done() && !interrupt::is_over_by(deadline) {
                stretch.get_or_insert_with(Stretch::new).leave_cores();
            }
            if !done() {
                let news = || done() || self.has_results() || (!is_vacant && self.vacancy_is_mine());
                self.control.result_gate().wait_until(until, &spin, news);
                // What is not there after one wake is many tasks, or long ones, and its workers need the cores.
                spin = Spin::none();
                self.drain();
            }
            self.pass_turn();
        }
        true
    }

    /// Takes what workers have committed; `true` if that was anything.
    pub(super) fn drain(&self) -> bool {
        if self.is_overwritten() {
            return false;
        }
        let mut any = false;
        let mut senseless = None;
        let mut readers = self.readers();
        for (slot, reader) in readers.iter_mut().enumerate().take(self.control.slots()) {
            match self.drain_slot(slot, reader) {
                Ok(some) => any |= some,
                Err(overwritten) => senseless = Some((overwritten, slot)),
            }
        }
        drop(readers);
        if let Some((overwritten, slot)) = senseless {
            self.end_overwritten(overwritten, Some(slot));
        }
        self.withdraw_abandoned();
        self.wake_futures();
        any
    }

    pub(super) fn drain_slot(&self, slot: usize, reader: &mut Reader) -> Result<bool, Overwritten> {
        let stream = self.control.stream(slot);
        let Reader { stream: pending, current, tally } = reader;
        let mut understood = Ok(());
        let drained = pending.drain(stream, |arrival| {
            if understood.is_ok() {
                understood = self.receive(slot, current, tally, arrival);
            }
        });
        if let Some(current) = current {
            let entered = self.enter_run(current, tally);
            understood = understood.and(entered);
        }
        understood.and(drained)
    }

    /// Enters what has arrived.
    ///
    /// # Errors
    ///
    /// If no worker writes such a thing.
    fn receive(
        &self,
        slot: usize,
        current: &mut Option<Current>,
        tally: &mut Tally,
        arrival: Arrival<'_>,
    ) -> Result<(), Overwritten> {
        let (tag, mut payload) = match arrival {
            Arrival::Record(tag, payload) => (tag, payload),
            Arrival::Values(count, records) => {
                let Current { job, next, run, .. } = current.as_mut().ok_or(TASK)?;
                if job.is_some() {
                    run.extend(*next, count, records);
                }
                *next = next.checked_add(count).ok_or(TASK)?;
                return Ok(());
            }
        };
        if tag & worker::FIRST != 0 {
            let (identity, rest) = Identity::parse(payload).ok_or(TASK)?;
            payload = rest;
            let (job, run) = match current.take() {
                Some(mut last) => {
                    self.enter_run(&mut last, tally)?;
                    (last.job.filter(|job| job.id == identity.job), last.run)
                }
                None => (None, Run::default()),
            };
            let job = job.or_else(|| self.job(identity.job));
            *current = Some(Current { job, chunk: identity.chunk, next: identity.index, run });
        }
        let current = current.as_mut().ok_or(TASK)?;
        if tag & worker::BLOCKS != 0 {
            let mut reader = wire::Reader(payload);
            let count = reader.u32().ok_or(BUFFERS)?;
            let blocks: Vec<u64> = (0..count).map(|_| reader.u64()).collect::<Option<_>>().ok_or(BUFFERS)?;
            self.hold(current.job.as_ref(), slot, blocks.into_iter()).ok_or(BUFFERS)?;
            payload = reader.0;
        }
        let tag = tag & !(worker::FIRST | worker::BLOCKS);
        if current.job.is_some() && tag == tag::VALUE {
            current.run.add(current.next, payload);
            current.next = current.next.checked_add(1).ok_or(TASK)?;
            return Ok(());
        }
        self.enter_run(current, tally)?;
        if let Current { job: Some(job), chunk, next, .. } = current {
            let delivery = job.deliver(*chunk, *next, tag, payload);
            if delivery == Delivery::Senseless {
                return Err(TASK);
            }
            tally.failed += u64::from(delivery != Delivery::Stale);
            self.conclude(job, delivery);
            current.forget_if_over(delivery);
        }
        current.next = current.next.checked_add(1).ok_or(TASK)?;
        Ok(())
    }

    /// Enters the values that have arrived.
    ///
    /// # Errors
    ///
    /// If they are no task's.
    fn enter_run(&self, current: &mut Current, tally: &mut Tally) -> Result<(), Overwritten> {
        let Current { job: Some(job), chunk, run, .. } = current else { return Ok(()) };
        if run.count == 0 {
            return Ok(());
        }
        let count = u64::from(run.count);
        let delivery = job.deliver_run(*chunk, run);
        if delivery == Delivery::Senseless {
            return Err(TASK);
        }
        tally.done += if delivery == Delivery::Stale { 0 } else { count };
        self.conclude(job, delivery);
        current.forget_if_over(delivery);
        Ok(())
    }

    /// Does what a result's arrival asks for.
    pub(super) fn conclude(&self, job: &Arc<Job>, delivery: Delivery) {
        match delivery {
            Delivery::Stale | Delivery::Senseless | Delivery::Entered => {}
            Delivery::Finished => self.retire(job),
            Delivery::Failed => {
                self.retire(job);
                self.abandon(job.id);
            }
        }
    }

    /// Takes a finished job off the table and tells who waits.
    pub(super) fn retire(&self, job: &Arc<Job>) {
        self.desk.forget(job.id);
        self.release_lent(job.id);
        {
            let mut jobs = self.jobs();
            jobs.remove(job.id);
            self.outstanding.store(jobs.live(), Ordering::SeqCst);
        }
        self.notes.finished(job);
        self.release_callbacks(job);
        self.release_wakers(job);
        self.announce();
    }

    /// Has `waker` woken when the job is finished; `true` if it is already.
    pub(super) fn awaken(&self, job: &Job, waker: &Waker) -> bool {
        // Counted before the look at the job; who finishes it looks at the count after. One of the two sees the other.
        self.awaited.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        match job.awaken(waker) {
            // Nobody sleeps for these results but the pool's thread, which is to know.
            Awaits::First => self.poke(),
            known => {
                self.awaited.fetch_sub(1, Ordering::SeqCst);
                return known == Awaits::Finished;
            }
        }
        false
    }

    /// Wakes the futures of jobs that have been finished, and tells what has been noted. They are a runtime's code: under no lock of the pool's.
    pub(super) fn wake_futures(&self) {
        self.notes.tell();
        if self.awaited.load(Ordering::SeqCst) == 0 {
            return;
        }
        let jobs = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        self.awaited.fetch_sub(jobs.len(), Ordering::SeqCst);
        jobs.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn release_wakers(&self, job: &Job) {
        if !job.is_settled() {
            return;
        }
        fence(Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) == 0 {
            return;
        }
        let wakers = job.take_wakers();
        if !wakers.is_empty() {
            self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(wakers);
        }
    }

    /// Ends every job that is not finished, and returns them.
    pub(super) fn give_up(&self, error: &Arc<Error>) -> Vec<Arc<Job>> {
        let jobs = {
            let mut jobs = self.jobs();
            let drained = jobs.drain();
            self.outstanding.store(jobs.live(), Ordering::SeqCst);
            drained
        };
        for job in &jobs {
            self.desk.forget(job.id);
            self.release_lent(job.id);
            job.fail(error);
            self.notes.finished(job);
            self.release_callbacks(job);
            self.release_wakers(job);
        }
        self.announce();
        jobs
    }

    /// Wakes every thread that waits for results, whatever it waits for.
    pub(super) fn announce(&self) {
        // Under the lock, so that nobody is between its look at a job and its sleep.
        if self.turn().waiting > 0 {
            self.turned.notify_all();
        }
        self.control.result_gate().wake(1);
    }

    pub(super) fn has_results(&self) -> bool {
        (0..self.control.slots()).any(|slot| !self.control.stream(slot).is_empty())
    }

    fn take_turn(&self) -> bool {
        !std::mem::replace(&mut self.turn().taken, true)
    }

    fn pass_turn(&self) {
        let mut turn = self.turn();
        turn.taken = false;
        if turn.waiting > 0 {
            self.turned.notify_all();
        }
    }

    fn wait_for_turn(&self, done: &impl Fn() -> bool, deadline: Option<Instant>) {
        let mut turn = self.turn();
        if !turn.taken || done() {
            return;
        }
        turn.waiting += 1;
        // A condition variable does not tell of signals.
        let is_interruptible = interrupt::is_interruptible();
        let until = if is_interruptible { earlier(deadline, Instant::now() + RETRY) } else { deadline };
        let mut turn = match until {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.turned.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner),
        };
        turn.waiting -= 1;
        drop(turn);
        if is_interruptible {
            interrupt::ask();
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn job(&self, id: u64) -> Option<Arc<Job>> {
        self.jobs().get(id)
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait during which results come without a pause. To be there at each of them takes their workers' cores and their streams'
/// cache lines.
struct Stretch {
    begun: Instant,
    /// When signals were asked after.
    asked: Instant,
}

impl Stretch {
    fn new() -> Stretch {
        let begun = Instant::now();
        Stretch { begun, asked: begun }
    }

    /// Sleeps for a part of the time that it has taken already: nobody waits much longer for the last result.
    fn leave_cores(&mut self) {
        // A shorter sleep is none; for a longer one a stream is too small.
        const LEAST: Duration = Duration::from_micros(100);
        const MOST: Duration = Duration::from_micros(200);
        let pause = (self.begun.elapsed() / 8).min(MOST);
        if pause < LEAST {
            return;
        }
        thread::sleep(pause);
        if self.asked.elapsed() >= RETRY {
            interrupt::ask();
            self.asked = Instant::now();
        }
    }
}

fn earlier(deadline: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(deadline.map_or(other, |deadline| deadline.min(other)))
}
