//! Calls of the interpreter's that PyO3 does not wrap.
//!
//! - Exceptions that are to be raised a moment later. A signal's handler may raise while a wait
//!   comes to its end: then what was waited for is returned and must not be lost, and the exception
//!   is raised right after, as if the signal had come then.
//! - Whether the interpreter knows a thread.
//! - Steps of an iterator, whose `StopIteration` counts. Python's own loops take one for the end.

#![allow(unsafe_code)] // The calls are C functions.

use std::ffi::{c_int, c_void};
use std::mem;

use pyo3::exceptions::PyTypeError;
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

/// An iterator, by the function that its type takes steps with.
pub(crate) struct Steps<'py> {
    iterator: Bound<'py, PyAny>,
    step: ffi::iternextfunc,
}

impl<'py> Steps<'py> {
    /// Looks the function up, once for all steps.
    ///
    /// # Errors
    ///
    /// `TypeError` if this is no iterator.
    pub(crate) fn of(iterator: Bound<'py, PyAny>) -> PyResult<Steps<'py>> {
        let kind = iterator.get_type();
        // SAFETY: the type is one, and lives as long as its instance.
        let slot = unsafe { ffi::PyType_GetSlot(kind.as_type_ptr(), ffi::Py_tp_iternext) };
        if slot.is_null() {
            return Err(PyTypeError::new_err(format!("{kind} is no iterator")));
        }
        // SAFETY: what a type has in this slot is a function of this type.
        let step = unsafe { mem::transmute::<*mut c_void, ffi::iternextfunc>(slot) };
        Ok(Steps { iterator, step })
    }

    /// Takes a step. At the end, without an exception, there is `None`.
    ///
    /// # Errors
    ///
    /// The exception of the step. A `StopIteration` is one like others where the iterator has
    /// called a function that raised it.
    pub(crate) fn take(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.iterator.py();
        // SAFETY: the function is that of the iterator's type, this thread is attached, and the
        // iterator lives. The reference that it returns, or null, is the caller's.
        let item = unsafe { Bound::from_owned_ptr_or_opt(py, (self.step)(self.iterator.as_ptr())) };
        match item {
            Some(item) => Ok(Some(item)),
            None => PyErr::take(py).map_or(Ok(None), Err),
        }
    }
}
