//! What crosses between a pool and its workers: an item is a function and its arguments, a result is a value. Written and read
//! on both sides, with the interpreter attached.
//!
//! ```text
//! item    kind, function, value          function   length, pickle; or `BIG`, its number, its handle
//! value   pickle, buffers, how long the buffers' part is (4 bytes; the top bits: the pickle is the first buffer, it is no pickle)
//! buffer  0, whether it may be written, area, block; or 1, whether it may be written, length, bytes
//! ```

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use procession_core::pool::blocks::{self, Place};
use procession_core::{Held, handle, memfd};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFunction};

use super::packed;
use crate::buffer::{Block, Bytes};
use crate::codec;

/// What is to be done with a function and a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `function(*value)`.
    Call = 0,
    /// `function(*value[0], **value[1])`.
    CallNamed = 1,
    /// `[function(x) for x in value]`.
    Map = 2,
    /// `[function(*x) for x in value]`.
    Starmap = 3,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Call, Kind::CallNamed, Kind::Map, Kind::Starmap].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Says that the function is not here.
const BIG: u32 = u32::MAX;
/// A pickled function that is longer crosses once for each job, beside its items.
const BIG_FUNCTION: usize = 4096;
/// A pickle that is longer goes into a block as large buffers do.
const BIG_PICKLE: usize = 64 * 1024;
const PICKLE_IS_A_BUFFER: u32 = 1 << 31;
/// It is no pickle at all: see `packed.rs`.
const IS_PACKED: u32 = 1 << 30;
const FLAGS: u32 = PICKLE_IS_A_BUFFER | IS_PACKED;

const IN_BLOCK: u8 = 0;
const INLINE: u8 = 1;

/// A pickled function.
#[derive(Debug)]
pub(crate) enum Function {
    Small(Vec<u8>),
    /// Its number in this process, and a memfd with its pickle.
    Big(u64, OwnedFd),
}

impl Function {
    fn new(pickle: Vec<u8>) -> PyResult<Function> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        if pickle.len() <= BIG_FUNCTION {
            return Ok(Function::Small(pickle));
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let file = memfd::from_bytes("procession-function", &pickle)?;
        Ok(Function::Big(number, file))
    }

    fn write(&self, out: &mut Vec<u8>) -> PyResult<()> {
        match self {
            Function::Small(pickle) => {
                out.extend_from_slice(&(pickle.len() as u32).to_le_bytes());
                out.extend_from_slice(pickle);
            }
            Function::Big(number, file) => {
                let index = handle::give(file.as_fd(), "function").map_err(PyValueError::new_err)?;
                out.extend_from_slice(&BIG.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&index.to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Functions that have been pickled: most calls are of one of a few.
#[derive(Debug, Default)]
pub(crate) struct Functions(Mutex<Known>);

/// By the function's address.
type Known = HashMap<usize, (Py<PyAny>, Arc<Function>)>;

impl Functions {
    const MOST: usize = 64;

    /// The function pickled, by what `pickle` says.
    pub(crate) fn get(
        &self,
        function: &Bound<'_, PyAny>,
        pickle: impl FnOnce() -> PyResult<Vec<u8>>,
    ) -> PyResult<Arc<Function>> {
        // Of others the pickle may change with their state.
        if !function.is_exact_instance_of::<PyFunction>() {
            return Ok(Arc::new(Function::new(pickle()?)?));
        }
        let key = function.as_ptr().addr();
        if let Some((_, known)) = self.known().get(&key) {
            return Ok(known.clone());
        }
        let new = Arc::new(Function::new(pickle()?)?);
        let mut known = self.known();
        let old = if known.len() >= Self::MOST { std::mem::take(&mut *known) } else { HashMap::new() };
        // Kept, so that no other function comes to have its address.
        known.insert(key, (function.clone().unbind(), new.clone()));
        drop(known);
        // Here, under no lock: what they hold may run code when it goes.
        drop(old);
        Ok(new)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends an item. `is_kept`: it may be run again, so that its buffers are not the task's to change.
pub(crate) fn write(
    out: &mut Vec<u8>,
    kind: Kind,
    function: &Function,
    value: &Bound<'_, PyAny>,
    is_kept: bool,
) -> PyResult<()> {
    out.push(kind as u8);
    function.write(out)?;
    write_value(out, value, is_kept)
}

/// Appends a value.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, is_kept: bool) -> PyResult<()> {
    let py = value.py();
    let (start, mut buffers) = (out.len(), Vec::new());
    let mut flag = 0;
    if packed::write(out, value) {
        flag = IS_PACKED;
    } else {
        codec::dumps(value, out, &mut buffers)?;
    }
    let mut places = Vec::new();
    if out.len() - start >= BIG_PICKLE
        && let Some(place) = py.detach(|| blocks::give(&out[start..]))
    {
        out.truncate(start);
        flag |= PICKLE_IS_A_BUFFER;
        write_place(&mut places, place, false);
    }
    for buffer in &buffers {
        write_buffer(py, &mut places, buffer, buffer.is_writable() && !is_kept);
    }
    let len = u32::try_from(places.len()).ok().filter(|len| len & FLAGS == 0);
    let len = len.ok_or_else(|| {
        PyValueError::new_err("its buffers take more than 1 GiB, and there is no room for them in shared memory now")
    })?;
    out.extend_from_slice(&places);
    out.extend_from_slice(&(len | flag).to_le_bytes());
    Ok(())
}

fn write_buffer(py: Python<'_>, out: &mut Vec<u8>, buffer: &Bytes, is_writable: bool) {
    let bytes = buffer.as_slice();
    match py.detach(|| blocks::give(bytes)) {
        Some(place) => write_place(out, place, is_writable),
        None => {
            out.extend_from_slice(&[INLINE, u8::from(is_writable)]);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn write_place(out: &mut Vec<u8>, place: Place, is_writable: bool) {
    out.extend_from_slice(&[IN_BLOCK, u8::from(is_writable)]);
    out.extend_from_slice(&place.area.to_le_bytes());
    out.extend_from_slice(&place.block.to_le_bytes());
}

/// An item in parts.
pub(crate) struct Item<'a> {
    pub(crate) kind: Kind,
    pub(crate) function: FunctionIn<'a>,
    pub(crate) value: &'a [u8],
}

/// A function as an item names it.
pub(crate) enum FunctionIn<'a> {
    Small(&'a [u8]),
    Big { number: u64, index: u32 },
}

impl FunctionIn<'_> {
    /// The pickle of a function that crossed beside its item.
    pub(crate) fn fetch(index: u32) -> PyResult<Vec<u8>> {
        let file = handle::take(index, "function").map_err(PyValueError::new_err)?;
        Ok(memfd::read_all(file.as_fd())?)
    }
}

/// Takes an item apart; `None` if it is torn.
pub(crate) fn read(item: &[u8]) -> Option<Item<'_>> {
    let mut rest = item;
    let kind = Kind::from_byte(take(&mut rest, 1)?[0])?;
    let function = match u32_of(&mut rest)? {
        BIG => FunctionIn::Big { number: u64_of(&mut rest)?, index: u32_of(&mut rest)? },
        len => FunctionIn::Small(take(&mut rest, len as usize)?),
    };
    Some(Item { kind, function, value: rest })
}

/// The value that [`write_value`] wrote. Its buffers are in place, and the reader's own.
pub(crate) fn read_value<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let torn = || PyValueError::new_err("a value is cut off on its way between a pool and a worker");
    let (rest, mut trailer) = value.split_at_checked(value.len().wrapping_sub(4)).ok_or_else(torn)?;
    let flags = u32_of(&mut trailer).ok_or_else(torn)?;
    let len = (flags & !FLAGS) as usize;
    let (pickle, mut places) = rest.split_at_checked(rest.len().wrapping_sub(len)).ok_or_else(torn)?;
    if flags == 0 {
        return codec::loads(py, PyBytes::new(py, pickle).as_any(), Vec::new());
    }
    if flags & IS_PACKED != 0 {
        let held = if flags & PICKLE_IS_A_BUFFER == 0 { None } else { Some(held(&mut places)?.ok_or_else(torn)?.0) };
        return packed::read(py, held.as_deref().map_or(pickle, |held| &**held))?.ok_or_else(torn);
    }
    let mut buffers = Vec::new();
    while !places.is_empty() {
        buffers.push(read_buffer(py, &mut places)?.ok_or_else(torn)?);
    }
    if flags & PICKLE_IS_A_BUFFER == 0 {
        return codec::loads(py, PyBytes::new(py, pickle).as_any(), buffers);
    }
    let pickle = buffers.remove(0);
    codec::loads(py, &pickle, buffers)
}

/// The next buffer, which lies in a block, and whether it may be written.
fn held(rest: &mut &[u8]) -> PyResult<Option<(Arc<Held>, bool)>> {
    let Some(&[IN_BLOCK, is_writable]) = take(rest, 2) else { return Ok(None) };
    let (Some(area), Some(block)) = (u32_of(rest), u64_of(rest)) else { return Ok(None) };
    let held = blocks::take(Place { area, block }).map_err(PyValueError::new_err)?;
    Ok(Some((held, is_writable != 0)))
}

fn read_buffer<'py>(py: Python<'py>, rest: &mut &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    match rest.first() {
        Some(&IN_BLOCK) => match held(rest)? {
            Some((held, is_writable)) => Ok(Some(Bound::new(py, Block::new(held, is_writable))?.into_any())),
            None => Ok(None),
        },
        _ => {
            let Some(&[_, is_writable]) = take(rest, 2) else { return Ok(None) };
            let Some(bytes) = u64_of(rest).and_then(|len| take(rest, usize::try_from(len).ok()?)) else {
                return Ok(None);
            };
            let bytes = PyBytes::new(py, bytes);
            if is_writable == 0 {
                return Ok(Some(bytes.into_any()));
            }
            Ok(Some(pyo3::types::PyByteArray::from(bytes.as_any())?.into_any()))
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?))
}
