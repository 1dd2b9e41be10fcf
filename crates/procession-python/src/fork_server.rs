//! The fork server's client, on the engine's: the start of the server is Python's. Called by
//! `procession.forkserver` in the server's owner, in any thread, with the interpreter attached;
//! what may wait detaches.
//!
//! `start(code)` starts the server, where `code` is the exit code of the one before it, if that is
//! known. It returns the server's process and the owner's end of the link for requests.

use std::sync::Arc;

use procession_core::child as engine;
use procession_core::start::client::{self, Owner};
use procession_core::start::running_server::{self, RunningServer};
use procession_core::start::{ClosableLink, foreign};
use procession_core::{Error, ExitStatus, descriptor};
use pyo3::prelude::*;

use crate::error::{OrOsError, OrRaise, raised};
use crate::process::{self, Child, Link};
use crate::wait::interruptible;

/// Has the server make a child that reads `letter` and gets copies of the fds. The child is
/// `holder`'s attribute of that name before any handler of a signal runs, which could raise. If one
/// raises before, the child ends by itself.
#[pyfunction]
#[pyo3(signature = (start, holder, attribute, letter, fds, name, daemon, leads_group = false))]
#[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
pub(crate) fn start_by_server(
    start: &Bound<'_, PyAny>,
    holder: &Bound<'_, PyAny>,
    attribute: &str,
    letter: &[u8],
    fds: Vec<i32>,
    name: String,
    daemon: bool,
    leads_group: bool,
) -> PyResult<()> {
    let popen = client::start_child(&Interpreter { start, letter, fds: &fds, leads_group })?;
    holder.setattr(attribute, Child::held(engine::Child::new(name, daemon, popen).leading_group(leads_group)))
}

/// Starts the server, unless it runs.
#[pyfunction]
pub(crate) fn ensure_server(start: &Bound<'_, PyAny>) -> PyResult<()> {
    client::ensure_running(&Interpreter { start, letter: &[], fds: &[], leads_group: false })
}

/// Ends and reaps the server, if one runs.
#[pyfunction]
pub(crate) fn stop_server(py: Python<'_>) -> PyResult<()> {
    interruptible(py, running_server::stop)?.or_raise(py)
}

/// The server's process id, if one runs.
#[pyfunction]
pub(crate) fn server_pid() -> Option<u32> {
    running_server::running().map(|server| server.process().pid())
}

/// This interpreter as the owner of its fork server.
struct Interpreter<'a, 'py> {
    start: &'a Bound<'py, PyAny>,
    letter: &'a [u8],
    fds: &'a [i32],
    leads_group: bool,
}

impl Owner for Interpreter<'_, '_> {
    type Error = PyErr;

    fn start_server(&self, last: Option<ExitStatus>) -> PyResult<RunningServer> {
        let started = self.start.call1((last.map(ExitStatus::code),))?;
        let (process, requests): (PyRef<'_, Child>, PyRef<'_, Link>) = started.extract()?;
        Ok(RunningServer::new(process.shared(), requests.shared()))
    }

    fn send_first(&self) -> PyResult<(Arc<ClosableLink>, foreign::Link)> {
        let (ours, theirs) = process::pair()?;
        let fds =
            self.fds.iter().copied().map(descriptor::duplicate).collect::<std::io::Result<Vec<_>>>().or_os_error()?;
        ours.using(|link| foreign::send(link, self.letter, &fds)).transpose().or_os_error()?;
        Ok((ours, theirs))
    }

    fn leads_group(&self) -> bool {
        self.leads_group
    }

    fn run<R: Send>(&self, act: impl FnOnce() -> R + Send) -> PyResult<R> {
        interruptible(self.start.py(), act)
    }

    fn refused(&self, error: Error) -> PyErr {
        raised(self.start.py(), &error)
    }
}
