//! Memory that Python reads and writes in place. Large buffers of arguments and results lie in
//! blocks of shared memory; Python gets a view of them, and the engine a view of what Python has.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use procession_core::Held;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::wait::try_attached;

/// The bytes of a Python object that has a simple buffer, for as long as this is there.
pub(crate) struct Bytes {
    view: Box<ffi::Py_buffer>,
}

impl Bytes {
    /// # Errors
    ///
    /// If the object has no buffer of consecutive bytes.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the interpreter is attached, as `Bound` proves, and `view` is memory for one
        // `Py_buffer`, which stays where it is, in its box. PyBUF_SIMPLE asks for consecutive bytes
        // and nothing else.
        let got = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        if got != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Bytes { view })
    }

    /// The bytes. The caller copies them before Python runs again: Python may write there.
    pub(crate) fn as_slice(&self) -> &[u8] {
        let len = usize::try_from(self.view.len).unwrap_or(0);
        if len == 0 {
            return &[];
        }
        // SAFETY: a granted simple buffer is `len` bytes at `buf`, readable until it is released,
        // which this value does when it is dropped. Another thread of Python might write there
        // meanwhile, as it might under any `bytes` method that detaches; what is read then is torn
        // bytes of a buffer that its owner changes while sending it, and nothing else.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast::<u8>(), len) }
    }
}

impl Bytes {
    /// Returns whether the buffer's owner lets others write there.
    pub(crate) fn is_writable(&self) -> bool {
        self.view.readonly == 0
    }
}

// SAFETY: a `Py_buffer` may be read by any thread; it is released with the interpreter attached.
unsafe impl Send for Bytes {}
// SAFETY: as above; nothing in it is changed through a shared reference.
unsafe impl Sync for Bytes {}

impl Drop for Bytes {
    fn drop(&mut self) {
        // Without an interpreter, at the process's end, it stays. SAFETY: `view` was filled by
        // PyObject_GetBuffer and not released; the interpreter is attached inside.
        try_attached(|_| unsafe { ffi::PyBuffer_Release(&raw mut *self.view) });
    }
}

/// Returns where the bytes of an object with a buffer lie in this process.
#[pyfunction]
pub(crate) fn address_of(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    Ok(Bytes::of(object)?.as_slice().as_ptr().addr())
}

/// A block of shared memory in the hands of its receiver, with Python's buffer protocol. It is
/// given back when Python has let go of every view.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Block {
    held: Arc<Held>,
    is_writable: bool,
}

impl Block {
    /// `is_writable`: it is the receiver's alone, to change as it likes.
    pub(crate) fn new(held: Arc<Held>, is_writable: bool) -> Block {
        Block { held, is_writable }
    }
}

#[pymethods]
impl Block {
    fn __len__(&self) -> usize {
        self.held.len()
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a `view` to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let (block, is_readonly) = (slf.get(), !slf.get().is_writable);
        let data = block.held.as_mut_ptr().cast::<c_void>();
        let len = isize::try_from(block.held.len())?;
        // SAFETY: `view` is the interpreter's, not null. The memory is `len` bytes that stay mapped
        // while `held` is there, and the view keeps this object, and so `held`. It is mapped for
        // writing. It is written only by its one receiver: a block is taken once, nobody else reads
        // it until it is given back, and this crate makes no slice of it.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, len, c_int::from(is_readonly), flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }

    /// # Safety
    ///
    /// Called by the interpreter, with the `view` that was filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // The interpreter itself releases the object that the view holds.
        let _ = (view, ptr::from_ref(self));
    }
}
