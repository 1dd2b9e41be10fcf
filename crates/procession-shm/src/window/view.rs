//! The mapped part of a window in this process: here places in a window become references.

#![allow(unsafe_code, reason = "makes references into the mapping")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use procession_sys::bytes::copy_short;
use procession_sys::mapping::{Extent, Mapping};

use super::Window;
use crate::segment::Words;

/// Bytes of a window in this process's memory. The protocols say who may read or write which of
/// them, and when.
#[derive(Debug)]
pub(crate) struct View {
    base: NonNull<u8>,
    pub(super) len: usize,
    /// The window's extents when this was mapped. It may have mapped only some of them.
    pub(super) extents: Vec<Extent>,
    /// The view before this one, in the window's chain.
    pub(super) older: *mut View,
    _mapping: Mapping,
}

// SAFETY: the memory is the mapping's, which is kept beside, and is bound to no thread. Only the
// drop of the window follows `older`.
unsafe impl Send for View {}
// SAFETY: as above; between threads the protocols say who may access what, as between processes.
unsafe impl Sync for View {}

impl View {
    /// Maps these extents of a file, one behind the other.
    pub(super) fn of(file: BorrowedFd<'_>, extents: Vec<Extent>) -> io::Result<View> {
        let mapping = Mapping::of_extents(file, &extents)?;
        mapping.leave_out_of_core_dumps();
        Ok(View { base: mapping.base(), len: mapping.len(), extents, older: std::ptr::null_mut(), _mapping: mapping })
    }

    /// Returns how many bytes are mapped.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies `source` to `at`.
    #[inline]
    pub(crate) fn write(&self, at: usize, source: &[u8]) {
        let len = source.len();
        let (to, from) = (self.range(at, len).as_ptr(), source.as_ptr());
        // SAFETY: `range` has shown that the target is inside the mapping. The mapping is not
        // memory of this program's own, so it does not overlap `source`. By protocol no other
        // process reads these bytes before the commit.
        unsafe { copy_short(from, to, len) }
    }

    /// Writes the length of `source`, which is a byte, to `at`, and a copy of `source` behind it.
    #[inline]
    pub(crate) fn write_short(&self, at: usize, source: &[u8]) {
        let len = source.len();
        let to = self.range(at, 1 + len).as_ptr();
        // SAFETY: as in `write`; `range` has shown it for the byte before as well.
        unsafe {
            to.write(len as u8);
            copy_short(source.as_ptr(), to.add(1), len);
        }
    }

    /// Copies `source`, whose length is known at compile time, to `at`.
    #[inline]
    pub(crate) fn write_all<const LEN: usize>(&self, at: usize, source: &[u8; LEN]) {
        let to = self.range(at, LEN).cast();
        // SAFETY: as in `write`; an array of bytes may lie anywhere.
        unsafe { to.write(*source) }
    }

    /// Copies bytes within the view.
    pub(crate) fn copy(&self, from: usize, to: usize, len: usize) {
        let (from, to) = (self.range(from, len), self.range(to, len));
        // SAFETY: both ranges are inside the mapping; `copy_to` allows them to overlap. The caller
        // holds the lock.
        unsafe { from.copy_to(to, len) }
    }

    /// Returns the `len` bytes at `at`, in place, for as long as the protocol keeps writers away
    /// from them.
    #[inline]
    pub(crate) fn slice(&self, at: usize, len: usize) -> &[u8] {
        let from = self.range(at, len);
        // SAFETY: they are inside the mapping, which `self` keeps. They are initialised, since a
        // memfd begins as zeros. Nobody writes them while they are borrowed: bytes between a ring's
        // head and tail, in a claimed inbox or behind a stream's commit stay until the borrower
        // itself gives them back.
        unsafe { std::slice::from_raw_parts(from.as_ptr(), len) }
    }

    #[inline]
    pub(crate) fn range(&self, at: usize, len: usize) -> NonNull<u8> {
        let is_inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(is_inside, "{len} bytes at {at} are outside of the {} bytes that are mapped", self.len);
        // SAFETY: inside the mapping.
        unsafe { self.base.add(at) }
    }
}

/// Words of one type in a window.
#[derive(Debug)]
pub(crate) struct WindowArray<T: Words> {
    pub(super) window: Window,
    pub(super) at: usize,
    pub(super) count: usize,
    pub(super) words: PhantomData<T>,
}

// SAFETY: the window is for sharing between threads; no `T` is inside, and `Words` are for sharing
// between processes.
unsafe impl<T: Words> Send for WindowArray<T> {}
// SAFETY: as above; only `&T` is given out.
unsafe impl<T: Words> Sync for WindowArray<T> {}

impl<T: Words> WindowArray<T> {
    /// Returns the words, and maps them if they are not mapped yet.
    ///
    /// # Errors
    ///
    /// As [`Window::map`].
    #[inline]
    pub(crate) fn get(&self) -> io::Result<&[T]> {
        let len = self.count * size_of::<T>();
        let at = self.window.map(self.at + len)?.range(self.at, len).cast();
        // SAFETY: `range` has checked the bounds, `array` the alignment, as a view begins at a
        // page. The view lives as long as the window held beside. The words began as zeros, for
        // which `Words` promises validity, and change through atomics only.
        Ok(unsafe { std::slice::from_raw_parts(at.as_ptr(), self.count) })
    }
}
