//! Forks. The fork server's children: a fork that Python knows of, made as the engine makes siblings; called in the server, by its
//! only thread. And what Python's own fork wants to know of the engine's threads; called by any. The interpreter is attached.

#![allow(unsafe_code)] // Python's three calls around a fork, which PyO3 offers as they are.

use std::os::fd::AsRawFd;

use procession_core::start::foreign;
use procession_core::{descriptor, other_threads};
use pyo3::ffi;
use pyo3::prelude::*;

/// Where the fork server's owner finds the child that the server made last, if it hears of it from nobody.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Newborn(foreign::Newborn);

#[pymethods]
impl Newborn {
    #[new]
    fn new() -> PyResult<Newborn> {
        Ok(Newborn(foreign::Newborn::create()?))
    }

    /// In the server: the owner's, by its fd, which stays the caller's.
    #[staticmethod]
    fn attach(fd: i32) -> PyResult<Newborn> {
        Ok(Newborn(foreign::Newborn::attach(descriptor::duplicate(fd)?)?))
    }

    /// What to hand to the server. It stays this object's.
    fn fileno(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }

    /// Before a child is asked for.
    fn expect(&self) {
        self.0.expect();
    }

    /// After a child's link has ended without its hello: reaps it, if there was one.
    fn reap(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.reap())?)
    }
}

/// Makes a child that is this process's sibling and runs `child` there, whose number is its exit code: nothing of this frame
/// runs in it afterwards. The hooks of `os.register_at_fork` run as around `os.fork`.
///
/// # Errors
///
/// `OSError` if this process has other threads, or the kernel refuses.
#[pyfunction]
pub(crate) fn fork_as_sibling(py: Python<'_>, newborn: &Newborn, child: Py<PyAny>) -> PyResult<()> {
    // SAFETY: the interpreter is attached, as the three calls want it; they stand around one fork, in its two processes.
    unsafe { ffi::PyOS_BeforeFork() };
    let made = foreign::clone_as_sibling(newborn.0.pid(), || {
        // SAFETY: as above: in the child, on the thread that forked, which is attached there too.
        unsafe { ffi::PyOS_AfterFork_Child() };
        match child.call0(py).and_then(|code| code.extract(py)) {
            Ok(code) => code,
            Err(error) => {
                error.print(py);
                1
            }
        }
    });
    // SAFETY: as above: in the parent.
    unsafe { ffi::PyOS_AfterFork_Parent() };
    made?;
    Ok(())
}

/// Whether this process has no threads but the caller and the engine's own, of which a forked child wants nothing.
#[pyfunction]
pub(crate) fn is_single_threaded() -> bool {
    // Without `/proc` it cannot be known.
    other_threads().is_ok_and(|others| others == 0)
}
