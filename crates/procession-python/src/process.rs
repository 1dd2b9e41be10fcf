//! Processes as Python starts and holds them: a [`Child`] for the parent, a [`Link`] for either
//! side. Used by `popen_*` and the bootstrap of the Python package, in any thread, with the
//! interpreter attached; waits detach it.
//!
//! One child has one reaper: the engine's [`Child`](engine::Child) behind the Python object,
//! whoever asks first, and the engine itself may hold it too.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use procession_core::child as engine;
use procession_core::outcome::{self, Outcome};
use procession_core::start::{ClosableLink, foreign};
use procession_core::{Error, Signal, descriptor};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{OrOsError, os_error, os_text};
use crate::wait::{blocking, deadline};

/// The exit code of a child whose status others took, as in the standard library's fork server.
const UNKNOWN_EXIT_CODE: i32 = 255;

/// Parents' ends of links of this process, until a child has them, and the children after that. A
/// process forked from this one closes its copies, so that each lifeline has one holder. Changed
/// with the interpreter attached only, hence whole at any fork of Python's.
static ENDS: Mutex<Vec<Weak<ClosableLink>>> = Mutex::new(Vec::new());
static CHILDREN: Mutex<Vec<Arc<engine::Child>>> = Mutex::new(Vec::new());

/// One end of the private link between a parent and a child.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub(crate) struct Link {
    link: Arc<ClosableLink>,
}

#[pymethods]
impl Link {
    /// Returns the parent's end and the child's end of a new link.
    #[staticmethod]
    fn pair() -> PyResult<(Link, Link)> {
        let (ours, theirs) = pair()?;
        Ok((Link { link: ours }, Link::of(theirs)))
    }

    /// In an executed child: its end.
    #[staticmethod]
    fn inherited() -> PyResult<Link> {
        Ok(Link::of(foreign::inherited().or_os_error()?))
    }

    /// Parent: sends what the child is to become, and copies of fds.
    fn send(&self, letter: &[u8], fds: Vec<i32>) -> PyResult<()> {
        let fds = fds.into_iter().map(descriptor::duplicate).collect::<std::io::Result<Vec<_>>>().or_os_error()?;
        self.using(|link| foreign::send(link, letter, &fds))
    }

    /// Child: receives what it is to become, and the fds. `None`: the parent is gone.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, Vec<i32>)>> {
        let received = self.using(foreign::receive)?;
        Ok(received
            .map(|(letter, fds)| (PyBytes::new(py, &letter), fds.into_iter().map(IntoRawFd::into_raw_fd).collect())))
    }

    /// Child of a fork server: tells the parent who it is.
    fn say_hello(&self) -> PyResult<()> {
        let me = procession_core::pidfd::PidFd::of_self().or_os_error()?;
        self.using(|link| outcome::send_hello(link, Some(&me)))
    }

    /// Server: tells the parent that there is no child.
    fn say_failure(&self, why: &str) -> PyResult<()> {
        self.using(|link| outcome::send_failure(link, &std::io::Error::other(why)))
    }

    /// Child: from now on it is killed when the parent's end closes.
    fn tie(&self) -> PyResult<()> {
        self.using(foreign::Link::kill_me_when_peer_closes)
    }

    /// Child, tied: its end comes a moment after its parent's.
    fn tie_loosely(&self) -> PyResult<()> {
        self.using(|link| link.kill_me_later(foreign::GRACE))
    }

    /// Child: leaves its target's outcome.
    fn report(&self, tag: u32, payload: &[u8]) -> PyResult<()> {
        self.using(|link| outcome::send_returned(link, tag, payload))
    }

    /// A new fd for this end, owned by the caller.
    fn detach(&self) -> PyResult<i32> {
        Ok(OwnedFd::from(self.take()?).into_raw_fd())
    }

    /// Takes over a number that `detach` gave, or a copy of it.
    #[staticmethod]
    fn of_fd(fd: i32) -> PyResult<Link> {
        Ok(Link::of(foreign::Link::from(descriptor::duplicate(fd).or_os_error()?)))
    }

    /// The number of this end, which stays this object's; `ValueError` once it is closed.
    fn fileno(&self) -> PyResult<i32> {
        self.using(|link| Ok(link.as_fd().as_raw_fd()))
    }

    /// Closes this end; a second time does nothing.
    fn close(&self) {
        self.link.take();
    }
}

impl Link {
    pub(crate) fn of(link: foreign::Link) -> Link {
        Link { link: Arc::new(ClosableLink::new(link)) }
    }

    /// Child, which leads a process group: from now on the group is killed when the parent's end
    /// closes.
    pub(crate) fn tie_group(&self) -> PyResult<()> {
        self.using(foreign::Link::kill_group_when_peer_closes)
    }

    /// For the engine's parts that use this end too.
    pub(crate) fn shared(&self) -> Arc<ClosableLink> {
        self.link.clone()
    }

    fn using<R>(&self, what: impl FnOnce(&foreign::Link) -> std::io::Result<R>) -> PyResult<R> {
        self.link.using(what).ok_or_else(closed)?.or_os_error()
    }

    pub(crate) fn take(&self) -> PyResult<foreign::Link> {
        self.link.take().ok_or_else(closed)
    }
}

/// A child process, as its parent waits for it and signals it. Its exit code is kept once anybody
/// has asked.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub(crate) struct Child {
    child: Arc<engine::Child>,
}

#[pymethods]
impl Child {
    /// Of a process that was just forked.
    #[staticmethod]
    #[pyo3(signature = (pid, link, name, daemon, leads_group = false))]
    fn forked(pid: i32, link: &Link, name: String, daemon: bool, leads_group: bool) -> PyResult<Child> {
        Ok(Child::held(foreign::opened(pid, link.take()?, name, daemon).or_os_error()?.leading_group(leads_group)))
    }

    /// Executes a program that finds `theirs` as its first fd. The child is `holder`'s attribute of
    /// that name before any handler of a signal runs, which could raise.
    #[staticmethod]
    #[pyo3(signature = (holder, attribute, program, args, ours, theirs, name, daemon, leads_group = false))]
    #[allow(clippy::too_many_arguments)] // What a process is started with, from Python.
    fn executed(
        holder: &Bound<'_, PyAny>,
        attribute: &str,
        program: Vec<u8>,
        args: Vec<Vec<u8>>,
        ours: &Link,
        theirs: &Link,
        name: String,
        daemon: bool,
        leads_group: bool,
    ) -> PyResult<()> {
        let program = PathBuf::from(OsString::from_vec(program));
        let args: Vec<_> = args.into_iter().map(OsString::from_vec).collect();
        let theirs = theirs.take()?;
        let pidfd = foreign::execute(&program, &args, &theirs)
            .map_err(|error| PyOSError::new_err((error.raw_os_error(), os_text(&error), program.into_os_string())))?;
        let popen = engine::Popen { pidfd, link: ours.take()?, began: true, reaper: engine::Reaper::Parent };
        holder.setattr(attribute, Child::held(engine::Child::new(name, daemon, popen).leading_group(leads_group)))
    }

    /// Of a process that another library has started and reaps.
    #[staticmethod]
    fn of_others(pid: u32, name: String, daemon: bool) -> PyResult<Child> {
        Ok(Child { child: Arc::new(foreign::of_others(pid, name, daemon).or_os_error()?) })
    }

    /// Its process id.
    #[getter]
    fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The number of an fd that is readable once it has ended. Open as long as this object is.
    #[getter]
    fn sentinel(&self) -> i32 {
        self.child.sentinel().as_raw_fd()
    }

    /// Its exit code; `None` while it runs, and in other processes than its parent.
    fn poll(&self) -> PyResult<Option<i32>> {
        match self.child.try_wait() {
            Ok(Some(end)) => Ok(Some(self.ended(end))),
            Ok(None) | Err(Error::Inherited { .. }) => Ok(None),
            Err(error) => Err(raised(&error)),
        }
    }

    /// Waits up to `timeout` seconds, for ever without, for its exit code.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<i32>> {
        let until = deadline(timeout)?;
        match blocking(py, || self.child.wait(until), Result::is_ok)? {
            Ok(end) => Ok(Some(self.ended(end))),
            Err(Error::Timeout { .. } | Error::Inherited { .. }) => Ok(None),
            Err(error) => Err(raised(&error)),
        }
    }

    /// Returns whether the process is stopped, by a signal or a debugger.
    fn is_stopped(&self) -> bool {
        self.child.is_stopped()
    }

    /// Sends a signal; `False` if it had ended before.
    fn signal(&self, number: i32) -> PyResult<bool> {
        match self.child.signal(Signal::from_raw(number)) {
            Err(Error::Os { source, .. }) => Err(os_error(source)),
            sent => sent.map_err(|error| raised(&error)),
        }
    }

    /// Of one that has ended: what its target left, as tag and payload; `None` if it died before.
    fn outcome<'py>(&self, py: Python<'py>) -> Option<(u32, Bound<'py, PyBytes>)> {
        match &self.child.end()?.outcome {
            Outcome::Returned { tag, payload } => Some((*tag, PyBytes::new(py, payload))),
            _ => None,
        }
    }
}

impl Child {
    pub(crate) fn held(child: engine::Child) -> Child {
        let child = Arc::new(child);
        let mut children = locked(&CHILDREN);
        children.retain(|child| {
            // One that nobody holds any more is this list's to reap.
            child.end().is_none() && (Arc::strong_count(child) > 1 || !matches!(child.try_wait(), Ok(Some(_))))
        });
        children.push(child.clone());
        Child { child }
    }

    /// The exit code of one that has ended, which this module need not hold any longer.
    fn ended(&self, end: &engine::End) -> i32 {
        locked(&CHILDREN).retain(|child| !Arc::ptr_eq(child, &self.child));
        end.code().unwrap_or(UNKNOWN_EXIT_CODE)
    }

    /// For the engine's parts that wait for this child too.
    pub(crate) fn shared(&self) -> Arc<engine::Child> {
        self.child.clone()
    }
}

/// In a process just forked from this one: closes its copies of this one's ends of links, on which
/// the lives of this one's children hang.
#[pyfunction]
pub(crate) fn disown_children() {
    for end in locked(&ENDS).drain(..).filter_map(|end| end.upgrade()) {
        end.disown();
    }
    for child in locked(&CHILDREN).drain(..) {
        child.disown();
    }
}

/// The number of a pidfd of this process, which stays open.
#[pyfunction]
pub(crate) fn pidfd_of_self() -> PyResult<i32> {
    let me = procession_core::engine::engine().me().map_err(|error| raised(&error))?;
    Ok(me.as_fd().as_raw_fd())
}

/// The parent's end and the child's end of a new link.
pub(crate) fn pair() -> PyResult<(Arc<ClosableLink>, foreign::Link)> {
    let (ours, theirs) = foreign::Link::pair().or_os_error()?;
    let ours = Arc::new(ClosableLink::new(ours));
    let mut ends = locked(&ENDS);
    ends.retain(|end| end.strong_count() > 0);
    ends.push(Arc::downgrade(&ours));
    Ok((ours, theirs))
}

fn closed() -> PyErr {
    PyValueError::new_err("the link is closed")
}

fn raised(error: &Error) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
