//! The state that a pool's threads share: its owners, and the effects of its changes.
//! In the parent.
//!
//! Each owner keeps its locks to itself and knows no other owner: a method gets others as
//! parameters. An owner *returns* the effects of a change (callbacks, wakers, frames to put back,
//! an error that ends the pool), and this file applies them when the lock is free. So locks are
//! nested in one order only: [`Intake`]'s readers, then [`Table`]'s jobs, then a job's own.
//!
//! No process is started, no ring of the workers' is waited for, and no code of a user or a runtime
//! runs under any lock.

use std::sync::Arc;

use procession_shm::{Control, Overwritten};

use super::backlog::Backlog;
use super::crew::Crew;
use super::handle_broker::HandleBroker;
use super::hooks::Hooks;
use super::intake::{Drained, Intake};
use super::job::Job;
use super::lending::Lending;
use super::lifecycle::Lifecycle;
use super::mail::Mail;
use super::seal::Key;
use super::table::{Ended, Table};
use super::trace;
use super::worker::Service;
use crate::start::Start;
use crate::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) control: Arc<Control>,
    pub(super) lifecycle: Lifecycle,
    pub(super) table: Table,
    pub(super) intake: Intake,
    pub(super) crew: Crew,
    pub(super) lending: Arc<Lending>,
    pub(super) broker: HandleBroker,
    pub(super) mail: Mail,
    pub(super) backlog: Backlog,
    pub(super) hooks: Hooks,
}

/// A pool may grow to this many times its first size, and a small one to `MIN_ROOM` in any case.
/// The room is addresses only.
const ROOM_FACTOR: usize = 4;
const MIN_ROOM: usize = 64;

/// Returns the smallest size with which a pool may begin that is to grow to so many workers.
pub fn smallest_size(workers: usize) -> usize {
    if workers <= MIN_ROOM { 1 } else { workers.div_ceil(ROOM_FACTOR) }
}

impl Shared {
    /// A pool of which nothing runs yet.
    pub(super) fn new(workers: usize, starter: Box<dyn Start + Send>, service: Service) -> Result<Shared> {
        let no_memory = || Error::os("cannot make the pool's shared memory");
        let room = (workers * ROOM_FACTOR).max(MIN_ROOM);
        let make = if service.measures { Control::measured } else { Control::with_room };
        let control = make(workers, room).map_err(no_memory())?;
        let lending = Lending::new(&control).map_err(no_memory())?;
        let (room, spin) = (control.room(), control.spin());
        let no_numbers = || Error::os("cannot make the keys of the pool");
        let key = if service.is_sealed { Some(Key::new().map_err(no_numbers())?) } else { None };
        Ok(Shared {
            control: Arc::new(control),
            lifecycle: Lifecycle::new(),
            table: Table::new(service.records.is_some()),
            intake: Intake::new(room, spin, key).map_err(no_numbers())?,
            crew: Crew::new(starter, service, workers, room),
            lending: Arc::new(lending),
            broker: HandleBroker::new().map_err(Error::os("cannot make the link by which workers ask for handles"))?,
            mail: Mail::default(),
            backlog: Backlog::default(),
            hooks: Hooks::default(),
        })
    }

    /// Has records of workers delivered in the spans of their jobs.
    pub(super) fn scope_records(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        self.crew.output().set_scope(Box::new(move |job, act| {
            match shared.upgrade().and_then(|shared| shared.table.spans().find(job)) {
                Some(span) => span.within(act),
                None => act(),
            }
        }));
    }

    /// Takes what workers have committed. Returns whether that was anything.
    pub(super) fn drain(&self) -> bool {
        if self.lifecycle.is_overwritten() {
            return false;
        }
        let Drained { any, ended, overwritten } = self.intake.drain(&self.control, &self.table);
        self.end_jobs(ended);
        if let Some((overwritten, slot)) = overwritten {
            self.end_overwritten(overwritten, Some(slot));
        }
        any
    }

    /// Does what the end of a job asks for. Under no lock.
    pub(super) fn end_job(&self, Ended { job, has_tasks }: Ended) {
        self.collect_calls_of(&job);
        self.broker.forget(job.id);
        self.lending.take_back(job.id);
        trace::finished(job.id, &job.span, job.early_end());
        self.table.spans().end(&job);
        self.release_callbacks(&job);
        self.wake_futures(&job);
        self.announce();
        if has_tasks {
            self.withdraw(job.id);
        }
    }

    pub(super) fn end_jobs(&self, ended: Vec<Ended>) {
        ended.into_iter().for_each(|ended| self.end_job(ended));
    }

    /// Has the callbacks of a finished job run.
    pub(super) fn release_callbacks(&self, job: &Arc<Job>) {
        if !job.is_settled() {
            self.mail.post_completed(job.clone());
            // The pool's thread itself looks for them after what it does now.
            if !self.mail.is_own_thread() {
                self.poke();
            }
        }
    }

    /// Wakes the futures of a job, if it is settled. They are a runtime's code.
    pub(super) fn wake_futures(&self, job: &Job) {
        self.table.take_wakers(job).wake_all();
    }

    /// Wakes every thread that waits for results, whatever it waits for.
    pub(super) fn announce(&self) {
        self.intake.announce();
        self.control.result_gate().wake(1);
    }

    /// Makes the pool's thread look, now.
    pub(super) fn poke(&self) {
        self.mail.poke();
        if self.table.is_awaited() {
            // It waits where workers wake whoever takes results.
            self.control.result_gate().wake(1);
        }
    }

    /// Ends the pool, as its shared memory was overwritten. `slot`: the one whose words they were.
    pub(super) fn end_overwritten(&self, Overwritten(what): Overwritten, slot: Option<usize>) {
        let pid = slot.and_then(|slot| self.crew.pid(slot));
        self.break_down(Error::Overwritten { what, pid });
    }

    /// Ends the pool: every task that is left has this error, and no more are taken.
    pub(super) fn break_down(&self, error: Error) {
        let is_overwritten = matches!(error, Error::Overwritten { .. });
        self.break_with(Arc::new(error));
        if is_overwritten {
            // They may be in loops over such numbers.
            self.crew.kill_all();
        }
    }

    fn break_with(&self, error: Arc<Error>) {
        self.crew.set_vacant(false);
        let is_overwritten = matches!(*error, Error::Overwritten { .. });
        let error = if is_overwritten && !self.control.has_file() {
            Arc::new(Error::DescriptorClosed { which: "of the pool's shared memory".into() })
        } else {
            error
        };
        let error = self.lifecycle.break_with(error);
        self.end_jobs(self.table.fail_all(&Arc::new(Error::Broken(error))));
        self.announce();
    }

    /// Ends the pool if no worker is left and none will come.
    pub(super) fn break_if_hopeless(&self) {
        if let Some(error) = self.crew.hopeless() {
            self.break_with(error);
        }
    }

    pub(super) fn has_results(&self) -> bool {
        (0..self.control.slots()).any(|slot| !self.control.stream(slot).is_empty())
    }
}
