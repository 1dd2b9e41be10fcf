//! The frames of a ring: how one lies in memory, and what is done with them by whoever holds an end. It reads neither cursors
//! nor capacity from shared memory: the caller says them.

use std::io;

use super::{Cursor, Ends, RingFull, UNIT};
use crate::fault::{Step, point};
use crate::primitive::Ordering;
use crate::segment::Bytes;

/// The capacity a ring begins with and returns to.
const INITIAL: u64 = if cfg!(loom) { 32 } else { 64 * 1024 };
/// A ring that has grown beyond this gives its memory back when it is empty.
const KEPT: u64 = if cfg!(loom) { 32 } else { 4 << 20 };
pub(super) const HEADER: usize = 8;
/// In a header: the frame is to be skipped.
const VOID: u64 = 1 << 63;

/// See the module.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Bytes,
    /// The longest frame, in bytes.
    longest: usize,
    initial: u64,
}

/// What a frame's header says.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) is_void: bool,
}

impl Frames {
    /// In a reservation; each at most so long that it and its header fit into `most` bytes.
    pub(super) fn new(bytes: Bytes, most: usize) -> Frames {
        let initial = INITIAL.min(bytes.len() as u64);
        Frames { bytes, longest: most - UNIT as usize, initial }
    }

    /// The capacity that a word of shared memory says.
    pub(super) fn capacity(&self, word: u64) -> u64 {
        if word == 0 { self.initial } else { word }
    }

    /// The length of a frame of all `parts`.
    pub(super) fn len_of(&self, parts: &[&[u8]]) -> Result<usize, RingFull> {
        let len = parts.iter().map(|part| part.len()).sum();
        let most = self.longest;
        if len > most { Err(RingFull::TooLong { len, most }) } else { Ok(len) }
    }

    /// Writes a frame behind `tail`, where there is room. Returns the tail behind it, which is to be committed.
    pub(super) fn append(&self, capacity: u64, tail: Cursor, len: usize, parts: &[&[u8]]) -> Cursor {
        let mut at = tail.position();
        self.write(capacity, at, &(len as u64).to_le_bytes());
        at += HEADER as u64;
        for part in parts {
            self.write(capacity, at, part);
            at += part.len() as u64;
        }
        point(Step::PushCopied);
        tail.behind(footprint(len))
    }

    /// Has the ring hold `room` bytes more than those between the cursors, with both ends held. Returns the capacity then.
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
        while used + room > capacity {
            let double = capacity * 2;
            if double > self.bytes.len() as u64 {
                return Err(RingFull::Reservation(used));
            }
            // What lies at p mod C must lie at p mod 2C: the same place, or C higher.
            let (mut at, end) = (head.position(), head.position() + used);
            while at < end {
                let piece = (capacity - at % capacity).min(end - at);
                if at % double >= capacity {
                    let old = (at % capacity) as usize;
                    self.bytes.copy(old, old + capacity as usize, piece as usize);
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

    /// Whether an empty ring of this capacity is to give its memory back.
    pub(super) fn is_large(&self, capacity: u64) -> bool {
        capacity > KEPT
    }

    /// Gives the memory of an empty ring back, with both ends held. Returns the capacity then.
    pub(super) fn shrink(&self, ends: &Ends, capacity: u64) -> io::Result<u64> {
        // Twice the capacity: a growth that died before its commit has written there.
        self.bytes.punch(0, (capacity as usize).saturating_mul(2).min(self.bytes.len()))?;
        point(Step::ShrinkPunched);
        ends.capacity.store(self.initial, Ordering::Release);
        point(Step::ShrinkCommitted);
        Ok(self.initial)
    }

    /// The frame at `at`, for who holds the head; `None` behind the newest.
    pub(super) fn next(&self, ends: &Ends, capacity: u64, at: Cursor) -> io::Result<Option<Frame>> {
        let seen = &ends.head.tail_seen;
        let mut tail = Cursor(seen.load(Ordering::Relaxed));
        if tail == at {
            tail = ends.tail(Ordering::Acquire);
            seen.store(tail.0, Ordering::Relaxed);
        }
        self.frame_at(capacity, at, tail)
    }

    /// The frame at `at`; `None` if that is the tail.
    pub(super) fn frame_at(&self, capacity: u64, at: Cursor, tail: Cursor) -> io::Result<Option<Frame>> {
        if at == tail {
            return Ok(None);
        }
        let (left, _) = tail.since(at);
        let [header, _] = self.parts(capacity, at.position(), HEADER);
        let header = u64::from_le_bytes(header.try_into().map_err(|_| senseless())?);
        let (len, is_void) = (header & !VOID, header & VOID != 0);
        if len > self.longest as u64 || footprint(len as usize) > left || left > capacity {
            return Err(senseless());
        }
        Ok(Some(Frame { len: len as usize, is_void }))
    }

    /// The bytes of the frame at `at`.
    pub(super) fn content(&self, capacity: u64, at: Cursor, frame: Frame) -> [&[u8]; 2] {
        self.parts(capacity, at.position() + HEADER as u64, frame.len)
    }

    /// Has every consumer skip the frame at `at`, if it begins with these bytes.
    pub(super) fn void(&self, capacity: u64, at: Cursor, frame: Frame, beginning: [u8; 8]) {
        // A header and the eight bytes behind it are one unit, and never meet the end.
        let [unit, _] = self.parts(capacity, at.position(), UNIT as usize);
        if !frame.is_void && frame.len >= beginning.len() && unit[HEADER..] == beginning {
            self.write(capacity, at.position(), &(frame.len as u64 | VOID).to_le_bytes());
        }
    }

    fn parts(&self, capacity: u64, position: u64, len: usize) -> [&[u8]; 2] {
        let at = (position & (capacity - 1)) as usize;
        let first = len.min(capacity as usize - at);
        [self.bytes.slice(at, first), self.bytes.slice(0, len - first)]
    }

    fn write(&self, capacity: u64, position: u64, source: &[u8]) {
        let at = (position & (capacity - 1)) as usize;
        let (first, second) = source.split_at(source.len().min(capacity as usize - at));
        self.bytes.write(at, first);
        if !second.is_empty() {
            self.bytes.write(0, second);
        }
    }
}

/// The bytes that a frame takes.
pub(super) fn footprint(len: usize) -> u64 {
    (HEADER + len).next_multiple_of(UNIT as usize) as u64
}

pub(super) fn senseless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame in the ring makes no sense: shared memory was overwritten")
}
