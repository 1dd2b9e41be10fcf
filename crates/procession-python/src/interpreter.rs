//! Calls of the interpreter's that PyO3 does not wrap.
//!
//! - Exceptions that are to be raised a moment later. A signal's handler may raise while a wait
//!   comes to its end: then what was waited for is returned and must not be lost, and the exception
//!   is raised right after, as if the signal had come then.
//! - Whether the interpreter knows a thread.

#![allow(unsafe_code)] // The calls are C functions.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

/// Has the main thread raise the exception as soon as it executes Python code again. Called in the
/// main thread, where handlers run.
pub(crate) fn raise_soon(py: Python<'_>, error: PyErr) {
    let argument = Box::into_raw(Box::new(error)).cast::<c_void>();
    // SAFETY: the interpreter calls the function once, attached, with the argument, which is a box
    // that nobody else has.
    let refused = unsafe { ffi::Py_AddPendingCall(Some(raise), argument) };
    if refused != 0 {
        // Too many are pending. SAFETY: the interpreter did not take the argument, which is still
        // the box from above.
        let error = unsafe { Box::from_raw(argument.cast::<PyErr>()) };
        error.write_unraisable(py, None);
    }
}

extern "C" fn raise(argument: *mut c_void) -> c_int {
    // SAFETY: `raise_soon` alone registers this function, always with a boxed `PyErr`; it is called
    // once.
    let error = unsafe { Box::from_raw(argument.cast::<PyErr>()) };
    Python::attach(|py| error.restore(py));
    -1
}

/// Returns whether the interpreter has a state of this thread, be it attached or not. Else the next
/// call that attaches makes one.
pub(crate) fn knows_this_thread() -> bool {
    // SAFETY: it reads a value of this thread's, and may be called in any thread and at any time,
    // also once the interpreter has ended.
    !unsafe { ffi::PyGILState_GetThisThreadState() }.is_null()
}
