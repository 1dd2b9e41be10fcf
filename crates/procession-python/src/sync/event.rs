//! `Event`, the base of `procession.synchronize.Event`.

use procession_core::sync::{Event as Engine, attach_number, made};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Later, handle, raised};
use crate::wait::{blocking, deadline};

/// A flag that any process sets, clears and waits for.
#[pyclass(subclass, frozen, module = "procession._engine")]
pub(crate) struct Event {
    made: Later<Engine>,
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Event {
        Event { made: Later::new() }
    }

    /// Makes it, clear. Called once.
    fn _make(&self) -> PyResult<()> {
        self.made.make(made(Engine::create(), "Event").map_err(raised)?)
    }

    /// Makes this an object of the event that another object has as its `handle`. The fd stays the
    /// caller's. Called once.
    fn _attach(&self, fd: i32, offset: u64) -> PyResult<()> {
        self.made.make(attach_number(fd, offset, "Event").map_err(raised)?)
    }

    /// Returns whether the event is set.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.made.get()?.is_set())
    }

    /// Sets it, and wakes all who wait.
    fn set(&self) -> PyResult<()> {
        self.made.get()?.set();
        Ok(())
    }

    /// Clears it.
    fn clear(&self) -> PyResult<()> {
        self.made.get()?.clear();
        Ok(())
    }

    /// Waits until it is set, for no longer than `timeout` seconds, and returns whether it was.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.made.get()?;
        if event.is_set() || timeout.is_some_and(|timeout| timeout <= 0.0) {
            return Ok(event.is_set());
        }
        let deadline = deadline(timeout)?;
        blocking(py, || event.wait(deadline), |_| false)
    }

    /// The fd of the memory it is in, which stays this object's, and where it is there: what
    /// `_attach` takes.
    #[getter]
    fn handle(&self) -> PyResult<(i32, u64)> {
        self.made.get().map(handle)
    }
}
