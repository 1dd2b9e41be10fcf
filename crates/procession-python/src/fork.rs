//! Forks. The fork server's own side: it forks by Python's rules, and the engine reaps and reports;
//! used in the server, by its only thread. And what Python's own fork wants to know of the engine's
//! threads; called by any.

use std::sync::{Mutex, PoisonError};

use procession_core::start::server;
use procession_core::{PidFd, other_threads};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::OrOsError;
use crate::process::Link;

/// The fork server's requests, and its children, whose ends it reports to its owner.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Server {
    server: Mutex<Option<server::Server>>,
}

#[pymethods]
impl Server {
    /// One whose owner sends its requests over this link.
    #[new]
    fn new(requests: &Link) -> PyResult<Server> {
        Ok(Server { server: Mutex::new(Some(server::Server::new(requests.take()?).or_os_error()?)) })
    }

    /// Waits for the next child's end of its link, and whether the child is to lead a process
    /// group. `None`: the owner is gone.
    fn next_request(&self, py: Python<'_>) -> PyResult<Option<(Link, bool)>> {
        let next = py.detach(|| self.using(server::Server::next_request))?;
        Ok(next.map(|request| (Link::of(request.link), request.leads_group)))
    }

    /// Takes over a child that was just forked, and its end of its link.
    fn keep_child(&self, pid: i32, link: &Link, leads_group: bool) -> PyResult<()> {
        let child = PidFd::of_new_child(pid).or_os_error()?;
        let request = server::Request { link: link.take()?, leads_group };
        self.using(|server| server.keep_child(child, request))
    }

    /// In a forked child: closes what is the server's.
    fn leave(&self) -> PyResult<()> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        server.map_or(Ok(()), server::Server::leave).or_os_error()
    }
}

impl Server {
    fn using<R>(&self, what: impl FnOnce(&mut server::Server) -> std::io::Result<R>) -> PyResult<R> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        what(server.as_mut().ok_or_else(|| PyValueError::new_err("this process has left its fork server"))?)
            .or_os_error()
    }
}

/// Writes out what C's streams hold, as Python's are by Python.
#[pyfunction]
pub(crate) fn flush_stdio() {
    procession_core::flush_stdio();
}

/// Returns whether this process has no threads but the caller and the engine's own, of which a
/// forked child wants nothing.
#[pyfunction]
pub(crate) fn is_single_threaded() -> bool {
    // Without `/proc` it cannot be known.
    other_threads().is_ok_and(|others| others == 0)
}
