//! The result handler: waits for results and has them taken off the workers' streams.
//!
//! It has no thread of its own. Of the threads that wait for results, one has the *turn*: it sleeps
//! where workers wake it, drains every stream, and so completes the others' jobs too; they wait
//! until it has or until the turn is free. So the usual round trip, one thread that waits for its
//! own result, has one wake each way and no hop between threads. The pool's thread drains results
//! that nobody waits for, at its tick; and those that a future or a callback awaits, as they come.

use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use procession_shm::{Spin, interrupt};

use super::job::{Awaits, Job};
use super::shared::Shared;

/// The pause after which a thread that waits tries again to start a worker, or asks after signals.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

impl Shared {
    /// Waits until `done`, handling results meanwhile; `false` when the deadline came first, or a
    /// signal has ended the wait.
    pub(super) fn wait_until(self: &Arc<Self>, done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        self.wait_spinning(done, deadline, self.intake.spin)
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
        if self.mail.is_own_thread() {
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
            let until = if is_vacant { earlier(deadline, Instant::now() + RETRY_INTERVAL) } else { deadline };
            if !self.intake.take_turn() {
                self.wait_for_turn(&done, deadline);
                continue;
            }
            while self.drain() && !done() && !interrupt::is_over_by(deadline) {
                stretch.get_or_insert_with(Stretch::new).leave_cores();
            }
            if !done() {
                let news = || done() || self.has_results() || (!is_vacant && self.vacancy_is_mine());
                self.control.result_gate().wait_until(until, &spin, news);
                // If results are not there after one wake, the tasks are many or long, and their
                // workers need the cores.
                spin = Spin::none();
                self.drain();
            }
            self.intake.pass_turn();
        }
        true
    }

    fn wait_for_turn(&self, done: &impl Fn() -> bool, deadline: Option<Instant>) {
        // A condition variable does not tell of signals.
        let is_interruptible = interrupt::is_interruptible();
        let until = if is_interruptible { earlier(deadline, Instant::now() + RETRY_INTERVAL) } else { deadline };
        self.intake.wait_for_turn(done, until);
        if is_interruptible {
            interrupt::ask();
        }
    }

    /// Has `waker` woken when the job is settled; `true` if it is already.
    pub(super) fn awaken(&self, job: &Job, waker: &Waker) -> bool {
        let awaits = self.table.add_waker(job, waker);
        if awaits == Awaits::First {
            // Nobody sleeps for these results but the pool's thread, which is to know.
            self.poke();
        }
        awaits == Awaits::Finished
    }
}

/// A wait during which results come without a pause. To be there at each of them takes their
/// workers' cores and their streams' cache lines.
struct Stretch {
    begun: Instant,
    /// The last time signals were asked after.
    asked: Instant,
}

impl Stretch {
    fn new() -> Stretch {
        let begun = Instant::now();
        Stretch { begun, asked: begun }
    }

    /// Sleeps for a part of the time that it has taken already: nobody waits much longer for the
    /// last result.
    fn leave_cores(&mut self) {
        // A shorter sleep is none; for a longer one a stream is too small.
        const MIN_PAUSE: Duration = Duration::from_micros(100);
        const MAX_PAUSE: Duration = Duration::from_micros(200);
        let pause = (self.begun.elapsed() / 8).min(MAX_PAUSE);
        if pause < MIN_PAUSE {
            return;
        }
        thread::sleep(pause);
        if self.asked.elapsed() >= RETRY_INTERVAL {
            interrupt::ask();
            self.asked = Instant::now();
        }
    }
}

fn earlier(deadline: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(deadline.map_or(other, |deadline| deadline.min(other)))
}
