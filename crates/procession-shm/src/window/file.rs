//! The file of a segment that has windows: which window has which of its bytes.
//!
//! A word counts the bytes that are given out. It is never below the file's length, because it is
//! raised before the file is lengthened. It is above the length by no more than all windows
//! together can ask for at once. So a process sees whether the word was overwritten.

#![allow(unsafe_code, reason = "says that a type is made for sharing")]

use std::io;

use procession_sys::mapping::Extent;
use procession_sys::memfd;

use super::invalid;
use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::{Placed, Segment, Words};

/// Extents begin and end at multiples of this in the file: a multiple of any machine's page size.
pub(crate) const GRAIN: usize = 64 << 10;
/// The number of bits of an extent's word that hold the number of its grains.
const LEN_BITS: u32 = 24;
/// The most grains of a file: the number fits the rest of the word.
const MAX_GRAINS: u64 = 1 << (64 - LEN_BITS);

/// The part of a segment's file that is given out.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FileWords {
    /// In grains.
    given: AtomicU64,
}

// SAFETY: repr(C), an atomic; zero is a file of which nothing is given out, as before `begin`.
unsafe impl Words for FileWords {}

/// The file of a segment that has windows.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(super) segment: Segment,
    words: Placed<FileWords>,
    /// The most bytes that all windows may have together.
    most: usize,
}

impl File {
    /// Returns the file of a segment with these words at `words`, whose windows may have `most`
    /// bytes altogether.
    pub(crate) fn of(segment: &Segment, words: usize, most: usize) -> File {
        File { segment: segment.clone(), words: segment.words(words), most }
    }

    /// Maker, before another process has the segment: says that this many bytes are given out.
    pub(crate) fn begin(&self, len: usize) {
        self.words.given.store((len / GRAIN) as u64, Ordering::Relaxed);
    }

    /// Takes `len` bytes that no window has, a multiple of [`GRAIN`].
    ///
    /// # Errors
    ///
    /// If the file cannot be that long. `InvalidData` if the count of given bytes is impossible.
    pub(crate) fn take(&self, len: usize) -> io::Result<Extent> {
        let grains = (len / GRAIN) as u64;
        let given = &self.words.given;
        let (from, to) = loop {
            let from = self.check()?;
            let to = from.checked_add(grains).filter(|to| *to < MAX_GRAINS).ok_or_else(invalid)?;
            if given.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                break (from, to);
            }
        };
        point(Step::WindowTaken);
        if let Err(error) = memfd::grow(self.segment.as_fd(), to * GRAIN as u64) {
            // If others have taken more meanwhile, these bytes stay unused.
            let _ = given.compare_exchange(to, from, Ordering::Relaxed, Ordering::Relaxed);
            return Err(error);
        }
        point(Step::WindowLengthened);
        Ok(Extent { offset: from * GRAIN as u64, len })
    }

    /// Returns how many grains are given out, if that number is possible.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not.
    pub(crate) fn check(&self) -> io::Result<u64> {
        // Read before the number, which may grow by as much in between.
        let len = memfd::sealed_len(self.segment.as_fd())?;
        let given = self.words.given.load(Ordering::Acquire);
        let ahead = given.checked_mul(GRAIN as u64).and_then(|bytes| bytes.checked_sub(len));
        if ahead.is_some_and(|ahead| ahead <= 2 * self.most as u64) { Ok(given) } else { Err(invalid()) }
    }
}

/// Returns the word of an extent.
pub(super) fn encode(extent: Extent) -> u64 {
    (extent.offset / GRAIN as u64) << LEN_BITS | (extent.len / GRAIN) as u64
}

/// Returns the extent of a word.
pub(super) fn decode(word: u64) -> Extent {
    let grains = word & ((1 << LEN_BITS) - 1);
    Extent { offset: (word >> LEN_BITS) * GRAIN as u64, len: grains as usize * GRAIN }
}
