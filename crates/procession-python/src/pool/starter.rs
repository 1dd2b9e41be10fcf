//! How a pool of Python's gets its workers: by a callable of the Python side, which starts a process of the pool's context. Called
//! by the engine, in whichever thread starts workers; the interpreter is attached here.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use procession_core::child::Child;
use procession_core::preparation::{Preparation, Target};
use procession_core::start::{Method, Popen, Start};
use procession_core::{Error, Result};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::process::Child as Process;

/// Starts workers by `start(name, control, slot, desk)`, which returns the `Child` that it started.
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
            let Some(child) = self.start.bind(py).call1(args)?.extract::<Option<Bound<'_, Process>>>()? else {
                return Err(PyTypeError::new_err("it has no pid, and a pool's workers must be processes"));
            };
            Ok(child.get().shared())
        })
        .map_err(|error| Error::Invalid(format!("cannot start a worker process: {error}")))
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").field("method", &self.method).finish_non_exhaustive()
    }
}
