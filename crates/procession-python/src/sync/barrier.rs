//! `Barrier`: what a `procession.synchronize.Barrier` waits at.

use procession_core::sync::{Barrier as Engine, Refused, attach_number, made};
use procession_core::{Error, sync};
use pyo3::exceptions::PyValueError;
use pyo3::import_exception;
use pyo3::prelude::*;

use super::{handle, raised, told};
use crate::wait::{attached, blocking, deadline};

import_exception!(threading, BrokenBarrierError);

/// A number of parties that wait for each other.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Barrier {
    engine: Engine,
}

#[pymethods]
impl Barrier {
    #[new]
    fn new(parties: i64) -> PyResult<Barrier> {
        let count = u32::try_from(parties).ok().filter(|parties| *parties > 0);
        let count = count.ok_or_else(|| PyValueError::new_err(format!("parties must be >= 1, not {parties}")))?;
        let engine = made(Engine::create(count), "Barrier").map_err(|error| match error {
            Error::Invalid(text) => PyValueError::new_err(text),
            error => raised(error),
        })?;
        Ok(Barrier { engine })
    }

    /// The one that another object has as its `handle`. The fd stays the caller's.
    #[staticmethod]
    fn attach(fd: i32, offset: u64) -> PyResult<Barrier> {
        Ok(Barrier { engine: attach_number(fd, offset, "Barrier").map_err(raised)? })
    }

    /// Waits for all parties, for no longer than `timeout` seconds; returns which of them this one
    /// was, the first being 0. The last one calls `action` before anybody goes on.
    ///
    /// Raises BrokenBarrierError; what the action raises.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>, action: Option<Py<PyAny>>) -> PyResult<u32> {
        let deadline = deadline(timeout)?;
        let mut failed = None;
        let act = action.map(|action| {
            let failed = &mut failed;
            move || {
                *failed = attached(|py| action.call0(py).err());
                failed.is_none()
            }
        });
        let waited = blocking(py, || self.engine.wait_with(deadline, act), |_| false)?;
        match (failed, waited) {
            (Some(error), _) => Err(error),
            (None, Ok(index)) => Ok(index),
            (None, Err(Refused::TimedOut | Refused::Broken)) => Err(BrokenBarrierError::new_err(())),
            (None, Err(reason)) => Err(told("Barrier")(reason)),
        }
    }

    /// Breaks it for who waits, and makes it whole.
    fn reset(&self) -> PyResult<()> {
        self.engine.reset().map_err(told("Barrier"))
    }

    /// Breaks it.
    fn abort(&self) -> PyResult<()> {
        self.engine.abort().map_err(told("Barrier"))
    }

    /// Returns the number of parties that the barrier is for.
    #[getter]
    fn parties(&self) -> u32 {
        self.engine.parties()
    }

    /// Returns the number of parties that wait.
    #[getter]
    fn waiting(&self) -> u32 {
        self.engine.waiting()
    }

    /// Returns whether the barrier is broken.
    #[getter]
    fn broken(&self) -> bool {
        self.engine.is_broken()
    }

    /// The fd of the memory it is in, which stays this object's, and where it is there: what
    /// `attach` takes.
    #[getter]
    fn handle(&self) -> (i32, u64) {
        handle(&self.engine)
    }

    /// This process is no party any more of any barrier. Called when it leaves, so that it is not
    /// taken for dead.
    #[staticmethod]
    fn leave_all() {
        sync::leave_barriers();
    }
}
