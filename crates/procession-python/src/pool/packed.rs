//! Plain values without a pickle: in a fraction of its time. Many tasks take and return a number,
//! and most maps over numbers are lists of such. Used on both sides, in place of a pickle, by
//! `item.rs`.
//!
//! | packed | what follows |
//! |---|---|
//! | a list of `int`s or of `float`s, from [`MIN_LIST`] on | 8 bytes for each |
//! | a tuple or a list of plain values, up to [`MAX_FEW`] | each of them |
//! | a plain value: `None`, `True`, `False` | |
//! | `int`, `float` | 8 bytes |
//! | `str`, `bytes`, up to [`MAX_TEXT`] | the length (2 bytes), so many bytes |
//!
//! Such values have no reducers: pickle itself writes them by their exact types, before it looks
//! for one. If a tuple or a list holds one `str` or `bytes` object twice, it is left to pickle,
//! which makes one object of both places again.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString, PyTuple};

// The first byte.
const INTS: u8 = 0;
const FLOATS: u8 = 1;
const TUPLE: u8 = 2;
const LIST: u8 = 3;
// The first byte, or that of each value in a tuple or a list.
const NONE: u8 = 4;
const FALSE: u8 = 5;
const TRUE: u8 = 6;
const INT: u8 = 7;
const FLOAT: u8 = 8;
const STR: u8 = 9;
const BYTES: u8 = 10;

/// A pickle of a shorter list is as quick.
const MIN_LIST: usize = 8;
/// A call has few arguments, and a map with small chunks few items in each.
const MAX_FEW: usize = 16;
/// Of a longer one the copy takes the time.
const MAX_TEXT: usize = 4096;

/// Appends the value, if all that is in it are plain values: exactly those, and no subclass's. An
/// `int` has 64 bits. Otherwise returns `false`, and `out` is as before.
pub(super) fn write(out: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> bool {
    let start = out.len();
    let is_packed = if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        tuple.len() <= MAX_FEW && {
            out.push(TUPLE);
            let mut texts = Texts::default();
            tuple.iter_borrowed().all(|item| write_plain(out, &item) && texts.add(&item))
        }
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_numbers(out, list)
            || list.len() <= MAX_FEW && {
                out.truncate(start);
                out.push(LIST);
                let mut texts = Texts::default();
                list.iter().all(|item| write_plain(out, &item) && texts.add(&item))
            }
    } else {
        write_plain(out, value)
    };
    if !is_packed {
        out.truncate(start);
    }
    is_packed
}

fn write_plain(out: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> bool {
    if let Ok(int) = value.cast_exact::<PyInt>() {
        let Ok(word) = int.extract::<i64>() else { return false };
        out.push(INT);
        out.extend_from_slice(&word.to_le_bytes());
    } else if let Ok(float) = value.cast_exact::<PyFloat>() {
        out.push(FLOAT);
        out.extend_from_slice(&float.value().to_le_bytes());
    } else if let Ok(bool) = value.cast_exact::<PyBool>() {
        out.push(if bool.is_true() { TRUE } else { FALSE });
    } else if value.is_none() {
        out.push(NONE);
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        // One with surrogates has no such form.
        return text.to_str().is_ok_and(|text| write_text(out, STR, text.as_bytes()));
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return write_text(out, BYTES, bytes.as_bytes());
    } else {
        return false;
    }
    true
}

fn write_text(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> bool {
    if bytes.len() > MAX_TEXT {
        return false;
    }
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
    true
}

/// The addresses of the texts so far. The tuple or the list keeps the texts alive.
#[derive(Default)]
struct Texts(Vec<usize>);

impl Texts {
    /// Adds a value; `false` if it is a text that is there already. Of other plain values pickle
    /// does not keep that two places hold one object.
    fn add(&mut self, value: &Bound<'_, PyAny>) -> bool {
        if !(value.is_exact_instance_of::<PyString>() || value.is_exact_instance_of::<PyBytes>()) {
            return true;
        }
        let address = value.as_ptr().addr();
        let is_new = !self.0.contains(&address);
        self.0.push(address);
        is_new
    }
}

fn write_numbers(out: &mut Vec<u8>, list: &Bound<'_, PyList>) -> bool {
    if list.len() < MIN_LIST || out.try_reserve(1 + 8 * list.len()).is_err() {
        // Pickled, it is smaller, or there is no memory for it either.
        return false;
    }
    match list.get_item(0) {
        Ok(first) if first.is_exact_instance_of::<PyInt>() => {
            out.push(INTS);
            list.iter().all(|item| match item.cast_exact::<PyInt>().map(|int| int.extract::<i64>()) {
                Ok(Ok(word)) => {
                    out.extend_from_slice(&word.to_le_bytes());
                    true
                }
                _ => false,
            })
        }
        Ok(first) if first.is_exact_instance_of::<PyFloat>() => {
            out.push(FLOATS);
            list.iter().all(|item| match item.cast_exact::<PyFloat>() {
                Ok(float) => {
                    out.extend_from_slice(&float.value().to_le_bytes());
                    true
                }
                Err(_) => false,
            })
        }
        _ => false,
    }
}

/// The value that [`write`] wrote; `None` if it is cut off.
pub(super) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut rest = bytes;
    match bytes.split_first() {
        Some((&(INTS | FLOATS), words)) => read_numbers(py, bytes[0], words),
        Some((&kind @ (TUPLE | LIST), values)) => {
            rest = values;
            let mut items = Vec::with_capacity(MAX_FEW);
            while !rest.is_empty() {
                let Some(item) = read_plain(py, &mut rest)? else { return Ok(None) };
                items.push(item);
            }
            Ok(Some(if kind == TUPLE {
                PyTuple::new(py, items)?.into_any()
            } else {
                PyList::new(py, items)?.into_any()
            }))
        }
        _ => Ok(read_plain(py, &mut rest)?.filter(|_| rest.is_empty())),
    }
}

fn read_plain<'py>(py: Python<'py>, rest: &mut &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some((&kind, tail)) = rest.split_first() else { return Ok(None) };
    *rest = tail;
    Ok(Some(match kind {
        NONE => py.None().into_bound(py),
        FALSE | TRUE => PyBool::new(py, kind == TRUE).to_owned().into_any(),
        INT | FLOAT => {
            let Some((word, tail)) = rest.split_first_chunk::<8>() else { return Ok(None) };
            *rest = tail;
            match kind {
                INT => i64::from_le_bytes(*word).into_pyobject(py)?.into_any(),
                _ => PyFloat::new(py, f64::from_le_bytes(*word)).into_any(),
            }
        }
        STR | BYTES => {
            let Some((len, tail)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let Some((bytes, tail)) = tail.split_at_checked(u16::from_le_bytes(*len).into()) else { return Ok(None) };
            *rest = tail;
            match kind {
                STR => PyString::from_bytes(py, bytes)?.into_any(),
                _ => PyBytes::new(py, bytes).into_any(),
            }
        }
        _ => return Ok(None),
    }))
}

fn read_numbers<'py>(py: Python<'py>, kind: u8, words: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (words, []) = words.as_chunks::<8>() else { return Ok(None) };
    let list = if kind == INTS {
        PyList::new(py, words.iter().map(|word| i64::from_le_bytes(*word)))?
    } else {
        PyList::new(py, words.iter().map(|word| f64::from_le_bytes(*word)))?
    };
    Ok(Some(list.into_any()))
}
