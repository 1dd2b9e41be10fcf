//! The start of workers of a pool of Python's: a callable of the Python side starts a process of
//! the pool's context. The engine calls it, in whichever thread starts workers; the interpreter is
//! attached here.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use procession_core::child::{Child, Popen};
use procession_core::pool::role::Worker;
use procession_core::preparation::Preparation;
use procession_core::start::{Start, StartMethod};
use procession_core::{Error, Result, SignalsBlocked, interrupt};
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;

use crate::process::Child as Process;
use crate::surroundings::Setting;
use crate::wait::{self, attached};

/// Starts workers by `start(name, control, slot, broker, blocked, setting)`, which returns the
/// `Child` that it started. Signals are blocked meanwhile; `blocked` are those that the child is to
/// have blocked too. `setting` is what it is to have around it, if that is anything.
pub(super) struct Starter {
    method: StartMethod,
    start: Py<PyAny>,
}

impl Starter {
    pub(super) fn new(method: StartMethod, start: Py<PyAny>) -> Starter {
        Starter { method, start }
    }
}

impl Start for Starter {
    fn method(&self) -> StartMethod {
        self.method
    }

    fn popen(&self, _: Preparation<'_>) -> Result<Popen> {
        Err(Error::Bug("a process of Python's is started whole"))
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let Preparation { name, setting, role, .. } = preparation;
        let worker = role.as_any().and_then(|role| role.downcast_ref::<Worker>());
        let Some(Worker { control, slot, broker, .. }) = worker else {
            return Err(Error::Bug("a pool of Python's starts workers only"));
        };
        // No handler runs between the fork and the engine's hold on the child: what it raised would
        // lose the child.
        let blocked = SignalsBlocked::new();
        // Those of signals that came before run now, or they would run there.
        if interrupt::ask() {
            return Err(Error::Interrupted);
        }
        let before = blocked.blocked_before();
        let started = attached(|py| {
            let setting = Setting::of_worker(setting);
            let args = (&name, control.as_fd().as_raw_fd(), *slot, broker.as_fd().as_raw_fd(), before, setting);
            let child = self.start.bind(py).call1(args).and_then(|child| {
                let Some(child) = child.extract::<Option<Bound<'_, Process>>>()? else {
                    return Err(PyTypeError::new_err("it has no pid, and a pool's workers must be processes"));
                };
                Ok(child.get().shared())
            });
            child.map_err(|error| {
                if error.is_instance_of::<PyException>(py) {
                    return Error::Invalid(format!("cannot start a worker process: {error}"));
                }
                // A signal reached another thread, and this one, the main thread, ran the handler
                // all the same.
                wait::end_by(error);
                Error::Interrupted
            })
        });
        drop(blocked);
        // A signal that has come meanwhile ends the call that wants the worker, now that the worker
        // is held.
        if started.is_ok() {
            interrupt::ask();
        }
        started
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").field("method", &self.method).finish_non_exhaustive()
    }
}
