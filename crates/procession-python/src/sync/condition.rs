//! `Condition`: who waits at a `procession.synchronize.Condition`, which keeps the lock that goes
//! with it.

use std::sync::Mutex;

use procession_core::sync::{Condition as Engine, Refused, attach_number, made};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::{SemLock, handle, raised, told};
use crate::wait::{attached, blocking, deadline};

/// Those who wait to be notified.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Condition {
    engine: Engine,
}

#[pymethods]
impl Condition {
    #[new]
    fn new() -> PyResult<Condition> {
        Ok(Condition { engine: made(Engine::create(), "Condition").map_err(raised)? })
    }

    /// The one that another object has as its `handle`. The fd stays the caller's.
    #[staticmethod]
    fn attach(fd: i32, offset: u64) -> PyResult<Condition> {
        Ok(Condition { engine: attach_number(fd, offset, "Condition").map_err(raised)? })
    }

    /// Releases `lock` as often as `count` says, once this thread is known to wait, and waits to be
    /// notified; False when `timeout` seconds were over first. The caller acquires again.
    ///
    /// Raises what `lock.release()` raises; RuntimeError, with nothing released, if too many wait.
    fn wait(&self, py: Python<'_>, lock: Py<PyAny>, count: usize, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = deadline(timeout)?;
        let failed = Mutex::new(None);
        let release = || {
            let released = attached(|py| (0..count).try_for_each(|_| release(lock.bind(py))));
            let is_released = released.is_ok();
            *failed.lock().expect("nothing panics while it is locked") = released.err();
            is_released
        };
        // If a signal's handler raises now, the notification goes to the next.
        let pass_on = |waited: &Result<Option<bool>, Refused>| {
            if matches!(waited, Ok(Some(true))) {
                // Memory that is beyond use is told of by the next call; now the handler's
                // exception is raised.
                let _ = self.engine.notify(1);
            }
            false
        };
        match blocking(py, || self.engine.wait_if(deadline, release), pass_on)? {
            Ok(Some(is_notified)) => Ok(is_notified),
            Ok(None) => {
                let error = failed.into_inner().ok().flatten();
                Err(error.unwrap_or_else(|| PyRuntimeError::new_err("the lock was not released")))
            }
            Err(reason) => Err(told("Condition")(reason)),
        }
    }

    /// Notifies up to `count` of those who wait, who came first first; returns how many.
    fn notify(&self, count: usize) -> PyResult<usize> {
        self.engine.notify(count).map_err(told("Condition"))
    }

    /// Returns the number of waiters.
    fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// The fd of the memory it is in, which stays this object's, and where it is there: what
    /// `attach` takes.
    #[getter]
    fn handle(&self) -> (i32, u64) {
        handle(&self.engine)
    }
}

fn release(lock: &Bound<'_, PyAny>) -> PyResult<()> {
    match lock.cast::<SemLock>() {
        Ok(lock) => lock.get().release_once(),
        Err(_) => lock.call_method0("release").map(drop),
    }
}
