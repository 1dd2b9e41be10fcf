//! The phase of a pool: whether it takes tasks, and why it does not. In the parent, in any thread.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use procession_sys::per_process::fork_generation;

use crate::{Error, Result};

/// The phase of a pool. It never goes back to an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// The pool takes tasks.
    Open,
    /// The pool takes no more tasks; those that it has are finished.
    Closed,
    /// The workers are killed, and the tasks are given up.
    Terminated,
}

/// The phase of one pool, and what breaks it.
#[derive(Debug)]
pub(super) struct Lifecycle {
    /// The process that made the pool.
    generation: u64,
    phase: AtomicU8,
    /// The number of feeders, who may submit though the pool is closed.
    feeders: AtomicUsize,
    /// Why no more tasks can be run, once that is so.
    broken: OnceLock<Arc<Error>>,
}

impl Lifecycle {
    pub(super) fn new() -> Lifecycle {
        Lifecycle {
            generation: fork_generation(),
            phase: AtomicU8::new(Phase::Open as u8),
            feeders: AtomicUsize::new(0),
            broken: OnceLock::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Closed,
            _ => Phase::Terminated,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase() == Phase::Open
    }

    /// Goes on to `phase`, unless the pool has come further already.
    pub(super) fn advance_to(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// Says why the pool can run no more tasks. The first reason stays; returns it.
    pub(super) fn break_with(&self, error: Arc<Error>) -> Arc<Error> {
        self.broken.get_or_init(|| error).clone()
    }

    /// Why the pool can run no more tasks, if that is so.
    pub(super) fn broken(&self) -> Option<Arc<Error>> {
        self.broken.get().cloned()
    }

    /// Returns whether the pool has ended because its shared memory was overwritten: nothing in it
    /// is read any more.
    pub(super) fn is_overwritten(&self) -> bool {
        self.broken.get().is_some_and(|error| matches!(**error, Error::Overwritten { .. }))
    }

    /// Returns whether all tasks that were left have been given up, so that nothing is taken back
    /// from a worker.
    pub(super) fn has_given_up(&self) -> bool {
        self.phase() == Phase::Terminated || self.is_overwritten()
    }

    /// # Errors
    ///
    /// [`Error::Inherited`] in another process than the one that made the pool.
    pub(super) fn check_owner(&self, what: &'static str) -> Result<()> {
        if self.generation != fork_generation() {
            return Err(Error::Inherited { what });
        }
        Ok(())
    }

    /// # Errors
    ///
    /// If the pool takes no tasks from everybody: it is closed, terminated or broken.
    pub(super) fn check_open(&self) -> Result<()> {
        self.check_serving()?;
        match self.phase() {
            Phase::Open => Ok(()),
            Phase::Closed => Err(Error::Closed { state: "closed", hint: "close()" }),
            Phase::Terminated => Err(Error::Closed { state: "terminated", hint: "terminate()" }),
        }
    }

    /// # Errors
    ///
    /// If the pool runs no more tasks: it is terminated or broken.
    pub(super) fn check_serving(&self) -> Result<()> {
        if let Some(broken) = self.broken.get() {
            return Err(Error::Broken(broken.clone()));
        }
        if self.phase() == Phase::Terminated {
            return Err(Error::Closed { state: "terminated", hint: "terminate()" });
        }
        Ok(())
    }

    /// Counts somebody who may submit though the pool is closed. Counted before the look at the
    /// phase: `close` looks at the count after it has changed the phase, so one of the two sees the
    /// other.
    pub(super) fn add_feeder(&self) {
        self.feeders.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn remove_feeder(&self) {
        self.feeders.fetch_sub(1, Ordering::SeqCst);
    }

    /// Returns whether somebody may submit though the pool is closed.
    pub(super) fn is_fed(&self) -> bool {
        self.feeders.load(Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_never_goes_back() {
        let lifecycle = Lifecycle::new();
        assert!(lifecycle.check_open().is_ok());
        lifecycle.advance_to(Phase::Terminated);
        lifecycle.advance_to(Phase::Closed);
        assert_eq!(lifecycle.phase(), Phase::Terminated);
        assert!(matches!(lifecycle.check_serving(), Err(Error::Closed { state: "terminated", .. })));
    }

    #[test]
    fn a_closed_pool_still_serves() {
        let lifecycle = Lifecycle::new();
        lifecycle.advance_to(Phase::Closed);
        assert!(lifecycle.check_serving().is_ok());
        assert!(matches!(lifecycle.check_open(), Err(Error::Closed { state: "closed", .. })));
    }

    #[test]
    fn the_first_reason_to_break_stays() {
        let lifecycle = Lifecycle::new();
        let first = lifecycle.break_with(Arc::new(Error::Overwritten { what: "a lock", pid: None }));
        let second = lifecycle.break_with(Arc::new(Error::Terminated));
        assert!(Arc::ptr_eq(&first, &second) && lifecycle.is_overwritten() && lifecycle.has_given_up());
        assert!(matches!(lifecycle.check_open(), Err(Error::Broken(_))));
    }
}
