//! Lines that children print, for Python functions. They are called in the engine's thread that
//! reads the pipes, with the interpreter attached once for all lines that came together.

use std::sync::Arc;

use procession_core::output::{self as core, Entering, Output, StreamName};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::records::Receiver;
use crate::wait::{attached, attached_for_output};

/// A line that a child has printed.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Line {
    bytes: Vec<u8>,
    /// Its stream: `stdout` or `stderr`.
    #[pyo3(get)]
    stream: &'static str,
    /// The name of the process.
    #[pyo3(get)]
    name: String,
    /// The pid of the process, on its machine.
    #[pyo3(get)]
    pid: u32,
    /// The machine of the process; `None` if it is this one.
    #[pyo3(get)]
    host: Option<String>,
    /// The slot of a pool's worker.
    #[pyo3(get)]
    worker: Option<usize>,
    /// True if a newline ended it.
    #[pyo3(get)]
    is_whole: bool,
}

#[pymethods]
impl Line {
    /// The line without its newline, as text; bytes that are no UTF-8 are replaced.
    #[getter]
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    fn __str__(&self) -> std::borrow::Cow<'_, str> {
        self.text()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    fn __repr__(&self) -> String {
        let Line { name, pid, stream, .. } = self;
        format!("<Line of {name} ({pid}) on {stream}: {:?}>", self.text())
    }
}

/// Reads what Python code has asked for; see `Surroundings`.
pub(crate) fn read(asked: &Bound<'_, PyAny>) -> PyResult<Output> {
    match asked.extract::<String>().as_deref() {
        Ok("null") => Ok(Output::Null),
        Ok("prefix") => Ok(Output::Prefix),
        Ok(other) => Err(PyValueError::new_err(format!("there is no output {other:?}"))),
        Err(_) => Ok(calling(asked.clone().unbind())),
    }
}

/// Has a function get each line. `get` returns it, or `None` once its owner is gone.
fn calling(get: Py<PyAny>) -> Output {
    Output::callback(move |line: &core::Line<'_>| {
        attached(|py| {
            let function = match get.bind(py).call0() {
                Ok(function) if function.is_none() => return,
                Ok(function) => function,
                Err(error) => return error.write_unraisable(py, Some(get.bind(py))),
            };
            let stream = match line.stream() {
                StreamName::Stdout => "stdout",
                StreamName::Stderr => "stderr",
            };
            let (host, pid) = place_of(py, line.pid());
            let (name, worker) = (line.name().to_owned(), line.slot());
            let line =
                Line { bytes: line.bytes().to_vec(), stream, name, pid, host, worker, is_whole: line.is_whole() };
            if let Err(error) = function.call1((line,)) {
                error.write_unraisable(py, Some(&function));
            }
        });
    })
}

/// Returns the machine and the pid there of the process for which a local one stands, or no machine
/// and the pid.
fn place_of(py: Python<'_>, pid: u32) -> (Option<String>, u32) {
    let place = py
        .import(intern!(py, "procession._errors"))
        .and_then(|errors| errors.call_method1(intern!(py, "place_of"), (pid,)))
        .and_then(|place| place.extract::<Option<(String, u32)>>());
    match place {
        Ok(place) => place.map_or((None, pid), |(host, pid)| (Some(host), pid)),
        Err(error) => {
            error.write_unraisable(py, None);
            (None, pid)
        }
    }
}

/// Attaches the interpreter around the callbacks of lines and records, and delivers the records
/// that have come. What comes after the program's end is dropped.
pub(crate) fn entering(receiver: Option<Arc<Receiver>>) -> Entering {
    Entering::new(move |act| {
        attached_for_output(|py| {
            act();
            if let Some(receiver) = &receiver {
                receiver.deliver(py);
            }
        });
    })
}
