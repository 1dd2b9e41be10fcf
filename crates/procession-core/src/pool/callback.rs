//! Callbacks: what a program wants done with a job's results once they are there. They run in the pool's thread, under none
//! of its locks, one after the other; only where that thread has ended, in the one that brings them.
//!
//! A job is *finished* when all its results are there, and *settled* when its callbacks have run too: that is what `get` and
//! futures wait for, so that a callback that panics can be the job's error. A callback itself waits for finished jobs
//! only, since those behind it in the line would never settle; and while it waits it does the pool's thread's other
//! work, so that what it waits for can happen.
//!
//! While a callback runs its thread counts as one of the program's: a fork by another thread would copy whatever lock the
//! callback holds, and is refused.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use procession_shm::Spin;
use procession_sys::thread::as_program_thread;

use super::job::Job;
use super::worker_handler::TICK;
use super::{Handle, Shared};
use crate::Error;

thread_local! {
    /// The pool whose thread this is; 0: none's. It keeps the pool alive, so that no other can have the place.
    static TENDED: Cell<usize> = const { Cell::new(0) };
}

/// A face's callback. It gives nothing, or in the face's codec the panic that it ended with.
pub type Callback = Box<dyn FnOnce(&Handle) -> Option<Vec<u8>> + Send>;

impl Shared {
    /// Has `callback` run once the job is finished.
    pub(super) fn call_back(self: &Arc<Self>, job: &Arc<Job>, callback: Callback) {
        // The pool's thread goes where workers wake whoever takes results. Its own wake is over by the time they do.
        self.awaited.fetch_add(1, Ordering::SeqCst);
        job.add_callback(callback);
        self.send_to_results();
        // Who finishes the job looks for callbacks after; one of the two sees the other.
        if job.is_finished() {
            self.release_callbacks(job);
        }
        if self.is_gone() {
            self.run_callbacks();
        }
    }

    /// Has the callbacks of a finished job run. Under any lock but that of events.
    pub(super) fn release_callbacks(&self, job: &Arc<Job>) {
        if !job.is_settled() {
            self.events().completions.push(job.clone());
            // The pool's thread itself looks for them after what it does now.
            if !self.is_own_thread() {
                self.poke();
            }
        }
    }

    /// Runs the callbacks of finished jobs. Under no lock.
    pub(super) fn run_callbacks(self: &Arc<Self>) {
        loop {
            let jobs = std::mem::take(&mut self.events().completions);
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                self.settle(job);
            }
        }
    }

    /// Drops the callbacks of a job that `terminate` gave up: the program wants none of its results. Under no lock.
    pub(super) fn settle_uncalled(&self, job: &Job) {
        while let Some(callback) = job.next_callback() {
            drop(callback);
            self.note_called_back(job);
        }
        self.release_wakers(job);
    }

    fn settle(self: &Arc<Self>, job: Arc<Job>) {
        while !job.is_terminated()
            && let Some(callback) = job.next_callback()
        {
            let handle = Handle { shared: self.clone(), job: job.clone() };
            self.calling_back.store(true, Ordering::SeqCst);
            let panic = as_program_thread(|| callback(&handle));
            self.calling_back.store(false, Ordering::SeqCst);
            self.has_called_back.store(true, Ordering::SeqCst);
            if let Some(payload) = panic {
                job.spoil(Error::Callback { payload });
            }
            self.note_called_back(&job);
        }
        self.settle_uncalled(&job);
        self.announce();
        self.wake_futures();
    }

    fn note_called_back(&self, job: &Job) {
        job.uncalled.fetch_sub(1, Ordering::SeqCst);
        self.awaited.fetch_sub(1, Ordering::SeqCst);
    }

    /// Says that this is the pool's thread from now on.
    pub(super) fn become_own_thread(&self) {
        TENDED.set(ptr::from_ref(self).addr());
    }

    /// Whether this is the pool's thread: a callback then, since nothing else there comes by.
    pub(super) fn is_own_thread(&self) -> bool {
        TENDED.get() == ptr::from_ref(self).addr()
    }

    /// Whether a job is as far as who asks may wait for.
    pub(super) fn is_ready(&self, job: &Job) -> bool {
        job.is_settled() || job.is_finished() && self.is_own_thread()
    }

    /// In a callback: waits until `done`, doing the pool's thread's work meanwhile.
    pub(super) fn wait_tending(self: &Arc<Self>, done: impl Fn() -> bool, deadline: Option<Instant>) -> bool {
        loop {
            self.tend(true);
            if self.vacancy_is_mine() && self.workers().alive().next().is_none() {
                // Under fork no thread can start a worker beside a callback, and this wait would not end: say so.
                self.refill();
            }
            let now = Instant::now();
            if done() || deadline.is_some_and(|deadline| deadline <= now) {
                return done();
            }
            let until = deadline.map_or(now + TICK, |deadline| deadline.min(now + TICK));
            let news = || done() || self.has_results() || self.events().is_news();
            self.control.result_gate().wait_until(Some(until), &Spin::none(), news);
        }
    }
}

impl Job {
    fn add_callback(&self, callback: Callback) {
        self.uncalled.fetch_add(1, Ordering::SeqCst);
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).push_back(callback);
    }

    fn next_callback(&self) -> Option<Callback> {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Whether it is finished and its callbacks have run.
    pub(super) fn is_settled(&self) -> bool {
        self.is_finished() && self.uncalled.load(Ordering::SeqCst) == 0
    }
}
