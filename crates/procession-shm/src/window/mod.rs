//! A window is a part of a segment whose length nobody knows beforehand. It begins small and grows,
//! and a process maps it when and as far as it needs it. So a segment takes few addresses and a
//! short file, whatever it may become. Used in any process that has the segment, from any thread.
//!
//! A window consists of *extents* of the segment's file, which lie one behind the other in memory.
//! Each is a word in the part of the segment that is always mapped. Only one process at a time
//! lengthens a window, its *owner*:
//!
//! | window | owner |
//! |---|---|
//! | a ring's frames | the holder of both of its locks |
//! | an inbox, a stream, an area of results | their worker |
//! | the area of arguments | the parent |
//!
//! | step of growth | a death after it leaves |
//! |---|---|
//! | 1. `given` := behind the next bytes of the file | bytes of the file that nobody uses; they take no memory |
//! | 2. lengthen the file | the same |
//! | 3. the extent's word := where they are, **commit** | the longer window |
//! | 4. map it | the same: a mapping is the process's own |
//!
//! **Extents never change**, and the file's seal keeps it from being shortened, so mappings stay
//! valid. A process that needs more than it has mapped maps all anew in another place. It keeps the
//! older mapping, where other threads and holders of blocks may be reading. Each extent is as long
//! as all before it where the limits allow that, so all mappings of a window together are no longer
//! than twice the last.
//!
//! **The words are not trusted.** Any process of the pool may have overwritten them. A process
//! reads an extent's word once, checks it against the length of the file before it maps the extent,
//! so that no access raises SIGBUS, and keeps it.
//!
//! There is no lock: a process may fork while another of its threads maps, and the child must be
//! able to use its copy.

#![allow(unsafe_code, reason = "keeps what it has mapped in a chain of pointers")]

mod file;
mod view;

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;

use procession_sys::mapping::Extent;
use procession_sys::memfd;

pub(crate) use file::{File, FileWords, GRAIN};
use file::{decode, encode};
pub(crate) use view::{View, WindowArray};

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::{Placed, Words};

/// By doubling, 20 extents of the shortest window make 32 GiB. The others are for windows that grow
/// in smaller steps.
const MAX_EXTENTS: usize = 32;

/// The extents of a window.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct WindowWords {
    /// Each extent's place and its length in grains; 0 behind the last.
    extents: [AtomicU64; MAX_EXTENTS],
}

// SAFETY: repr(C), nothing but atomics; zero is a window of no bytes.
unsafe impl Words for WindowWords {}

/// See the module. Clones share the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The newest view; null if nothing is mapped. The older ones are kept until the drop.
    view: AtomicPtr<View>,
    file: File,
    words: Placed<WindowWords>,
    /// The greatest length that the window may have.
    max: usize,
}

impl Window {
    /// Returns the window with its words at `words`, which may grow to `max` bytes.
    pub(crate) fn at(file: &File, words: usize, max: usize) -> Window {
        assert!(max.is_multiple_of(GRAIN), "a window has whole grains");
        let view = AtomicPtr::new(std::ptr::null_mut());
        Window(Arc::new(Inner { view, words: file.segment.words(words), file: file.clone(), max }))
    }

    /// Owner: gives an empty window its first extent.
    pub(crate) fn begin(&self, extent: Extent) {
        self.0.words.extents[0].store(encode(extent), Ordering::Release);
    }

    /// Returns how many bytes it may have.
    pub(crate) fn len(&self) -> usize {
        self.0.max
    }

    /// Maps its first `end` bytes, if they are not mapped.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if this process can have no more addresses; `InvalidData` if it is shorter, or
    /// its words are invalid.
    #[inline]
    pub(crate) fn map(&self, end: usize) -> io::Result<&View> {
        match self.view() {
            Some(view) if end <= view.len => Ok(view),
            _ => self.map_anew(end),
        }
    }

    /// Owner: as [`map`](Window::map), and lengthens the window if it is shorter.
    ///
    /// # Errors
    ///
    /// As `map`; and if it cannot be that long.
    #[inline]
    pub(crate) fn reserve(&self, end: usize) -> io::Result<&View> {
        match self.view() {
            Some(view) if end <= view.len => Ok(view),
            _ => self.lengthen(end),
        }
    }

    /// Returns what is mapped; `None` if nothing is.
    #[inline]
    pub(crate) fn view(&self) -> Option<&View> {
        // SAFETY: null, or a view that `map_anew` has made and leaked into the chain. Only the drop
        // of the window takes the chain apart, so the view is there as long as `self`, and nobody
        // has a mutable reference to it.
        unsafe { self.0.view.load(Ordering::Acquire).as_ref() }
    }

    /// Copies `source` to `at`, which is mapped.
    #[inline]
    pub(crate) fn write(&self, at: usize, source: &[u8]) {
        self.mapped().write(at, source);
    }

    /// Returns the `len` bytes at `at` in place, which are mapped, for as long as the protocol
    /// keeps writers away from them.
    #[inline]
    pub(crate) fn slice(&self, at: usize, len: usize) -> &[u8] {
        self.mapped().slice(at, len)
    }

    /// Returns a copy of the `len` bytes at `at` without mapping them: for a process that reads
    /// another's window once.
    ///
    /// # Errors
    ///
    /// `InvalidData` if they are not there, or its words are invalid.
    pub(crate) fn read(&self, at: usize, len: usize) -> io::Result<Vec<u8>> {
        let extents = self.extents()?;
        if at.checked_add(len).is_none_or(|end| end > total(&extents)) {
            return Err(invalid());
        }
        let mut bytes = vec![0; len];
        let mut rest = &mut bytes[..];
        for piece in pieces(&extents, at, len) {
            let (these, others) = rest.split_at_mut(piece.len);
            memfd::read_at(self.0.file.segment.as_fd(), piece.offset, these)?;
            rest = others;
        }
        Ok(bytes)
    }

    /// Maps the `len` bytes at `at` alone: for a process that cannot map all before them.
    ///
    /// # Errors
    ///
    /// As [`map`](Window::map).
    pub(crate) fn map_alone(&self, at: usize, len: usize) -> io::Result<(View, usize)> {
        let extents = self.extents()?;
        let from = at / GRAIN * GRAIN;
        let to = at.checked_add(len).filter(|end| *end <= total(&extents)).ok_or_else(invalid)?;
        let view =
            View::of(self.0.file.segment.as_fd(), pieces(&extents, from, to.next_multiple_of(GRAIN) - from).collect())?;
        Ok((view, at - from))
    }

    /// Gives the pages of the `len` bytes at `at` back, as far as the window has them; they read as
    /// zeros again.
    ///
    /// # Errors
    ///
    /// If the system refuses; if its words are invalid.
    pub(crate) fn punch(&self, at: usize, len: usize) -> io::Result<()> {
        for piece in pieces(&self.extents()?, at, len) {
            memfd::punch_hole(self.0.file.segment.as_fd(), piece.offset, piece.len as u64)?;
        }
        Ok(())
    }

    /// Returns the `count` words of one type at `at`. Its user maps them.
    pub(crate) fn array<T: Words>(&self, at: usize, count: usize) -> WindowArray<T> {
        assert!(at.is_multiple_of(align_of::<T>()), "words at {at} are not aligned");
        WindowArray { window: self.clone(), at, count, words: PhantomData }
    }

    /// Returns the view, for a caller that has mapped what it needs.
    #[inline]
    pub(crate) fn mapped(&self) -> &View {
        self.view().expect("who reads and writes a window has mapped it")
    }

    #[cold]
    fn map_anew(&self, end: usize) -> io::Result<&View> {
        let extents = self.extents()?;
        if total(&extents) < end { Err(invalid()) } else { self.map_of(extents, end) }
    }

    #[cold]
    fn lengthen(&self, end: usize) -> io::Result<&View> {
        let mut extents = self.extents()?;
        if total(&extents) < end {
            let extent = self.append(&extents, end)?;
            extents.push(extent);
        }
        self.map_of(extents, end)
    }

    /// Makes the window at least `end` bytes long.
    fn append(&self, extents: &[Extent], end: usize) -> io::Result<Extent> {
        let len = total(extents);
        if end > self.0.max || extents.len() == MAX_EXTENTS {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "this shared memory cannot grow any further"));
        }
        let least = end.next_multiple_of(GRAIN).min(self.0.max) - len;
        let double = len.min(self.0.max - len).max(least);
        let extent = match self.0.file.take(double) {
            Err(_) if double > least => self.0.file.take(least),
            taken => taken,
        }?;
        self.0.words.extents[extents.len()].store(encode(extent), Ordering::Release);
        point(Step::WindowCommitted);
        Ok(extent)
    }

    /// Returns its extents. Mapped ones are known and trusted; the others are read and checked.
    fn extents(&self) -> io::Result<Vec<Extent>> {
        let mut extents = self.view().map(|view| view.extents.clone()).unwrap_or_default();
        for word in &self.0.words.extents[extents.len()..] {
            let word = word.load(Ordering::Acquire);
            if word == 0 {
                break;
            }
            let extent = decode(word);
            // Read after each word. The file was lengthened before the word was written, and may be
            // lengthened meanwhile.
            let is_long = memfd::sealed_len(self.0.file.segment.as_fd())?;
            let fixed = self.0.file.segment.len() as u64;
            let is_inside = extent.offset >= fixed && extent.offset + extent.len as u64 <= is_long;
            if !is_inside || extent.len == 0 || extent.len > self.0.max - total(&extents) {
                return Err(invalid());
            }
            extents.push(extent);
        }
        Ok(extents)
    }

    /// Maps the extents that hold the first `end` bytes, whole if there are addresses for that.
    fn map_of(&self, extents: Vec<Extent>, end: usize) -> io::Result<&View> {
        let mut whole = 0;
        let needed = extents.iter().take_while(|extent| {
            let is_needed = whole < end;
            whole += extent.len;
            is_needed
        });
        let needed = needed.count();
        let whole = total(&extents[..needed]);
        let mut view = match View::of(self.0.file.segment.as_fd(), extents[..needed].to_vec()) {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && end.next_multiple_of(GRAIN) < whole => {
                View::of(self.0.file.segment.as_fd(), pieces(&extents, 0, end.next_multiple_of(GRAIN)).collect())
            }
            mapped => mapped,
        }?;
        view.extents = extents;
        let new = Box::into_raw(Box::new(view));
        let mut older = self.0.view.load(Ordering::Acquire);
        loop {
            // SAFETY: as in `view`; null is none.
            if let Some(others) = unsafe { older.as_ref() }
                && others.len >= end
            {
                // Another thread has mapped as much. A view is never replaced by a shorter one.
                // SAFETY: made above, by `Box`, and not in the chain.
                drop(unsafe { Box::from_raw(new) });
                return Ok(others);
            }
            // SAFETY: made above, and nobody else knows of it yet.
            unsafe { (*new).older = older };
            match self.0.view.compare_exchange_weak(older, new, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: it is in the chain now, and so there as long as `self`: see `view`.
                Ok(_) => return Ok(unsafe { &*new }),
                Err(now) => older = now,
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut next = *self.view.get_mut();
        while !next.is_null() {
            // SAFETY: a view of the chain, made by `Box`. Nobody refers to it any more, since
            // references to it borrow the window.
            let view = unsafe { Box::from_raw(next) };
            next = view.older;
        }
    }
}

fn total(extents: &[Extent]) -> usize {
    extents.iter().map(|extent| extent.len).sum()
}

/// Returns the parts of the file that are the `len` bytes at `at` of a window with these extents,
/// as far as it has them.
fn pieces(extents: &[Extent], at: usize, len: usize) -> impl Iterator<Item = Extent> {
    let end = at.saturating_add(len);
    let mut begin = 0;
    extents.iter().filter_map(move |extent| {
        let (from, to) = (at.max(begin), end.min(begin + extent.len));
        let skipped = from.saturating_sub(begin) as u64;
        begin += extent.len;
        (from < to).then(|| Extent { offset: extent.offset + skipped, len: to - from })
    })
}

pub(super) fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the parts of shared memory make no sense: it was overwritten")
}

#[cfg(test)]
mod tests;
