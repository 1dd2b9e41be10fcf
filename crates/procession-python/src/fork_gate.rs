//! Keeps forks and threads that are about to enter the interpreter apart.
//!
//! The interpreter makes a state for a thread that enters it for the first time, under a lock of
//! its own and before the thread has the interpreter. The engine's threads enter for each call of
//! Python code. Python 3.11 copies that lock into a forked child as it is, and the child then waits
//! for it for ever. From 3.12 on the child makes the lock anew before it takes it.
//!
//! So on 3.11 each `os.fork` of the program holds such threads back: by [`hold_entries`] before it,
//! and [`release_entries`] after it in the parent. A child begins without either.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use procession_core::PerProcess;
use pyo3::prelude::*;

use crate::interpreter::knows_this_thread;

/// The threads that fork or enter now. One of the two numbers is zero.
#[derive(Default)]
struct Gate {
    /// The threads that enter the interpreter for the first time.
    entering: usize,
    /// The threads that fork.
    forking: usize,
}

/// A thread that enters the interpreter. To be dropped once it is inside.
pub(crate) struct Entry {
    is_counted: bool,
}

impl Entry {
    /// Waits while a fork is under way, unless the interpreter knows this thread.
    pub(crate) fn begin() -> Entry {
        if knows_this_thread() {
            return Entry { is_counted: false };
        }
        let mut gate = locked();
        while gate.forking > 0 {
            gate = changed().wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.entering += 1;
        Entry { is_counted: true }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_counted {
            locked().entering -= 1;
            changed().notify_all();
        }
    }
}

/// Before a fork: waits until no thread is entering the interpreter, and holds the next ones back.
#[pyfunction]
pub(crate) fn hold_entries(py: Python<'_>) {
    // One that is entering may be waiting for the interpreter.
    py.detach(|| {
        let mut gate = locked();
        gate.forking += 1;
        drop(changed().wait_while(gate, |gate| gate.entering > 0));
    });
}

/// In the parent, after a fork, also if that failed: lets threads enter the interpreter again.
#[pyfunction]
pub(crate) fn release_entries() {
    let mut gate = locked();
    // This module may have been imported by a function that runs before a fork.
    gate.forking = gate.forking.saturating_sub(1);
    changed().notify_all();
}

fn locked() -> MutexGuard<'static, Gate> {
    gate().0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changed() -> &'static Condvar {
    &gate().1
}

fn gate() -> &'static (Mutex<Gate>, Condvar) {
    static GATE: PerProcess<(Mutex<Gate>, Condvar)> = PerProcess::new(Default::default);
    GATE.get()
}
