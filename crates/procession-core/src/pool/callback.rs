//! A job's callbacks, which a program wants called once the results are there. They run in the
//! pool's thread, under none of its locks, one after the other; only where that thread has ended,
//! in the one that brings them.
//!
//! A job is *finished* when all its results are there, and *settled* when its callbacks have run
//! too: that is what `get` and futures wait for, so that a callback that panics can be the job's
//! error. A callback itself waits for finished jobs only, since those behind it in the line would
//! never settle; and while it waits it does the pool's thread's other work, so that what it waits
//! for can happen.
//!
//! While a callback runs its thread counts as one of the program's: a fork by another thread would
//! copy whatever lock the callback holds, and is refused.

use std::sync::Arc;
use std::time::Instant;

use procession_shm::Spin;
use procession_sys::thread::as_program_thread;

use super::job::{Job, JobCallback};
use super::shared::Shared;
use super::worker_handler::TICK;
use crate::Error;

impl Shared {
    /// Has `callback` run once the job is finished.
    pub(super) fn call_back(&self, job: &Arc<Job>, callback: JobCallback) {
        // The pool's thread goes where workers wake whoever takes results. Its own wake is over by
        // the time they do.
        self.table.expect_callback();
        job.add_callback(callback);
        if self.mail.is_resting() {
            // A thread that does not rest is left alone, since it looks at that before it rests
            // again: a poke is a system call.
            self.poke();
        }
        // The thread that finishes the job looks for callbacks after; one of the two sees the
        // other.
        if job.is_finished() {
            self.release_callbacks(job);
        }
        if self.mail.has_ended() {
            self.run_callbacks();
        }
    }

    /// Runs the callbacks of finished jobs.
    pub(super) fn run_callbacks(&self) {
        loop {
            let jobs = self.mail.take_completed();
            if jobs.is_empty() {
                return;
            }
            jobs.iter().for_each(|job| self.settle(job));
        }
    }

    /// Drops the callbacks of a job that `terminate` gave up: the program wants none of its
    /// results.
    pub(super) fn settle_uncalled(&self, job: &Job) {
        while let Some(callback) = job.next_callback() {
            drop(callback);
            self.table.finish_callback(job);
        }
        self.wake_futures(job);
    }

    fn settle(&self, job: &Job) {
        while !job.is_terminated()
            && let Some(callback) = job.next_callback()
        {
            let panic = self.mail.as_callback(|| as_program_thread(callback));
            if let Some(payload) = panic {
                job.spoil(Error::Callback { payload });
            }
            self.table.finish_callback(job);
        }
        self.settle_uncalled(job);
        self.announce();
    }

    /// Returns whether a wait for the job is over: its callbacks have run or, in the pool's own
    /// thread, it is finished.
    pub(super) fn is_ready(&self, job: &Job) -> bool {
        job.is_settled() || job.is_finished() && self.mail.is_own_thread()
    }

    /// In a callback: waits until `done`, doing the pool's thread's work meanwhile.
    pub(super) fn wait_tending(self: &Arc<Self>, done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        loop {
            self.tend(true);
            if self.vacancy_is_mine() && !self.crew.has_worker() {
                // Under fork no thread can start a worker beside a callback, and this wait would
                // not end: say so.
                self.refill();
            }
            let now = Instant::now();
            if done() || deadline.is_some_and(|deadline| deadline <= now) {
                return done();
            }
            let until = deadline.map_or(now + TICK, |deadline| deadline.min(now + TICK));
            let news = || done() || self.has_results() || self.mail.has_news();
            self.control.result_gate().wait_until(Some(until), &Spin::none(), news);
        }
    }
}
