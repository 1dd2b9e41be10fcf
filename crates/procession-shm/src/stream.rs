//! The stream: records from one worker to the parent, in order, without a lock. A record is committed by the one store
//! that advances the tail; it is there whole or not at all.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | 1. copy the record behind the tail | bytes that nobody sees |
//! | 2. tail := behind it, **commit** | the record |
//! | a record larger than the room: 1. copy a piece, tail := behind it | part of a record, which the parent drops |
//! | 2. wait for room, and again | the same |
//! | 3. the last piece, **commit** | the record |
//!
//! The worker waits for room only, and the parent has a thread that makes some; when the parent dies, so does the worker.

use std::io;

use crate::cursors::Cursors;
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::segment::{Bytes, Placed, Words};
use crate::spin::Spin;

/// Bytes of a stream.
pub const STREAM_CAPACITY: usize = 256 * 1024;

/// The longest payload of a record, in bytes.
pub const MAX_RECORD: usize = 2 << 30;

/// Length and tag; positions are multiples of this, so that a header never meets the end.
const HEADER: usize = 8;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct StreamWords {
    cursors: Cursors,
    /// The producer sleeps here for room.
    room: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is an empty stream.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for StreamWords {}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    pub(crate) words: Placed<StreamWords>,
    pub(crate) bytes: Bytes,
}

impl Stream {
    /// Producer: appends a record of all `parts`, one behind the other. Waits for room if there is too little, waking
    /// the consumer at its gate so that it makes some.
    ///
    /// # Panics
    ///
    /// If the record is longer than [`MAX_RECORD`].
    pub fn write(&self, tag: u32, parts: &[&[u8]], consumer: &Gate) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len <= MAX_RECORD, "a record of {len} bytes is too long");
        let header = (len as u64 | u64::from(tag) << 32).to_le_bytes();
        let (tail, room) = self.words.cursors.room(STREAM_CAPACITY);
        if HEADER + len.next_multiple_of(HEADER) > room {
            return self.write_in_pieces(&header, parts, consumer);
        }
        let mut at = tail;
        for part in std::iter::once(&header[..]).chain(parts.iter().copied()) {
            self.copy_in(at, part);
            at += part.len() as u64;
        }
        point(Step::StreamCopied);
        self.words.cursors.commit(at.next_multiple_of(HEADER as u64));
        point(Step::StreamCommitted);
    }

    /// Whether everything committed has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.cursors.is_empty()
    }

    /// Consumer, when the producer is dead: an empty stream for the next.
    pub fn reset(&self) {
        self.words.cursors.reset();
    }

    #[cold]
    fn write_in_pieces(&self, header: &[u8; HEADER], parts: &[&[u8]], consumer: &Gate) {
        let padding = [0; HEADER];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let pad = len.next_multiple_of(HEADER) - len;
        let sources = std::iter::once(&header[..]).chain(parts.iter().copied()).chain([&padding[..pad]]);
        // Commits stay at multiples of the header's size: what is over waits in `at` until more is behind it.
        let mut at = self.words.cursors.room(STREAM_CAPACITY).0;
        for mut source in sources {
            while !source.is_empty() {
                let (tail, room) = self.words.cursors.room(STREAM_CAPACITY);
                let free = room - (at - tail) as usize;
                if free == 0 {
                    self.words.cursors.commit(at);
                    point(Step::StreamPiece);
                    consumer.wake(1);
                    let has_room = || self.words.cursors.room(STREAM_CAPACITY).1 > 0;
                    self.words.room.wait_until(None, &Spin::none(), has_room);
                    continue;
                }
                let (piece, rest) = source.split_at(source.len().min(free));
                self.copy_in(at, piece);
                at += piece.len() as u64;
                source = rest;
            }
        }
        self.words.cursors.commit(at);
        point(Step::StreamCommitted);
    }

    #[inline]
    fn copy_in(&self, at: u64, source: &[u8]) {
        let at = at as usize % STREAM_CAPACITY;
        if source.len() <= STREAM_CAPACITY - at {
            return self.bytes.write(at, source);
        }
        let (first, second) = source.split_at(STREAM_CAPACITY - at);
        self.bytes.write(at, first);
        self.bytes.write(0, second);
    }
}

/// The consumer's side: it keeps the part of a record that has arrived while the rest has not.
#[derive(Debug, Default)]
pub struct StreamReader {
    pending: Vec<u8>,
}

impl StreamReader {
    /// Takes every committed record off the stream, giving each to `visitor`: tag and payload.
    ///
    /// # Errors
    ///
    /// If the stream makes no sense: its producer has overwritten it. Nothing more is to be had from it.
    pub fn drain(&mut self, stream: &Stream, mut visitor: impl FnMut(u32, &[u8])) -> io::Result<()> {
        let cursors = &stream.words.cursors;
        let available = cursors.available();
        let mut at = available.start;
        if available.end.wrapping_sub(at) > STREAM_CAPACITY as u64 || !available.end.is_multiple_of(HEADER as u64) {
            return Err(senseless());
        }
        while at < available.end {
            let offset = at as usize % STREAM_CAPACITY;
            let run = ((available.end - at) as usize).min(STREAM_CAPACITY - offset);
            let bytes = stream.bytes.slice(offset, run);
            if self.pending.is_empty() {
                let (len, tag) = header(bytes)?;
                let whole = HEADER + len.next_multiple_of(HEADER);
                if whole <= run {
                    visitor(tag, &bytes[HEADER..HEADER + len]);
                    at += whole as u64;
                    continue;
                }
            }
            at += self.gather(bytes, &mut visitor)? as u64;
            cursors.release(at);
            stream.words.room.wake(1);
        }
        cursors.release(at);
        stream.words.room.wake(1);
        Ok(())
    }

    /// Adds to the record that is arriving; says how much of `bytes` is its.
    fn gather(&mut self, bytes: &[u8], visitor: &mut impl FnMut(u32, &[u8])) -> io::Result<usize> {
        let (len, tag) = header(if self.pending.is_empty() { bytes } else { &self.pending })?;
        let whole = HEADER + len.next_multiple_of(HEADER);
        let missing = (whole - self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(&bytes[..missing]);
        if self.pending.len() == whole {
            visitor(tag, &self.pending[HEADER..HEADER + len]);
            self.pending = Vec::new();
        }
        Ok(missing)
    }
}

#[inline]
fn header(bytes: &[u8]) -> io::Result<(usize, u32)> {
    let word = bytes.first_chunk().copied().map(u64::from_le_bytes).ok_or_else(senseless)?;
    let (len, tag) = (word as u32 as usize, (word >> 32) as u32);
    if len > MAX_RECORD { Err(senseless()) } else { Ok((len, tag)) }
}

fn senseless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a record in a stream makes no sense: shared memory was overwritten")
}
