//! The fork server's children: a fork that Python knows of, made as the engine makes siblings. Called in the server, by its
//! only thread, with the interpreter attached.

#![allow(unsafe_code)] // Python's three calls around a fork, which PyO3 offers as they are.

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
