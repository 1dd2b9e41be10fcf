//! Lists of plain numbers as machine words: half the time that their pickles take, and most maps
//! over numbers are such lists. Used on both sides, in place of a pickle, by `item.rs`.
//!
//! ```text
//! packed  what they are (1 byte), 8 bytes for each
//! ```

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyList};

const INTS: u8 = 0;
const FLOATS: u8 = 1;

/// Of fewer a pickle is as quick.
const LEAST: usize = 8;

/// Appends the list, if all that is in it are `int`s of 64 bits, or all `float`s: exactly those,
/// and no subclass's. Otherwise `out` is as before.
pub(super) fn write(out: &mut Vec<u8>, value: &Bound<'_, PyAny>) -> bool {
    let Ok(list) = value.cast_exact::<PyList>() else { return false };
    if list.len() < LEAST {
        return false;
    }
    let start = out.len();
    if out.try_reserve(1 + 8 * list.len()).is_err() {
        // Pickled, it is smaller, or there is no memory for it either.
        return false;
    }
    let is_packed = match list.get_item(0) {
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
    };
    if !is_packed {
        out.truncate(start);
    }
    is_packed
}

/// The list that [`write`] wrote; `None` if it is cut off.
pub(super) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some((&kind, words)) = bytes.split_first() else { return Ok(None) };
    let (words, []) = words.as_chunks::<8>() else { return Ok(None) };
    let list = match kind {
        INTS => PyList::new(py, words.iter().map(|word| i64::from_le_bytes(*word)))?,
        FLOATS => PyList::new(py, words.iter().map(|word| f64::from_le_bytes(*word)))?,
        _ => return Ok(None),
    };
    Ok(Some(list.into_any()))
}
