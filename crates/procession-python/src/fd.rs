//! File descriptors as Python has them: numbers. Called with the interpreter attached, in any process.

#![allow(unsafe_code, reason = "a number becomes a file descriptor")]

use std::os::fd::{BorrowedFd, OwnedFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A descriptor of its own for the file that the number stands for.
///
/// # Errors
///
/// `ValueError` for a negative number; `OSError` if it stands for nothing, or none is left.
pub(crate) fn duplicate(number: i32) -> PyResult<OwnedFd> {
    if number < 0 {
        return Err(PyValueError::new_err(format!("{number} is no file descriptor")));
    }
    // SAFETY: not -1. It is borrowed for one system call, which refuses a number that stands for nothing. That the number is
    // meant for us, and is open until the call is over, is the caller's to say, as everywhere in Python; it is not closed here.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(borrowed.try_clone_to_owned()?)
}
