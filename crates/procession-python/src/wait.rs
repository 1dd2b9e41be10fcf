//! Waits of the engine's as Python wants them: with the interpreter detached, and with signal
//! handlers that run at once. Called by every method that may block, in any thread.

use std::cell::{Cell, RefCell};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use procession_core::{PerProcess, interrupt};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::fork_gate::Entry;
use crate::interpreter::raise_soon;

/// Runs `wait` with the interpreter detached. Signals that come meanwhile are handled; if a handler
/// raises, the engine's waits in it end as if their deadline had come, and the exception is raised
/// unless `wait` `is_done` all the same.
pub(crate) fn blocking<R: Send>(
    py: Python<'_>,
    wait: impl FnOnce() -> R + Send,
    is_done: impl FnOnce(&R) -> bool,
) -> PyResult<R> {
    let (returned, raised) = py.detach(|| {
        let outer = RAISED.take();
        let ask = || match attached(|py| py.check_signals()) {
            Ok(()) => false,
            Err(error) => {
                RAISED.set(Some(error));
                true
            }
        };
        let returned = interrupt::interruptible(ask, wait);
        (returned, RAISED.replace(outer))
    });
    match raised {
        Some(error) if !is_done(&returned) => Err(error),
        Some(error) => {
            // The result of the wait is there and must not be lost.
            raise_soon(py, error);
            Ok(returned)
        }
        None => Ok(returned),
    }
}

/// As [`blocking`], for what starts or changes something: an exception of a handler is raised
/// whatever came of it.
pub(crate) fn interruptible<R: Send>(py: Python<'_>, act: impl FnOnce() -> R + Send) -> PyResult<R> {
    blocking(py, act, |_| false)
}

/// In a call that [`blocking`] runs: ends it, with this exception to be raised.
pub(crate) fn end_by(error: PyErr) {
    RAISED.set(Some(error));
    interrupt::end();
}

/// Runs `act` with the interpreter attached. If the interpreter has ended, the program has left
/// this thread behind, and the call does not return.
pub(crate) fn attached<R>(act: impl FnOnce(Python<'_>) -> R) -> R {
    try_attached(act).unwrap_or_else(|| stay())
}

/// As [`attached`]; `None` if the interpreter has ended.
pub(crate) fn try_attached<R>(act: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let entry = Entry::begin();
    Python::try_attach(|py| {
        drop(entry);
        act(py)
    })
}

/// Calls of Python code by threads of the engine's own.
#[derive(Default)]
struct EngineCalls {
    running: usize,
    /// The program ends, and no more begin.
    are_over: bool,
}

/// The threads that call Python code. Each kind ends at its own time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Calls {
    /// Pools' threads.
    Pool,
    /// Those that read what children print and log. Children do so until they are joined, which is
    /// late at the program's end.
    Output,
}

fn engine_calls(kind: Calls) -> &'static (Mutex<EngineCalls>, Condvar) {
    type Both = [(Mutex<EngineCalls>, Condvar); 2];
    static CALLS: PerProcess<Both> = PerProcess::new(Default::default);
    &CALLS.get()[usize::from(kind == Calls::Output)]
}

/// Runs `act`, with the interpreter attached, in a thread of the engine's own; `None` once the
/// program ends. Such a thread must not be in Python code when the interpreter is finalized: up to
/// Python 3.13 that ends the thread by force, which no Rust code may be on the stack of.
pub(crate) fn attached_for_engine<R>(act: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    attached_for(Calls::Pool, act)
}

/// As [`attached_for_engine`], in a thread that reads what children print and log.
pub(crate) fn attached_for_output<R>(act: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    attached_for(Calls::Output, act)
}

fn attached_for<R>(kind: Calls, act: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    struct Running(Calls);
    impl Drop for Running {
        fn drop(&mut self) {
            let (calls, ended) = engine_calls(self.0);
            calls.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
            ended.notify_all();
        }
    }
    {
        let mut calls = engine_calls(kind).0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.are_over {
            return None;
        }
        calls.running += 1;
    }
    let _running = Running(kind);
    Some(attached(act))
}

/// At the program's end: has no thread of the engine's begin to call Python code, and waits for the
/// calls that run, though not for ever.
#[pyfunction]
pub(crate) fn end_engine_calls(py: Python<'_>) {
    py.detach(|| end_calls(Calls::Pool));
}

/// At the program's end, once its children are joined: delivers what they have printed and logged,
/// and has no more of it call Python code.
#[pyfunction]
pub(crate) fn end_output_calls(py: Python<'_>) {
    py.detach(|| {
        procession_core::output::finish_all();
        end_calls(Calls::Output);
    });
}

fn end_calls(kind: Calls) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let (calls, ended) = engine_calls(kind);
    let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.are_over = true;
    let waited = ended.wait_timeout_while(calls, TIMEOUT, |calls| calls.running > 0);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

/// Waits for the end of the process, as daemon threads of Python's own do where they would need the
/// interpreter after its end.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Before an exception of a pool that has ended is raised: if it has ended because the program
/// does, and this is a daemon thread, the call does not return. In the standard library such a
/// thread's wait has no end, and nothing is printed for it.
pub(crate) fn stay_if_left_behind(py: Python<'_>) {
    // The pool's own thread is waited for.
    if !IN_CALLBACK.get() && is_left_behind(py).unwrap_or(true) {
        py.detach(|| -> () { stay() });
    }
}

/// Returns whether the program is exiting, and this is none of the threads that it waits for. Fails
/// if too little is left of the program to tell.
fn is_left_behind(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    if threading.call_method0("get_ident")?.eq(main)? {
        return Ok(false);
    }
    // Before its finalizers run, a program has joined all threads but daemons.
    py.import("procession.util")?.call_method0("is_exiting")?.extract()
}

/// Runs a callback in a pool's own thread.
pub(crate) fn in_callback<R>(call: impl FnOnce() -> R) -> R {
    let before = IN_CALLBACK.replace(true);
    let returned = call();
    IN_CALLBACK.set(before);
    returned
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    /// The exception of a handler in the innermost `blocking` of this thread. The engine, through
    /// which it passes, knows no exceptions.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// The deadline of a wait of so many seconds from now; of a negative number, now. Without one, or
/// with infinity or a number beyond what a clock can say, there is none.
///
/// # Errors
///
/// `ValueError` for what is no number.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a timeout is a number of seconds, not NaN"));
    }
    let duration = Duration::try_from_secs_f64(seconds.max(0.0));
    Ok(duration.ok().and_then(|duration| Instant::now().checked_add(duration)))
}
