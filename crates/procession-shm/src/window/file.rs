//! The file of a segment that has windows: who is given which of its bytes, and how that is written down.

#![allow(unsafe_code, reason = "says that a type is made for sharing")]

use std::io;

use procession_sys::mapping::Extent;
use procession_sys::memfd;

use super::senseless;
use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::{Placed, Segment, Words};

/// Extents begin and end at multiples of this in the file: of the pages of any machine.
pub(crate) const GRAIN: usize = 64 << 10;
/// In the word of an extent: how many bits the number of its grains has.
const LEN_BITS: u32 = 24;
/// The most grains of a file: their number fits the rest of the word.
const MAX_GRAINS: u64 = 1 << (64 - LEN_BITS);

/// How much of a segment's file is given out.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FileWords {
    /// In grains.
    given: AtomicU64,
}

// SAFETY: repr(C), an atomic; zero is a file of which nothing is given out, as before the maker has said otherwise.
unsafe impl Words for FileWords {}

/// The file of a segment that has windows.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(super) segment: Segment,
    words: Placed<FileWords>,
}

impl File {
    /// Of a segment with these words at `words`.
    pub(crate) fn of(segment: &Segment, words: usize) -> File {
        File { segment: segment.clone(), words: segment.words(words) }
    }

    /// Maker, before another process has it: so many bytes are given out.
    pub(crate) fn begin(&self, len: usize) {
        self.words.given.store((len / GRAIN) as u64, Ordering::Relaxed);
    }

    /// Takes `len` bytes that nobody has, a multiple of [`GRAIN`].
    ///
    /// # Errors
    ///
    /// If the file cannot be as long.
    pub(crate) fn take(&self, len: usize) -> io::Result<Extent> {
        let grains = (len / GRAIN) as u64;
        let given = &self.words.given;
        let mut from = given.load(Ordering::Relaxed);
        let to = loop {
            let to = from.checked_add(grains).filter(|to| *to < MAX_GRAINS).ok_or_else(senseless)?;
            match given.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break to,
                Err(now) => from = now,
            }
        };
        point(Step::WindowTaken);
        if let Err(error) = memfd::grow(self.segment.as_fd(), to * GRAIN as u64) {
            // Unless others have taken more: then these bytes stay unused.
            let _ = given.compare_exchange(to, from, Ordering::Relaxed, Ordering::Relaxed);
            return Err(error);
        }
        point(Step::WindowLengthened);
        Ok(Extent { offset: from * GRAIN as u64, len })
    }
}

/// The word of an extent.
pub(super) fn encode(extent: Extent) -> u64 {
    (extent.offset / GRAIN as u64) << LEN_BITS | (extent.len / GRAIN) as u64
}

/// What a word says.
pub(super) fn decode(word: u64) -> Extent {
    let grains = word & ((1 << LEN_BITS) - 1);
    Extent { offset: (word >> LEN_BITS) * GRAIN as u64, len: grains as usize * GRAIN }
}
