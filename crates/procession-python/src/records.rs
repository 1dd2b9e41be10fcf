//! Log records of children on the engine's pipes: Python writes and reads what is in them. Sent in
//! a child by whichever thread logs; received in the parent, in the engine's thread that reads the
//! pipes.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use procession_core::output::records::{self, Scope};
use procession_core::output::{Recording, Records, Source};
use procession_core::{Entry, EntryFn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::os_error;
use crate::wait::attached;

/// The Python object that gets records: by `receive(records, name, pid, slot)` a list of those of
/// one child that have come together, and by `forget(pid)` the end of a child.
pub(crate) struct Receiver {
    receiver: Py<PyAny>,
    /// Those that have come, and whose they are.
    batch: Mutex<Option<(Source, Vec<Py<PyBytes>>)>>,
}

impl Receiver {
    pub(crate) fn new(receiver: Py<PyAny>) -> Arc<Receiver> {
        Arc::new(Receiver { receiver, batch: Mutex::new(None) })
    }

    /// The records of a pool or process, whose children are told `argument`.
    pub(crate) fn records(self: &Arc<Self>, argument: Vec<u8>) -> Records {
        let (receiver, its) = (self.clone(), self.clone());
        let callback = move |source: &Source, record: &[u8], _: &Scope| receiver.add(source, record);
        let ended = move |source: &Source| its.forget(source);
        Records {
            begin: Entry::of(begin as EntryFn),
            argument,
            callback: Arc::new(callback),
            ended: Some(Arc::new(ended)),
        }
    }

    fn add(&self, source: &Source, record: &[u8]) {
        let record = attached(|py| PyBytes::new(py, record).unbind());
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        // All that come together are of one child.
        batch.get_or_insert_with(|| (source.clone(), Vec::new())).1.push(record);
    }

    /// Delivers what has come together.
    pub(crate) fn deliver(&self, py: Python<'_>) {
        let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((Source { name, pid, slot }, records)) = batch {
            self.show_error(py, self.receiver.call_method1(py, "receive", (records, name, pid, slot)));
        }
    }

    fn forget(&self, source: &Source) {
        attached(|py| self.show_error(py, self.receiver.call_method1(py, "forget", (source.pid,))));
    }

    fn show_error(&self, py: Python<'_>, returned: PyResult<Py<PyAny>>) {
        if let Err(error) = returned {
            error.write_unraisable(py, Some(self.receiver.bind(py)));
        }
    }
}

/// In an executed child: its end of the pipe, and what it was told.
pub(crate) fn recording(pipe: OwnedFd, argument: Vec<u8>) -> Recording {
    Recording::new(pipe, Entry::of(begin as EntryFn), argument)
}

/// In the child, before any code of a user: has log records sent.
fn begin(argument: &[u8], _: &mut Vec<u8>) -> u32 {
    attached(|py| {
        let logs = py.import("procession._logs");
        let begun = logs.and_then(|logs| logs.call_method1("begin", (PyBytes::new(py, argument),)));
        if let Err(error) = begun {
            error.write_unraisable(py, None);
        }
    });
    0
}

/// In a child: sends a record to the parent. `False` if the parent has asked this process for none.
/// `ValueError` if it is too long.
#[pyfunction]
pub(crate) fn send_record(py: Python<'_>, record: &[u8]) -> PyResult<bool> {
    if !records::are_wanted() {
        return Ok(false);
    }
    // It waits while the pipe is full.
    match py.detach(|| records::send(record)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::InvalidInput => Err(PyValueError::new_err(error.to_string())),
        Err(error) => Err(os_error(error)),
    }
}
