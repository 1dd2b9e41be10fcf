//! The frames of a ring: how a frame lies in memory, and what the holder of an end does with it.
//! This file reads neither cursors nor capacity from shared memory: the caller passes them.

use std::io;

use super::{Cursor, Ends, RingFull, UNIT};
use crate::fault::{Step, point};
use crate::primitive::Ordering;
#[cfg(loom)]
use crate::segment::{View, Window};
#[cfg(not(loom))]
use crate::window::{View, Window};

/// The number of bytes of a new ring.
pub(crate) const BEGINS_WITH: usize = if cfg!(loom) { 32 } else { 64 * 1024 };
/// The capacity a ring begins with and returns to.
const INITIAL: u64 = BEGINS_WITH as u64;
/// A ring that has grown beyond this gives its memory back when it is empty.
const KEPT: u64 = if cfg!(loom) { 32 } else { 4 << 20 };
pub(super) const HEADER: usize = 8;
/// A bit of a header: consumers skip the frame.
const VOID: u64 = 1 << 63;

/// See the module.
#[derive(Debug)]
pub(super) struct Frames {
    window: Window,
    /// The longest frame, in bytes.
    longest: usize,
}

/// The frames of a process that has mapped as much as the capacity.
#[derive(Clone, Copy)]
pub(super) struct Laid<'a> {
    bytes: &'a View,
    capacity: u64,
    longest: usize,
}

/// A frame's header.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) is_void: bool,
}

impl Frames {
    /// Returns the frames in a window. Each must fit `most` bytes, its header included.
    pub(super) fn new(window: Window, most: usize) -> Frames {
        Frames { window, longest: most - UNIT as usize }
    }

    /// Returns the length of a frame of all `parts`.
    pub(super) fn len_of(&self, parts: &[&[u8]]) -> Result<usize, RingFull> {
        let len = parts.iter().map(|part| part.len()).sum();
        let most = self.longest;
        if len > most { Err(RingFull::TooLong { len, most }) } else { Ok(len) }
    }

    /// Maps the part that holds frames, for a caller that will read or write some.
    ///
    /// # Errors
    ///
    /// As [`Window::map`].
    #[inline]
    pub(super) fn map(&self, capacity: u64) -> io::Result<Laid<'_>> {
        Ok(Laid { bytes: self.window.map(capacity as usize)?, capacity, longest: self.longest })
    }

    /// Makes room for `room` bytes more than those between the cursors, with both ends held.
    /// Returns the new capacity.
    #[cold]
    pub(super) fn grow(
        &self,
        ends: &Ends,
        mut capacity: u64,
        [head, tail]: [Cursor; 2],
        room: u64,
    ) -> Result<u64, RingFull> {
        let (used, frames) = tail.since(head);
        if frames + 1 >= Cursor::COUNT {
            return Err(RingFull::Reservation(used));
        }
        let mut needed = capacity;
        while used + room > needed {
            needed *= 2;
        }
        if needed > self.window.len() as u64 {
            return Err(RingFull::Reservation(used));
        }
        let bytes = self.window.reserve(needed as usize).map_err(RingFull::of_window)?;
        while capacity < needed {
            let double = capacity * 2;
            // A byte at p mod C must lie at p mod 2C: the same place, or C higher.
            let (mut at, end) = (head.position(), head.position() + used);
            while at < end {
                let piece = (capacity - at % capacity).min(end - at);
                if at % double >= capacity {
                    let old = (at % capacity) as usize;
                    bytes.copy(old, old + capacity as usize, piece as usize);
                }
                at += piece;
            }
            point(Step::GrowCopied);
            ends.capacity.store(double, Ordering::Release);
            point(Step::GrowCommitted);
            capacity = double;
        }
        Ok(capacity)
    }

    /// Returns whether an empty ring of this capacity should give its memory back.
    pub(super) fn is_large(&self, capacity: u64) -> bool {
        capacity > KEPT
    }

    /// Gives the memory of an empty ring back, with both ends held. Returns the new capacity.
    pub(super) fn shrink(&self, ends: &Ends, capacity: u64) -> io::Result<u64> {
        // Twice the capacity, because a process may have died there in a growth before its commit.
        self.window.punch(0, (capacity as usize).saturating_mul(2))?;
        point(Step::ShrinkPunched);
        ends.capacity.store(INITIAL, Ordering::Release);
        point(Step::ShrinkCommitted);
        Ok(INITIAL)
    }

    /// Returns the frame at `at` and a copy of its first bytes, `most` at most, without mapping
    /// them. Returns `None` if that is the tail.
    pub(super) fn read(
        &self,
        capacity: u64,
        at: Cursor,
        tail: Cursor,
        most: usize,
    ) -> io::Result<Option<(Frame, Vec<u8>)>> {
        if at == tail {
            return Ok(None);
        }
        let frame = frame_of(&self.copy(capacity, at.position(), HEADER)?, tail.since(at).0, capacity, self.longest)?;
        Ok(Some((frame, self.copy(capacity, at.position() + HEADER as u64, frame.len.min(most))?)))
    }

    fn copy(&self, capacity: u64, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let at = (position & (capacity - 1)) as usize;
        let first = len.min(capacity as usize - at);
        let mut bytes = self.window.read(at, first)?;
        bytes.extend(self.window.read(0, len - first)?);
        Ok(bytes)
    }
}

impl<'a> Laid<'a> {
    /// Writes a frame behind `tail`, where there is room. Returns the tail behind it, which the
    /// caller must commit.
    pub(super) fn append(self, tail: Cursor, len: usize, parts: &[&[u8]]) -> Cursor {
        let mut at = tail.position();
        self.write(at, &(len as u64).to_le_bytes());
        at += HEADER as u64;
        for part in parts {
            self.write(at, part);
            at += part.len() as u64;
        }
        point(Step::PushCopied);
        tail.behind(footprint(len))
    }

    /// Returns the frame at `at`, for the holder of the head; `None` behind the newest.
    pub(super) fn next(self, ends: &Ends, at: Cursor) -> io::Result<Option<Frame>> {
        let seen = &ends.head.tail_seen;
        let mut tail = Cursor(seen.load(Ordering::Relaxed));
        if tail == at {
            tail = ends.tail(Ordering::Acquire);
            seen.store(tail.0, Ordering::Relaxed);
        }
        self.frame_at(at, tail)
    }

    /// Returns the frame at `at`; `None` if that is the tail.
    pub(super) fn frame_at(self, at: Cursor, tail: Cursor) -> io::Result<Option<Frame>> {
        if at == tail {
            return Ok(None);
        }
        let [header, _] = self.parts(at.position(), HEADER);
        frame_of(header, tail.since(at).0, self.capacity, self.longest).map(Some)
    }

    /// Returns the bytes of the frame at `at`.
    pub(super) fn content(self, at: Cursor, frame: Frame) -> [&'a [u8]; 2] {
        self.parts(at.position() + HEADER as u64, frame.len)
    }

    /// Voids the frame at `at` if the bytes that it begins with are wanted, so that every consumer
    /// skips it.
    pub(super) fn void(self, at: Cursor, frame: Frame, is_wanted: impl FnOnce([u8; 8]) -> bool) {
        // A header and the eight bytes behind it are one unit, and never meet the end.
        let [unit, _] = self.parts(at.position(), UNIT as usize);
        let beginning = unit[HEADER..].first_chunk().copied().filter(|beginning| frame.len >= beginning.len());
        if !frame.is_void && beginning.is_some_and(is_wanted) {
            self.write(at.position(), &(frame.len as u64 | VOID).to_le_bytes());
        }
    }

    #[inline]
    fn parts(self, position: u64, len: usize) -> [&'a [u8]; 2] {
        let at = (position & (self.capacity - 1)) as usize;
        let first = len.min(self.capacity as usize - at);
        [self.bytes.slice(at, first), if first < len { self.bytes.slice(0, len - first) } else { &[] }]
    }

    #[inline]
    fn write(self, position: u64, source: &[u8]) {
        let at = (position & (self.capacity - 1)) as usize;
        let (first, second) = source.split_at(source.len().min(self.capacity as usize - at));
        self.bytes.write(at, first);
        if !second.is_empty() {
            self.bytes.write(0, second);
        }
    }
}

/// Reads a header that stands `left` bytes before the tail.
fn frame_of(header: &[u8], left: u64, capacity: u64, longest: usize) -> io::Result<Frame> {
    let header = u64::from_le_bytes(header.try_into().map_err(|_| invalid())?);
    let (len, is_void) = (header & !VOID, header & VOID != 0);
    if len > longest as u64 || footprint(len as usize) > left || left > capacity {
        return Err(invalid());
    }
    Ok(Frame { len: len as usize, is_void })
}

/// Returns the capacity that a word of shared memory stands for.
pub(super) fn capacity_of(word: u64) -> u64 {
    if word == 0 { INITIAL } else { word }
}

/// Returns how many bytes a frame takes.
pub(super) fn footprint(len: usize) -> u64 {
    (HEADER + len).next_multiple_of(UNIT as usize) as u64
}

pub(super) fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame in the ring makes no sense: shared memory was overwritten")
}
