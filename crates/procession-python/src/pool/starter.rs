//! How a pool of Python's gets its workers: by a callable of the Python side, which starts a process of the pool's context. Called
//! by the engine, in whichever thread starts workers; the interpreter is attached here.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use procession_core::child::Child;
use procession_core::preparation::{Preparation, Target};
use procession_core::start::{Method, Popen, Start, foreign};
use procession_core::{Error, Result};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::process::Child as Process;

/// Starts workers by `start(name, control, slot, desk)`, which returns a started `Process`.
pub(super) struct Starter {
    method: Method,
    start: Py<PyAny>,
}

impl Starter {
    pub(super) fn new(method: Method, start: Py<PyAny>) -> Starter {
        Starter { method, start }
    }
}

impl Start for Starter {
    fn method(&self) -> Method {
        self.method
    }

    fn popen(&self, _: Preparation<'_>) -> Result<Popen> {
        Err(Error::Invalid("a process of Python's is started whole".into()))
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let Target::Worker { control, slot, desk, .. } = &preparation.target else {
            return Err(Error::Invalid("a pool of Python's starts workers only".into()));
        };
        Python::attach(|py| {
            let args = (&preparation.name, control.as_fd().as_raw_fd(), *slot, desk.as_fd().as_raw_fd());
            held(&self.start.bind(py).call1(args)?)
        })
        .map_err(|error| Error::Invalid(format!("cannot start a worker process: {error}")))
    }
}

/// The engine's hold on a started process. One of another library's context is known by its pid.
fn held(process: &Bound<'_, PyAny>) -> PyResult<Arc<Child>> {
    if let Ok(child) = process.getattr("_popen").and_then(|popen| popen.getattr("_child"))
        && let Ok(child) = child.cast_into::<Process>()
    {
        return Ok(child.get().shared());
    }
    let pid = process.getattr("pid").and_then(|pid| pid.extract());
    let pid =
        pid.map_err(|_| PyTypeError::new_err(format!("{process} has no pid: a pool's workers must be processes")))?;
    let (name, daemon) = (process.getattr("name")?.extract()?, process.getattr("daemon")?.is_truthy()?);
    Ok(Arc::new(foreign::of_others(pid, name, daemon)?))
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").field("method", &self.method).finish_non_exhaustive()
    }
}
