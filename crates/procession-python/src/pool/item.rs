//! The encoding of items and results between a pool and its workers. An item is a function and its
//! arguments; a result is a value. Written and read on both sides, with the interpreter attached.
//!
//! ```text
//! item    kind (the top bit: an exit is a result), function, value
//! function   length, pickle; or `BIG`, its number, its handle; or `CARRIED`, its number, length, pickle
//! value   pickle, buffers, how long the buffers' part is (4 bytes; the top bits: the pickle is the first buffer, it is no pickle)
//! buffer  0, whether it may be written, area, block; or 1, whether it may be written, length, bytes
//! ```

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;

use procession_core::pool::blocks::{self, Place};
use procession_core::{Held, handle};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::function::{self, Function, FunctionIn};
use super::packed;
use crate::buffer::{Block, Bytes};
use crate::codec;

/// The way to call a function with a value.
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

/// Beside a kind: a `SystemExit` that the function raises goes to the caller, and the worker goes
/// on.
const CARRIES_EXITS: u8 = 1 << 7;
/// In place of a function's length: it crosses beside its items.
const BIG: u32 = u32::MAX;
/// In place of a function's length: it is a big one on its way to another machine. Its pickle is
/// empty if the reader has it from the item before.
const CARRIED: u32 = u32::MAX - 1;
/// A pickle that is longer goes into a block as large buffers do.
const BIG_PICKLE: usize = 64 * 1024;
const PICKLE_IS_A_BUFFER: u32 = 1 << 31;
/// It is no pickle at all: see `packed.rs`.
const IS_PACKED: u32 = 1 << 30;
const FLAGS: u32 = PICKLE_IS_A_BUFFER | IS_PACKED;

const IN_BLOCK: u8 = 0;
const INLINE: u8 = 1;

/// Why a value was not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Pickling it raised this.
    Refused(PyErr),
    /// Its pickle names something that the reader cannot find.
    NamesUnknown,
}

impl From<PyErr> for Unwritten {
    fn from(error: PyErr) -> Unwritten {
        Unwritten::Refused(error)
    }
}

/// Appends an item. `is_kept`: it may be run again, so that its buffers are not the task's to
/// change. `names_unknown` is asked about the value's pickle.
pub(crate) fn write(
    out: &mut Vec<u8>,
    kind: Kind,
    function: &Function,
    value: &Bound<'_, PyAny>,
    is_kept: bool,
    carries_exits: bool,
    names_unknown: impl FnOnce(&[u8]) -> PyResult<bool>,
) -> Result<(), Unwritten> {
    out.push(kind as u8 | if carries_exits { CARRIES_EXITS } else { 0 });
    match function {
        Function::Small(pickle) => {
            out.extend_from_slice(&(pickle.len() as u32).to_le_bytes());
            out.extend_from_slice(pickle);
        }
        Function::Big(number, file) => {
            let index = handle::send_fd(file.as_fd(), "function").map_err(PyValueError::new_err)?;
            out.extend_from_slice(&BIG.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
    }
    write_checked_value(out, value, is_kept, names_unknown)
}

/// Appends a value.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Bound<'_, PyAny>, is_kept: bool) -> PyResult<()> {
    match write_checked_value(out, value, is_kept, |_| Ok(false)) {
        Err(Unwritten::Refused(error)) => Err(error),
        Ok(()) | Err(Unwritten::NamesUnknown) => Ok(()),
    }
}

fn write_checked_value(
    out: &mut Vec<u8>,
    value: &Bound<'_, PyAny>,
    is_kept: bool,
    names_unknown: impl FnOnce(&[u8]) -> PyResult<bool>,
) -> Result<(), Unwritten> {
    let py = value.py();
    let (start, mut buffers) = (out.len(), Vec::new());
    let mut flag = 0;
    if !codec::has_own_pickler() && packed::write(out, value) {
        flag = IS_PACKED;
    } else {
        codec::dumps(value, out, &mut buffers)?;
        if names_unknown(&out[start..])? {
            return Err(Unwritten::NamesUnknown);
        }
    }
    let mut places = Vec::new();
    if out.len() - start >= BIG_PICKLE
        && let Some(place) = py.detach(|| blocks::put_buffer(&out[start..]))
    {
        out.truncate(start);
        flag |= PICKLE_IS_A_BUFFER;
        write_place(&mut places, place, false);
    }
    for buffer in &buffers {
        write_buffer(py, &mut places, buffer, buffer.is_writable() && !is_kept)?;
    }
    Ok(append_places(out, &places, flag)?)
}

fn append_places(out: &mut Vec<u8>, places: &[u8], flag: u32) -> PyResult<()> {
    let len = u32::try_from(places.len()).ok().filter(|len| len & FLAGS == 0);
    let len = len.ok_or_else(|| {
        PyValueError::new_err("its buffers take more than 1 GiB, and there is no room for them in shared memory now")
    })?;
    codec::append(out, places)?;
    out.extend_from_slice(&(len | flag).to_le_bytes());
    Ok(())
}

fn write_buffer(py: Python<'_>, out: &mut Vec<u8>, buffer: &Bytes, is_writable: bool) -> PyResult<()> {
    let bytes = buffer.as_slice();
    match py.detach(|| blocks::put_buffer(bytes)) {
        Some(place) => write_place(out, place, is_writable),
        None => write_inline(out, bytes, is_writable)?,
    }
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8], is_writable: bool) -> PyResult<()> {
    match blocks::put_buffer(bytes) {
        Some(place) => write_place(out, place, is_writable),
        None => write_inline(out, bytes, is_writable)?,
    }
    Ok(())
}

fn write_inline(out: &mut Vec<u8>, bytes: &[u8], is_writable: bool) -> PyResult<()> {
    out.extend_from_slice(&[INLINE, u8::from(is_writable)]);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    codec::append(out, bytes)
}

fn write_place(out: &mut Vec<u8>, place: Place, is_writable: bool) {
    out.extend_from_slice(&[IN_BLOCK, u8::from(is_writable)]);
    out.extend_from_slice(&place.area.to_le_bytes());
    out.extend_from_slice(&place.block.to_le_bytes());
}

/// An item in parts.
pub(crate) struct Item<'a> {
    pub(crate) kind: Kind,
    pub(crate) carries_exits: bool,
    pub(crate) function: FunctionIn<'a>,
    pub(crate) value: &'a [u8],
}

/// Takes an item apart; `None` if it is torn.
pub(crate) fn read(item: &[u8]) -> Option<Item<'_>> {
    let mut rest = item;
    let byte = take(&mut rest, 1)?[0];
    let (kind, carries_exits) = (Kind::from_byte(byte & !CARRIES_EXITS)?, byte & CARRIES_EXITS != 0);
    let function = match u32_of(&mut rest)? {
        BIG => FunctionIn::Big { number: u64_of(&mut rest)?, index: u32_of(&mut rest)? },
        CARRIED => {
            let (number, len) = (u64_of(&mut rest)?, u32_of(&mut rest)?);
            FunctionIn::Carried { number, pickle: take(&mut rest, len as usize)? }
        }
        len => FunctionIn::Small(take(&mut rest, len as usize)?),
    };
    Some(Item { kind, carries_exits, function, value: rest })
}

/// Appends an item with all that is beside it: another machine can read it. `sent` is the number of
/// the big function that the reader has. Returns `None` if the item is torn.
pub(crate) fn write_carried(out: &mut Vec<u8>, item: &[u8], sent: &mut Option<u64>) -> PyResult<Option<()>> {
    let Some(parts) = read(item) else { return Ok(None) };
    out.push(item[0]);
    match parts.function {
        FunctionIn::Small(pickle) => {
            *sent = None;
            out.extend_from_slice(&(pickle.len() as u32).to_le_bytes());
            out.extend_from_slice(pickle);
        }
        FunctionIn::Big { number, index } => {
            let is_sent = sent.replace(number) == Some(number);
            let pickle = if is_sent { Vec::new() } else { function::receive_big(index)? };
            let len = u32::try_from(pickle.len())
                .map_err(|_| PyValueError::new_err("a function takes more than 4 GiB on its way to another machine"))?;
            out.extend_from_slice(&CARRIED.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            codec::append(out, &pickle)?;
        }
        FunctionIn::Carried { .. } => return Ok(None),
    }
    move_value(out, parts.value, write_inline)
}

/// Appends a value that came from another machine, its large buffers in blocks. Returns `None` if
/// it is torn.
pub(crate) fn write_arrived(out: &mut Vec<u8>, value: &[u8]) -> PyResult<Option<()>> {
    move_value(out, value, write_bytes)
}

/// Appends a value whose buffers `write` puts elsewhere.
fn move_value(
    out: &mut Vec<u8>,
    value: &[u8],
    write: impl Fn(&mut Vec<u8>, &[u8], bool) -> PyResult<()>,
) -> PyResult<Option<()>> {
    let Some((rest, mut trailer)) = value.split_at_checked(value.len().wrapping_sub(4)) else { return Ok(None) };
    let Some(flags) = u32_of(&mut trailer) else { return Ok(None) };
    let len = (flags & !FLAGS) as usize;
    let Some((pickle, mut rest)) = rest.split_at_checked(rest.len().wrapping_sub(len)) else { return Ok(None) };
    let mut places = Vec::new();
    if flags & PICKLE_IS_A_BUFFER == 0 {
        codec::append(out, pickle)?;
    } else {
        let Some((held, _)) = held(&mut rest)? else { return Ok(None) };
        codec::append(out, &held)?;
    }
    while !rest.is_empty() {
        if rest[0] == IN_BLOCK {
            let Some((held, is_writable)) = held(&mut rest)? else { return Ok(None) };
            write(&mut places, &held, is_writable)?;
        } else {
            let Some((bytes, is_writable)) = inline(&mut rest) else { return Ok(None) };
            write(&mut places, bytes, is_writable)?;
        }
    }
    append_places(out, &places, flags & IS_PACKED)?;
    Ok(Some(()))
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
    let held = blocks::take_buffer(Place { area, block }).map_err(|error| match error.kind() {
        ErrorKind::OutOfMemory => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    })?;
    Ok(Some((held, is_writable != 0)))
}

fn read_buffer<'py>(py: Python<'py>, rest: &mut &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    match rest.first() {
        Some(&IN_BLOCK) => match held(rest)? {
            Some((held, is_writable)) => Ok(Some(Bound::new(py, Block::new(held, is_writable))?.into_any())),
            None => Ok(None),
        },
        _ => {
            let Some((bytes, is_writable)) = inline(rest) else { return Ok(None) };
            if !is_writable {
                return Ok(Some(PyBytes::new(py, bytes).into_any()));
            }
            Ok(Some(PyByteArray::new(py, bytes).into_any()))
        }
    }
}

/// The next buffer, which travels with the rest, and whether it may be written.
fn inline<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let &[INLINE, is_writable] = take(rest, 2)? else { return None };
    let len = usize::try_from(u64_of(rest)?).ok()?;
    Some((take(rest, len)?, is_writable != 0))
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
