//! The classes under `procession.synchronize`: locks, semaphores, conditions, events and barriers
//! of the engine's, each a thin translation. Called by Python code in any process and thread, with
//! the interpreter attached; what can be had at once is had without detaching it.
//!
//! An object is its arena's fd and an offset in it: its `handle`, by which `attach` finds it in
//! another process.

mod barrier;
mod condition;
mod event;
mod semlock;

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_core::sync::{Primitive, Refused, refused};
use procession_core::{Error, PerProcess, current_pid};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pub(crate) use barrier::Barrier;
pub(crate) use condition::Condition;
pub(crate) use event::Event;
pub(crate) use semlock::SemLock;

/// The state of an object that `__init__` or unpickling makes, and not `__new__`, so that Python's
/// classes may be derived from it with arguments of their own.
struct Later<P>(OnceLock<P>);

impl<P> Later<P> {
    const fn new() -> Self {
        Later(OnceLock::new())
    }

    fn make(&self, made: P) -> PyResult<()> {
        self.0.set(made).map_err(|_| PyRuntimeError::new_err("it has been made before"))
    }

    #[inline]
    fn get(&self) -> PyResult<&P> {
        self.0.get().ok_or_else(|| PyRuntimeError::new_err("it was never made: call __init__ of the base class"))
    }
}

/// The arena's fd, which stays the object's, and where it is there.
fn handle(primitive: &impl Primitive) -> (i32, u64) {
    (primitive.fd().as_raw_fd(), primitive.offset())
}

/// Returns the Python exception of an error of the engine. Errors that a user could have foreseen
/// are raised by the caller instead.
fn raised(error: Error) -> PyErr {
    match error {
        Error::Os { ref source, .. } => crate::error::refused(source, error.to_string()),
        error => PyRuntimeError::new_err(error.to_string()),
    }
}

/// As [`raised`], of a refusal.
fn told(what: &'static str) -> impl Fn(Refused) -> PyErr {
    move |reason| raised(refused(what, "its time")(reason))
}

/// The calling thread, unlike any other of any process that this memory may have been copied to by
/// a fork. Never 0.
#[inline]
fn this_thread() -> u64 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    let number = NUMBER.get();
    let number = if number == 0 { NEXT.fetch_add(1, Ordering::Relaxed) } else { number };
    NUMBER.set(number);
    u64::from(this_process()) << 32 | u64::from(number)
}

/// The process of a [thread](this_thread).
fn process_of(thread: u64) -> u32 {
    (thread >> 32) as u32
}

#[inline]
fn this_process() -> u32 {
    static PID: PerProcess<u32> = PerProcess::new(current_pid);
    *PID.get()
}
