//! The engine's errors as Python's exceptions. Called wherever the engine has refused something,
//! with the interpreter attached.

use std::io;
use std::sync::Arc;

use procession_core::confinement::Limit;
use procession_core::outcome::Loss;
use procession_core::{Errno, Error};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::wait::stay_if_left_behind;

/// Returns the Python exception of an error of the engine.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    if matches!(error, Error::Terminated | Error::Closed { .. }) {
        stay_if_left_behind(py);
    }
    match error {
        Error::Timeout { .. } => of_package(py, "TimeoutError", ()),
        Error::Cancelled => of_package(py, "CancelledError", (error.to_string(),)),
        Error::Terminated | Error::WorkerFailed { .. } => of_package(py, "ProcessError", (error.to_string(),)),
        Error::Closed { .. } => PyValueError::new_err("Pool not running"),
        Error::ListenerClosed => PyOSError::new_err("listener is closed"),
        Error::Authentication(why) => of_package(py, "AuthenticationError", (why.as_str(),)),
        Error::Broken(cause) => {
            let reason = raised(py, cause);
            let text = match &**cause {
                Error::Overwritten { .. } => cause.to_string(),
                Error::Initializer { .. } => format!("no worker of the pool could be kept: {}", advice(py, &reason)),
                _ => format!("no worker of the pool could be kept: {cause}"),
            };
            let broken = of_package(py, "BrokenPoolError", (text,));
            broken.set_cause(py, Some(reason));
            broken
        }
        Error::Initializer { payload, .. } => remote(py, payload),
        Error::Invalid(text) => PyValueError::new_err(text.clone()),
        Error::Os { source, .. } => refused(source, error.to_string()),
        _ => PyRuntimeError::new_err(error.to_string()),
    }
}

/// Returns the exception that a worker raised before it was ready, in a line that says what to do.
fn advice(py: Python<'_>, reason: &PyErr) -> String {
    py.import("procession._tracebacks")
        .and_then(|tracebacks| tracebacks.call_method1("shorten_cause", (reason.value(py),))?.extract())
        .unwrap_or_else(|error| error.to_string())
}

/// Returns the exception of a refusal by the system: a limit of addresses is a `MemoryError`, all
/// else an `OSError`.
pub(crate) fn refused(source: &io::Error, text: String) -> PyErr {
    match (source.raw_os_error(), source.kind()) {
        (Some(number), _) => PyOSError::new_err((number, text)),
        (None, io::ErrorKind::OutOfMemory) => PyMemoryError::new_err(text),
        (None, io::ErrorKind::FileTooLarge) => PyOSError::new_err((Errno::FBIG.raw_os_error(), text)),
        (None, _) => PyOSError::new_err(text),
    }
}

/// As [`refused`], of what the system has refused to this process. PyO3's own conversion leaves
/// `errno` away, by which programs tell errors apart.
pub(crate) trait OrOsError<T> {
    fn or_os_error(self) -> PyResult<T>;
}

impl<T> OrOsError<T> for io::Result<T> {
    fn or_os_error(self) -> PyResult<T> {
        self.map_err(os_error)
    }
}

/// Returns the exception of one error, as [`OrOsError`].
pub(crate) fn os_error(error: io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, os_text(&error))),
        // May carry an exception of Python's.
        None => error.into(),
    }
}

/// Returns what an error of the system says, without its number.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(text.as_str(), |(text, _)| text).to_owned()
}

/// As [`raised`], of a result.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}

impl<T> OrRaise<T> for Result<T, Arc<Error>> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}

/// The exception that a task raised in its process. `first` is the index of the task's first call
/// in the user's.
pub(crate) fn of_task(py: Python<'_>, payload: &[u8], call: &str, first: usize) -> PyErr {
    let unpacked = py
        .import("procession._remote")
        .and_then(|remote| remote.call_method1("unpack_task", (PyBytes::new(py, payload), call, first)));
    unpacked.map_or_else(|error| error, PyErr::from_value)
}

/// The exception that an initializer raised in its process.
pub(crate) fn remote(py: Python<'_>, payload: &[u8]) -> PyErr {
    let unpacked =
        py.import("procession._remote").and_then(|remote| remote.call_method1("unpack", (PyBytes::new(py, payload),)));
    match unpacked {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// A task's worker was lost, or ended because the task ran out of its time.
pub(crate) fn lost(py: Python<'_>, loss: &Loss, function: &str, is_timeout: bool) -> PyErr {
    if let Some(Limit::Memory(limit)) = loss.limit {
        return of_package(py, "lost", ("MemoryLimitError", loss.pid, loss.code, function, limit));
    }
    let class = if is_timeout { "TaskTimeoutError" } else { "WorkerLost" };
    of_package(py, "lost", (class, loss.pid, loss.code, function, loss.by_oom_killer))
}

/// An exception of a task, with where in the user's call it belongs. `name` is the function's.
pub(crate) fn located(py: Python<'_>, error: PyErr, call: &str, index: usize, name: Option<&str>) -> PyErr {
    let located = py
        .import("procession._remote")
        .and_then(|remote| remote.call_method1("locate", (error.value(py), call, index, name)));
    located.map_or_else(|why| why, |_| error)
}

fn of_package<'py>(py: Python<'py>, class: &str, args: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let made = py.import("procession._errors").and_then(|errors| errors.getattr(class)?.call1(args));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
