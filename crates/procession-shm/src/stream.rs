//! A stream carries records from one worker to the parent, in order, without a lock. One store that
//! advances the tail commits a record, so it is there whole or not at all.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | 1. copy the record behind the tail | bytes that nobody sees |
//! | 2. tail := behind it, **commit** | the record |
//! | a record larger than the room: 1. copy a piece, tail := behind it | part of a record, which the parent drops |
//! | 2. wait for room, and again | the same |
//! | 3. the last piece, **commit** | the record |
//!
//! The worker waits for nothing but room. The parent has a thread that makes some, and if the
//! parent dies, so does the worker. [`record`](crate::record) says what a record looks like: the
//! parent takes runs of short values as they stand.

use std::io;
use std::sync::Arc;

use crate::cursors::{Cursors, Produced};
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::record::{self, SHORT, Word};
use crate::ring::Overwritten;
use crate::segment::{Placed, Words};
use crate::spin::Spin;
use crate::window::{View, Window};

/// Bytes of a stream.
pub const STREAM_CAPACITY: usize = 256 * 1024;

/// The longest payload of a record, in bytes.
pub const MAX_RECORD: usize = 2 << 30;

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
#[derive(Clone, Debug)]
pub struct Stream {
    words: Placed<StreamWords>,
    pub(crate) bytes: Window,
    /// The producer's, which begins with an empty stream.
    produced: Arc<Produced>,
}

impl Stream {
    pub(crate) fn at(words: Placed<StreamWords>, bytes: Window) -> Stream {
        Stream { words, bytes, produced: Arc::new(Produced::new()) }
    }

    /// Maps its bytes. The process that writes or drains the stream calls it first.
    ///
    /// # Errors
    ///
    /// If this process may have no more addresses.
    pub(crate) fn map(&self) -> io::Result<()> {
        self.bytes.map(STREAM_CAPACITY).map(drop)
    }

    /// Producer: returns a writer that appends short values one after the other. An append by
    /// another way ends its use.
    #[inline]
    pub fn writer(&self) -> StreamWriter<'_> {
        let (tail, room) = self.room(1 + SHORT);
        let to_the_end = STREAM_CAPACITY - tail as usize % STREAM_CAPACITY;
        StreamWriter { stream: self, bytes: self.bytes.mapped(), tail, limit: tail + room.min(to_the_end) as u64 }
    }

    /// Producer: appends a record of all `parts`, one behind the other. If there is too little
    /// room, it waits and wakes the consumer at its gate so that it makes some.
    ///
    /// # Panics
    ///
    /// If the record is longer than [`MAX_RECORD`].
    pub fn write(&self, tag: u32, parts: &[&[u8]], consumer: &Gate) {
        self.write_unless(tag, parts, consumer, &|| false);
    }

    /// Producer: as [`write`](Stream::write), for a thread, which nobody can kill while it waits
    /// for room. If `gives_up` says so after a [wake](Stream::wake_producer), the record stays
    /// incomplete, as after a kill, and nothing may be appended any more.
    ///
    /// # Panics
    ///
    /// As [`write`](Stream::write).
    pub fn write_unless(&self, tag: u32, parts: &[&[u8]], consumer: &Gate, gives_up: &dyn Fn() -> bool) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len <= MAX_RECORD, "a record of {len} bytes is too long");
        let long;
        let header = if tag == 0 && len <= SHORT {
            &[len as u8][..]
        } else {
            long = record::long_header(tag, len);
            &long
        };
        let whole = header.len() + len;
        let (tail, room) = self.room(whole);
        if whole > room {
            return self.write_in_pieces(header, parts, consumer, gives_up);
        }
        let mut at = tail;
        for part in std::iter::once(header).chain(parts.iter().copied()) {
            self.copy_in(at, part);
            at += part.len() as u64;
        }
        self.commit(at);
    }

    /// Has a producer that waits for room look whether it is to give up.
    pub fn wake_producer(&self) {
        self.words.room.wake(u32::MAX);
    }

    /// Onlooker: returns how many bytes are committed and not read.
    pub fn unread(&self) -> usize {
        self.words.cursors.len().min(STREAM_CAPACITY as u64) as usize
    }

    /// Returns whether everything committed has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.cursors.is_empty()
    }

    /// Consumer, when the producer is dead: makes the stream empty for the next producer.
    pub fn reset(&self) {
        self.words.cursors.reset();
    }

    #[inline]
    fn room(&self, wanted: usize) -> (u64, usize) {
        self.produced.room(&self.words.cursors, STREAM_CAPACITY, wanted)
    }

    #[inline]
    fn commit(&self, tail: u64) {
        point(Step::StreamCopied);
        self.produced.commit(&self.words.cursors, tail);
        point(Step::StreamCommitted);
    }

    #[cold]
    fn write_in_pieces(&self, header: &[u8], parts: &[&[u8]], consumer: &Gate, gives_up: &dyn Fn() -> bool) {
        let mut at = self.room(0).0;
        for mut source in std::iter::once(header).chain(parts.iter().copied()) {
            while !source.is_empty() {
                let (tail, room) = self.room(STREAM_CAPACITY);
                let free = room - (at - tail) as usize;
                if free == 0 {
                    self.produced.commit(&self.words.cursors, at);
                    point(Step::StreamPiece);
                    consumer.wake(1);
                    let has_room = || self.room(STREAM_CAPACITY).1 > 0;
                    self.words.room.wait_until(None, &Spin::none(), || has_room() || gives_up());
                    if gives_up() {
                        return;
                    }
                    continue;
                }
                let (piece, rest) = source.split_at(source.len().min(free));
                self.copy_in(at, piece);
                at += piece.len() as u64;
                source = rest;
            }
        }
        self.commit(at);
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

/// The producer's side of a stream, as long as it appends only short values. It looks only at its
/// own memory.
#[derive(Debug)]
pub struct StreamWriter<'a> {
    stream: &'a Stream,
    bytes: &'a View,
    tail: u64,
    /// The end of the room that is known, and in one piece.
    limit: u64,
}

impl StreamWriter<'_> {
    /// As [`write_value`](StreamWriter::write_value).
    #[inline]
    pub fn write_word(&mut self, word: Word) -> bool {
        let (record, len) = word.record();
        if self.tail + record.len() as u64 > self.limit {
            return false;
        }
        // All bytes behind the commit are room.
        self.bytes.write_all(self.tail as usize % STREAM_CAPACITY, &record);
        self.tail += len as u64;
        self.stream.commit(self.tail);
        true
    }

    /// Appends a value, a record of tag 0. Returns `false` if the value is not short or finds no
    /// room in one piece: then it is for [`Stream::write`], and the caller must make a new writer.
    #[inline]
    pub fn write_value(&mut self, value: &[u8]) -> bool {
        let behind = self.tail + 1 + value.len() as u64;
        if value.len() > SHORT || behind > self.limit {
            return false;
        }
        self.bytes.write_short(self.tail as usize % STREAM_CAPACITY, value);
        self.stream.commit(behind);
        self.tail = behind;
        true
    }
}

/// A record, or a run of short values, that arrives by a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival<'a> {
    /// This many short values, in the form of [`record`](crate::record).
    Values(u32, &'a [u8]),
    /// One record: tag and payload.
    Record(u32, &'a [u8]),
}

/// The number of bytes of a stream that are copied at once before they are read. The copy does not
/// change, whatever the producer does.
const PIECE: usize = 16 * 1024;

/// The consumer's side. It remembers how far it has read, and keeps the beginning of a record until
/// the rest arrives.
#[derive(Debug, Default)]
pub struct StreamReader {
    head: u64,
    pending: Vec<u8>,
    copied: Vec<u8>,
}

impl StreamReader {
    /// Takes every committed record off the stream and calls `visitor` with it. Returns `false` if
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Overwritten`]; the stream cannot be used any more.
    pub fn drain(&mut self, stream: &Stream, mut visitor: impl FnMut(Arrival<'_>)) -> Result<bool, Overwritten> {
        let cursors = &stream.words.cursors;
        let end = cursors.committed(self.head, STREAM_CAPACITY).ok_or(OVERWRITTEN)?;
        if self.head == end {
            return Ok(false);
        }
        let mapped = stream.bytes.mapped();
        let mut copied = std::mem::take(&mut self.copied);
        while self.head < end {
            let offset = self.head as usize % STREAM_CAPACITY;
            let run = ((end - self.head) as usize).min(STREAM_CAPACITY - offset);
            // The bytes of a long record are copied straight into it.
            let run = if self.pending.is_empty() {
                let bytes = mapped.slice(offset, run.min(PIECE));
                copied.clear();
                copied.extend_from_slice(bytes);
                let mut left = &copied[..];
                while !left.is_empty() {
                    left = &left[self.read(left, &mut visitor)?..];
                }
                bytes.len()
            } else {
                self.gather(mapped.slice(offset, run), &mut visitor)?
            };
            self.head += run as u64;
            cursors.release(self.head);
            stream.words.room.wake(1);
        }
        self.copied = copied;
        Ok(true)
    }

    /// Reads the records at the beginning of `bytes` and returns their length.
    #[inline]
    fn read(&mut self, bytes: &[u8], visitor: &mut impl FnMut(Arrival<'_>)) -> Result<usize, Overwritten> {
        let (count, len) = record::short_run(bytes);
        if count > 0 {
            visitor(Arrival::Values(count, &bytes[..len]));
            return Ok(len);
        }
        let mut rest = bytes;
        let Some((tag, payload)) = record::take(&mut rest) else { return self.gather(bytes, visitor) };
        visitor(Arrival::Record(tag, payload));
        Ok(bytes.len() - rest.len())
    }

    /// Adds to the record that is arriving. Returns how many of `bytes` belong to it.
    fn gather(&mut self, bytes: &[u8], visitor: &mut impl FnMut(Arrival<'_>)) -> Result<usize, Overwritten> {
        let mut used = 0;
        loop {
            let whole = record::whole(&self.pending);
            if whole > MAX_RECORD + record::LONG_HEADER {
                return Err(OVERWRITTEN);
            }
            if self.pending.len() == whole {
                break;
            }
            if used == bytes.len() {
                return Ok(used);
            }
            let piece = (whole - self.pending.len()).min(bytes.len() - used);
            self.pending.extend_from_slice(&bytes[used..used + piece]);
            used += piece;
        }
        let record = std::mem::take(&mut self.pending);
        match record::short_run(&record) {
            (0, _) => {
                let (tag, payload) = record::take(&mut &record[..]).ok_or(OVERWRITTEN)?;
                visitor(Arrival::Record(tag, payload));
            }
            (count, _) => visitor(Arrival::Values(count, &record)),
        }
        Ok(used)
    }
}

const OVERWRITTEN: Overwritten = Overwritten("the stream of results");
