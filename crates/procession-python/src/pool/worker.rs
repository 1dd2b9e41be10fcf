//! A worker's part: runs the tasks that the engine's loop hands out. Runs in the worker process, in
//! its main thread.
//!
//! A task can end in these ways:
//!
//! | it | the caller gets | the worker |
//! |---|---|---|
//! | returns | the value | goes on |
//! | raises an `Exception`, or is interrupted by Ctrl-C | that exception | goes on |
//! | does not unpickle, or its result does not pickle | an error that says so | goes on |
//! | calls `sys.exit()`, or a handler of a signal does | `WorkerLost` with the exit code | ends, in an orderly way |
//! | the same, in an executor's task | `SystemExit` | goes on |
//! | calls `os._exit()`, is killed | `WorkerLost` | is dead |
//!
//! A process that a task forks itself, by `os.fork`, ends as it returns from the task.

use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::{AsFd, IntoRawFd, RawFd};
use std::sync::Arc;

use procession_core::outcome::tag;
use procession_core::pool::{Answer, Chunk, Control, Meter, Service, worker};
use procession_core::{Link, descriptor, fork_generation, handle, interrupt};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::carrier;
use super::channel::Channel;
use super::function;
use super::item::{self, Item, Kind};
use crate::error::OrOsError;
use crate::interpreter::Steps;

/// Serves a pool until it is closed and no task is left; returns the exit code. The fds stay the
/// caller's. With a `carrier`, a socket and a memfd, the tasks run elsewhere: see `carrier.rs`.
#[pyfunction]
#[pyo3(signature = (control, slot, broker, max_tasks = None, max_memory = None, carrier = None))]
pub(crate) fn run_worker(
    py: Python<'_>,
    control: RawFd,
    slot: u32,
    broker: RawFd,
    max_tasks: Option<NonZeroU32>,
    max_memory: Option<NonZeroU64>,
    carrier: Option<(RawFd, RawFd)>,
) -> PyResult<i32> {
    carrier::use_carrier(carrier.map(|(socket, bulk)| Channel::of_fds(socket, bulk)).transpose().or_os_error()?);
    let control = Arc::new(Control::attach(descriptor::duplicate(control).or_os_error()?).or_os_error()?);
    let broker = Arc::new(Link::from(descriptor::duplicate(broker).or_os_error()?));
    let service = Service { max_tasks, max_memory, ..Service::default() };
    let code =
        py.detach(|| interrupt::interruptible(handle_signals, || worker::serve(&control, slot, &service, broker)));
    Ok(code)
}

/// While a task is pickled: sends a copy of an fd along, and says what to pickle in its place.
#[pyfunction]
pub(crate) fn give_handle(fd: RawFd) -> PyResult<u32> {
    handle::send_fd(descriptor::duplicate(fd).or_os_error()?.as_fd(), "file descriptor")
        .map_err(PyRuntimeError::new_err)
}

/// While a task is unpickled: the fd that was sent along, which is the caller's from now on.
#[pyfunction]
pub(crate) fn take_handle(index: u32) -> PyResult<RawFd> {
    handle::receive_fd(index, "file descriptor").map(IntoRawFd::into_raw_fd).map_err(PyRuntimeError::new_err)
}

/// The function that every chunk of Python's enters by.
pub(super) fn entry(chunk: &mut Chunk) {
    let calls = chunk.calls();
    let meter = chunk.meter();
    let meter = meter.as_deref();
    if carrier::is_used() {
        let mut task = |item: &[u8], out: &mut Vec<u8>| {
            let carried = carrier::carry(item, &calls, meter, out);
            let fail = |error| Python::attach(|py| fail(py, &error, None, out, true));
            Answer::Written(carried.unwrap_or_else(fail))
        };
        return match meter {
            None => chunk.run(task),
            Some(_) => chunk.run_measured(&mut task),
        };
    }
    let begin_another = || calls.begin_another();
    let mut task = |item: &[u8], out: &mut Vec<u8>| {
        Python::attach(|py| Answer::Written(answer(py, item, &begin_another, meter, out)))
    };
    match meter {
        None => chunk.run(task),
        Some(_) => chunk.run_measured(&mut task),
    }
}

/// Runs the calls of an item and writes their outcome, whose tag it returns. `begin_another` is
/// called before each further call.
pub(super) fn answer(
    py: Python<'_>,
    item: &[u8],
    begin_another: &dyn Fn(),
    meter: Option<&Meter>,
    out: &mut Vec<u8>,
) -> u32 {
    // A Ctrl-C that came before this task is not meant for it.
    handle_signals_of(py);
    let Some(item) = item::read(item) else {
        return fail(py, &PyValueError::new_err("a task is cut off on its way to a worker"), None, out, false);
    };
    let mut called = None;
    let mut position = 0;
    let generation = fork_generation();
    let returned = run(py, &item, begin_another, meter, &mut called, &mut position).inspect(|_| called = None);
    if fork_generation() != generation {
        leave_copy(py, returned.err());
    }
    if let Some(meter) = meter {
        meter.end_work();
    }
    match returned.and_then(|value| write_result(&value, out)) {
        Ok(()) => tag::VALUE,
        Err(error) => fail(py, &error, Some((item.kind, called, position)), out, item.carries_exits),
    }
}

/// A function that was called, and its arguments as the item had them.
type Called<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Says what it `called`, and the `position` among the item's calls of the last that began.
fn run<'py>(
    py: Python<'py>,
    item: &Item<'_>,
    begin_another: &dyn Fn(),
    meter: Option<&Meter>,
    called: &mut Option<Called<'py>>,
    position: &mut usize,
) -> PyResult<Bound<'py, PyAny>> {
    let function = function::load(py, item.function)?;
    let value = item::read_value(py, item.value)?;
    let (function, value) = called.insert((function, value));
    let show = |position: usize| -> PyResult<String> {
        let parts = (item.kind as u8, &*function, &*value, position);
        py.import("procession._remote")?.call_method1("shown_call", parts)?.extract()
    };
    match item.kind {
        Kind::Call => {
            let args = value.cast::<PyTuple>()?;
            measured(meter, 0, show, || function.call1(args))
        }
        Kind::CallNamed => {
            let (args, named): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = value.extract()?;
            measured(meter, 0, show, || function.call(args, Some(&named)))
        }
        Kind::Map | Kind::Starmap => {
            // The interpreter calls the function itself, which takes no tuple for each call.
            static MAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            static STARMAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let map = match item.kind {
                Kind::Starmap => STARMAP.import(py, "itertools", "starmap")?,
                _ => MAP.import(py, "builtins", "map")?,
            };
            let calls = Steps::of(map.call1((&*function, &*value))?)?;
            let results = PyList::empty(py);
            for index in 0..value.len()? {
                if index > 0 {
                    begin_another();
                }
                *position = index;
                results.append(measured(meter, index, show, || calls.take()?.ok_or_else(ended_early))?)?;
            }
            Ok(results.into_any())
        }
    }
}

/// The error for items that are fewer than they count.
fn ended_early() -> PyErr {
    PyRuntimeError::new_err("the items of a task ended before their number")
}

/// Calls the function, and in a pool that measures notes how long it takes. `show` gives the text
/// of the call at a position.
#[inline]
fn measured<'py>(
    meter: Option<&Meter>,
    position: usize,
    show: impl Fn(usize) -> PyResult<String>,
    call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(meter) = meter {
        meter.begin_call();
    }
    let returned = call();
    if let Some(meter) = meter
        && let Some(nanos) = meter.end_call()
    {
        match show(position) {
            Ok(text) => meter.keep_call(nanos, &text),
            Err(error) => meter.keep_call(nanos, &format!("a call that cannot be shown: {error}")),
        }
    }
    returned
}

/// Encodes a result. One that does not pickle is an error that says so and shows it.
fn write_result(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let py = value.py();
    let Err(error) = item::write_value(out, value, false) else { return Ok(()) };
    out.clear();
    let remote = py.import("procession._remote")?;
    // An object that nobody can import, such as an instance of a class that came by value, goes by
    // value.
    let stand_in = remote.call_method1("by_value", (value, error.value(py)))?;
    if !stand_in.is_none() {
        return item::write_value(out, &stand_in, false);
    }
    let wrapped = remote.call_method1("encoding_error", (error.value(py), value));
    Err(wrapped.map_or_else(|error| error, PyErr::from_value))
}

/// Encodes the exception of a task, to be raised where its result is asked for.
fn fail(
    py: Python<'_>,
    error: &PyErr,
    call: Option<(Kind, Option<Called<'_>>, usize)>,
    out: &mut Vec<u8>,
    carries_exits: bool,
) -> u32 {
    let is_called = call.as_ref().is_some_and(|(_, called, _)| called.is_some());
    if !(carries_exits && is_called) && error.is_instance_of::<PySystemExit>(py) {
        leave(py, error);
    }
    out.clear();
    let call = call.map(|(kind, called, position)| (kind as u8, called, position));
    let parts = (error.value(py), error.traceback(py), call);
    let packed = py.import("procession._remote").and_then(|remote| remote.call_method1("pack_task", parts));
    let packed = packed.and_then(|packed| {
        let packed = packed.cast_into::<PyBytes>()?;
        out.extend_from_slice(packed.as_bytes());
        Ok(())
    });
    match packed {
        Ok(()) => tag::PANIC,
        Err(why) => {
            out.extend_from_slice(format!("{error}; and it cannot be sent: {why}").as_bytes());
            tag::UNENCODABLE
        }
    }
}

/// Ends this process as `sys.exit()` asks. Does not return.
fn leave(py: Python<'_>, exit: &PyErr) {
    let left = py.import("procession._remote").and_then(|remote| remote.call_method1("leave", (exit.value(py),)));
    // Only if the module itself is broken: the process must end all the same.
    let _ = left;
    std::process::exit(1);
}

/// Ends this process, which the task has forked and which has returned from it: it must not do the
/// worker's work beside the worker. `error` is what it raised. Does not return.
fn leave_copy(py: Python<'_>, error: Option<PyErr>) -> ! {
    let error = error.map(|error| error.into_value(py));
    // As above.
    let _ = py.import("procession._remote").and_then(|remote| remote.call_method1("leave_copy", (error,)));
    std::process::abort()
}

/// While the worker waits for tasks. Never ends the wait: what a handler raises ends the process,
/// or means nothing here.
fn handle_signals() -> bool {
    Python::attach(handle_signals_of);
    false
}

pub(super) fn handle_signals_of(py: Python<'_>) {
    let Err(error) = py.check_signals() else { return };
    if error.is_instance_of::<PySystemExit>(py) {
        leave(py, &error);
    }
    if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
        error.write_unraisable(py, None);
    }
}
