//! A submitted job as its submitter holds it: what waits for its results, and reads them. In the
//! parent, in any thread.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use procession_shm::{Held, Spin};

use super::job::Job;
use super::results::{Arrived, Results};
use super::shared::Shared;
use crate::beside::{self, Buffers, Place};
use crate::{Error, Result};

/// A face's callback. Returns nothing, or in the face's codec the panic that it ended with.
pub type Callback = Box<dyn FnOnce(&Handle) -> Option<Vec<u8>> + Send>;

/// A submitted job, as its submitter holds it. Dropping it lets the tasks run and their results go.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) job: Arc<Job>,
}

impl Handle {
    /// The job's id: no other job of the pool has it.
    pub fn id(&self) -> u64 {
        self.job.id
    }

    /// Returns the number of tasks.
    #[allow(clippy::len_without_is_empty, reason = "a handle on no task is like any other")]
    pub fn len(&self) -> usize {
        self.job.len
    }

    /// The index, among all calls of the job, of a task's first call.
    pub fn first_call(&self, task: usize) -> usize {
        self.job.first_call(u32::try_from(task).unwrap_or(u32::MAX))
    }

    /// Returns the number of calls that have no result yet, as far as results have been taken.
    pub fn remaining_calls(&self) -> u64 {
        self.job.remaining_calls()
    }

    /// Waits until every task has a result and every callback has run; `false` when the deadline
    /// came first. In a callback: until every task has a result.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(self.shared.wait_until(|| self.shared.is_ready(&self.job), deadline))
    }

    /// Has `waker` woken when every task has a result; `true` if they all have.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn awaken(&self, waker: &Waker) -> Result<bool> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(self.shared.awaken(&self.job, waker))
    }

    /// Returns whether every task has a result and every callback has run.
    pub fn is_finished(&self) -> bool {
        if !self.job.is_finished() && self.shared.lifecycle.check_owner("AsyncResult").is_ok() {
            self.shared.drain();
        }
        self.shared.is_ready(&self.job)
    }

    /// As [`is_finished`](Handle::is_finished), by what is known without a look at the workers'
    /// streams.
    pub fn is_complete(&self) -> bool {
        self.shared.is_ready(&self.job)
    }

    /// Has `callback` run in the pool's thread once every task has a result; a panic of it becomes
    /// the job's error.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn on_complete(&self, callback: Callback) -> Result<()> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        // The job lets go of it when it has run, and at the latest when the pool is dropped.
        let handle = self.clone();
        self.shared.call_back(&self.job, Box::new(move || callback(&handle)));
        Ok(())
    }

    /// Ends the job without the results that are missing: what is queued does not begin, what runs
    /// is ended with its worker. `false`: it was finished before.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn cancel(&self) -> Result<bool> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(self.shared.cancel(&self.job))
    }

    /// As [`cancel`](Handle::cancel), a moment later: the pool's thread sees to the workers. Does
    /// nothing in a forked child.
    pub fn abandon(&self) {
        if self.shared.lifecycle.check_owner("AsyncResult").is_ok() {
            self.shared.abandon(&self.job);
        }
    }

    /// Waits until one of several jobs has every result, or until the deadline. Returns whether one
    /// has; the caller finds out which.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn wait_any(handles: &[&Handle], deadline: Option<Instant>) -> Result<bool> {
        let Some(first) = handles.first() else { return Ok(true) };
        first.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(first.shared.wait_until(|| handles.iter().any(|handle| first.shared.is_ready(&handle.job)), deadline))
    }

    /// As [`wait`](Handle::wait), but for the results alone: callbacks may be still to run.
    ///
    /// # Errors
    ///
    /// As [`wait`](Handle::wait).
    pub fn wait_finished(&self, deadline: Option<Instant>) -> Result<bool> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(self.shared.wait_until(|| self.job.is_finished(), deadline))
    }

    /// Returns whether every task has a result. Callbacks may not have been told of it yet.
    pub fn has_results(&self) -> bool {
        if !self.job.is_finished() && self.shared.lifecycle.check_owner("AsyncResult").is_ok() {
            self.shared.drain();
        }
        self.job.is_finished()
    }

    /// Returns whether a worker is at one of the tasks now.
    pub fn is_running(&self) -> bool {
        self.shared.lifecycle.check_owner("AsyncResult").is_ok() && self.shared.is_running(&self.job)
    }

    /// Gives up a job of one task, if that has not begun: then it does not begin, and the job ends
    /// as one that was [cancelled](Handle::cancel). Whether it was given up.
    ///
    /// # Errors
    ///
    /// As [`cancel`](Handle::cancel).
    pub fn withdraw(&self) -> Result<bool> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        Ok(self.shared.cancel_queued(Some(&self.job))? > 0)
    }

    /// Takes the results so far of a job that is one chunk, behind the first `seen` bytes of them.
    /// They are in the form of [`record`](procession_shm::record), and end before the first task
    /// that was lost.
    pub fn arrived(&self, seen: usize) -> Arrived {
        if !self.job.is_finished() && self.shared.lifecycle.check_owner("AsyncResult").is_ok() {
            self.shared.drain();
        }
        self.job.arrived(seen)
    }

    /// Visits every task's result in order, those of a chunk at a time.
    ///
    /// # Errors
    ///
    /// The error that ended the job early. The result is `None` while the job is not finished.
    pub fn visit(&self, visitor: impl FnMut(Results<'_>)) -> Option<Result<(), Arc<Error>>> {
        reading(&self.job, || self.job.visit(0, visitor))
    }

    /// Waits, as [`wait`](Handle::wait), and visits, as [`visit`](Handle::visit), what is there
    /// meanwhile: who decodes a long job's results does so beside the workers. `Ok(None)` when the
    /// deadline came first, or the visitor has said `false`, which ends the wait; what was visited
    /// by then was not all.
    ///
    /// # Errors
    ///
    /// As [`wait`](Handle::wait).
    pub fn gather(
        &self,
        deadline: Option<Instant>,
        mut visitor: impl FnMut(Results<'_>) -> bool,
    ) -> Result<Option<Result<(), Arc<Error>>>> {
        self.shared.lifecycle.check_owner("AsyncResult")?;
        let (job, mut seen, mut spin, goes_on) = (&self.job, 0, self.shared.intake.spin, Cell::new(true));
        let mut visit = |results: Results<'_>| goes_on.set(goes_on.get() && visitor(results));
        while !self.shared.is_ready(job) {
            let is_more = || self.shared.is_ready(job) || job.has_complete(seen);
            if !self.shared.wait_spinning(is_more, deadline, spin) {
                return Ok(None);
            }
            seen = reading(job, || job.visit_complete(seen, &mut visit));
            if !goes_on.get() {
                return Ok(None);
            }
            spin = Spin::none();
        }
        let ended = reading(job, || job.visit(seen, visit));
        Ok(ended.filter(|_| goes_on.get()))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("finished", &self.job.is_finished()).finish()
    }
}

/// Runs `decode`, which may take the large buffers of the job's results.
fn reading<R>(job: &Arc<Job>, decode: impl FnOnce() -> R) -> R {
    if job.has_blocks() { beside::within_buffers(Rc::new(Reading(job.clone())), decode) } else { decode() }
}

struct Reading(Arc<Job>);

impl Buffers for Reading {
    fn take(&self, place: Place) -> io::Result<Arc<Held>> {
        self.0.block(place)
    }
}
