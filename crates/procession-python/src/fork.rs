//! Forks. The fork server's children: a fork that Python knows of, made as the engine makes siblings; called in the server, by its
//! only thread. And what Python's own fork wants to know of the engine's threads; called by any. The interpreter is attached.

#![allow(unsafe_code)] // Python's three calls around a fork, which PyO3 offers as they are.

use procession_core::other_threads;
use procession_core::start::foreign;
use pyo3::ffi;
use pyo3::prelude::*;

/// Makes a child that is this process's sibling and runs `child` there, whose number is its exit code: nothing of this frame
/// runs in it afterwards. The hooks of `os.register_at_fork` run as around `os.fork`.
///
/// # Errors
///
/// `OSError` if this process has other threads, or the kernel refuses.
#[pyfunction]
pub(crate) fn fork_as_sibling(py: Python<'_>, child: Py<PyAny>) -> PyResult<()> {
    // SAFETY: the interpreter is attached, as the three calls want it; they stand around one fork, in its two processes.
    unsafe { ffi::PyOS_BeforeFork() };
    let made = foreign::clone_as_sibling(|| {
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
