//! An item of a queue as bytes: made of an object by who puts it, with the interpreter attached and
//! no lock held; copied out by who takes it, under the queue's lock; and made an object again when
//! the lock is gone.
//!
//! The first byte says what it is. Values of the basic types (`None`, `True`, numbers, strings,
//! bytes) need no pickle: they come out as if they had been pickled. Everything else is a pickle,
//! its large buffers behind it:
//!
//! ```text
//! kind | the rest
//! BESIDE | how many u32 | bytes of the pickle u64 | for each buffer: 2 × bytes + is it writable u64 | pickle | buffers
//! ```

use std::cell::RefCell;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyString};

use crate::buffer::Bytes;
use crate::codec;

pub(super) const PICKLE: u8 = 0;
const NONE: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const BYTES: u8 = 7;
const BESIDE: u8 = 8;

/// A buffer for pickles that has grown beyond this is not kept.
const LARGEST_KEPT: usize = 1 << 20;

/// An item that was taken, in this process's own memory.
pub(super) enum Item {
    Plain { kind: u8, number: [u8; 8] },
    Bytes { kind: u8, bytes: Py<PyBytes> },
    Text(Py<PyString>),
    Beside { pickle: Py<PyBytes>, buffers: Vec<Py<PyAny>> },
}

impl Item {
    /// Copies it out of a frame. Runs nobody's code, so that it may be called under a lock.
    ///
    /// # Errors
    ///
    /// `RuntimeError` if the frame is none that [`with_parts`] made.
    pub(super) fn read(py: Python<'_>, frame: [&[u8]; 2]) -> PyResult<Item> {
        let mut frame = Frame(frame);
        let [kind] = frame.array()?;
        match kind {
            NONE | FALSE | TRUE => Ok(Item::Plain { kind, number: [0; 8] }),
            INT | FLOAT => Ok(Item::Plain { kind, number: frame.array()? }),
            STR if frame.0[1].is_empty() => {
                let text = std::str::from_utf8(frame.0[0]).map_err(|_| invalid())?;
                Ok(Item::Text(PyString::new(py, text).unbind()))
            }
            PICKLE | BYTES | STR => Ok(Item::Bytes { kind, bytes: frame.rest(py)? }),
            BESIDE => {
                let count = u32::from_le_bytes(frame.array()?);
                let pickle_len = u64::from_le_bytes(frame.array()?);
                let mut lens = Vec::new();
                for _ in 0..count {
                    lens.push(u64::from_le_bytes(frame.array()?));
                }
                let pickle = frame.take(pickle_len)?.rest(py)?;
                let mut buffers = Vec::with_capacity(lens.len());
                for len in lens {
                    let buffer = frame.take(len >> 1)?;
                    // As the pickler would have written them: `bytes`, or `bytearray` where the
                    // object may change it.
                    buffers.push(if len & 1 == 0 { buffer.rest(py)?.into_any() } else { buffer.rest_to_change(py)? });
                }
                Ok(Item::Beside { pickle, buffers })
            }
            _ => Err(invalid()),
        }
    }

    /// The object. Runs the code of its class, and so under no lock.
    ///
    /// # Errors
    ///
    /// The exception of unpickling.
    pub(super) fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Item::Plain { kind: INT, number } => i64::from_le_bytes(number).into_pyobject(py)?.into_any(),
            Item::Plain { kind: FLOAT, number } => PyFloat::new(py, f64::from_le_bytes(number)).into_any(),
            Item::Plain { kind: NONE, .. } => py.None().into_bound(py),
            Item::Plain { kind, .. } => PyBool::new(py, kind == TRUE).to_owned().into_any(),
            Item::Text(text) => text.into_bound(py).into_any(),
            Item::Bytes { kind: BYTES, bytes } => bytes.into_bound(py).into_any(),
            Item::Bytes { kind: STR, bytes } => PyString::from_bytes(py, bytes.as_bytes(py))?.into_any(),
            Item::Bytes { bytes, .. } => codec::loads(py, bytes.bind(py), Vec::new())?,
            Item::Beside { pickle, buffers } => {
                codec::loads(py, pickle.bind(py), buffers.into_iter().map(|buffer| buffer.into_bound(py)).collect())?
            }
        })
    }
}

/// Calls `put` with the parts of the frame that `object` becomes.
///
/// # Errors
///
/// The exception of pickling; then `put` is not called.
pub(super) fn with_parts<R>(object: &Bound<'_, PyAny>, put: impl FnOnce(&[&[u8]]) -> R) -> PyResult<R> {
    if object.is_none() {
        return Ok(put(&[&[NONE]]));
    }
    if let Ok(object) = object.cast_exact::<PyBool>() {
        return Ok(put(&[&[if object.is_true() { TRUE } else { FALSE }]]));
    }
    if let Some(number) = small(object) {
        return Ok(put(&[&[INT], &number.to_le_bytes()]));
    }
    if let Ok(object) = object.cast_exact::<PyFloat>() {
        return Ok(put(&[&[FLOAT], &object.value().to_le_bytes()]));
    }
    if let Ok(object) = object.cast_exact::<PyBytes>() {
        return Ok(put(&[&[BYTES], object.as_bytes()]));
    }
    if let Some(text) = text(object) {
        return Ok(put(&[&[STR], text.as_bytes()]));
    }
    let mut buffers = Vec::new();
    let mut pickle = KEPT.take();
    let pickled = codec::dumps(object, &mut pickle, &mut buffers);
    let done =
        pickled.map(|()| if buffers.is_empty() { put(&[&[PICKLE], &pickle]) } else { beside(&pickle, &buffers, put) });
    if pickle.capacity() <= LARGEST_KEPT {
        pickle.clear();
        KEPT.set(pickle);
    }
    done
}

thread_local! {
    /// The buffer of the last pickle; empty while one is made or put.
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn beside<R>(pickle: &[u8], buffers: &[Bytes], put: impl FnOnce(&[&[u8]]) -> R) -> R {
    let mut head = vec![BESIDE];
    head.extend_from_slice(&(buffers.len() as u32).to_le_bytes());
    head.extend_from_slice(&(pickle.len() as u64).to_le_bytes());
    for buffer in buffers {
        let len = buffer.as_slice().len() as u64;
        head.extend_from_slice(&(len << 1 | u64::from(buffer.is_writable())).to_le_bytes());
    }
    let mut parts = vec![head.as_slice(), pickle];
    parts.extend(buffers.iter().map(Bytes::as_slice));
    put(&parts)
}

/// The value of an integer that is no subclass's and fits.
fn small(object: &Bound<'_, PyAny>) -> Option<i64> {
    object.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// The text of a string that is no subclass's and is Unicode.
fn text<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    object.cast_exact::<PyString>().ok()?.to_str().ok()
}

/// The rest of a frame to read, in two parts.
struct Frame<'a>([&'a [u8]; 2]);

impl<'a> Frame<'a> {
    fn take(&mut self, len: u64) -> PyResult<Frame<'a>> {
        let [first, second] = self.0;
        let len = usize::try_from(len).map_err(|_| invalid())?;
        if len > first.len() + second.len() {
            return Err(invalid());
        }
        let (taken, first) = first.split_at(len.min(first.len()));
        let (also, second) = second.split_at(len - taken.len());
        self.0 = [first, second];
        Ok(Frame([taken, also]))
    }

    fn array<const LEN: usize>(&mut self) -> PyResult<[u8; LEN]> {
        let mut array = [0; LEN];
        self.take(LEN as u64)?.copy_to(&mut array);
        Ok(array)
    }

    fn rest(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        Ok(match self.0 {
            [whole, []] | [[], whole] => PyBytes::new(py, whole),
            _ => PyBytes::new_with(py, self.len(), |bytes| {
                self.copy_to(bytes);
                Ok(())
            })?,
        }
        .unbind())
    }

    fn rest_to_change(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self.0 {
            [whole, []] | [[], whole] => PyByteArray::new(py, whole),
            _ => PyByteArray::new_with(py, self.len(), |bytes| {
                self.copy_to(bytes);
                Ok(())
            })?,
        }
        .into_any()
        .unbind())
    }

    fn copy_to(&self, into: &mut [u8]) {
        let [first, second] = self.0;
        into[..first.len()].copy_from_slice(first);
        into[first.len()..].copy_from_slice(second);
    }

    fn len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }
}

fn invalid() -> PyErr {
    PyRuntimeError::new_err("an item in the queue makes no sense: its memory was overwritten")
}
