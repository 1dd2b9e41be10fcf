//! The segment of the models (`models/tests/*.rs`), in the place of `segment.rs`. Its words are
//! loom's atomics. Its plain bytes are memory of which loom sees every read and write, so it finds
//! a read of bytes that may not be written yet, and a write of bytes that may still be read. It
//! runs in the threads of a model, of which loom runs one at a time.

#![allow(unsafe_code, reason = "gives out bytes in place, as the segment does")]

use std::cell;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use loom::cell::UnsafeCell;

/// Loom watches units of this many bytes: the smallest thing that the protocols move.
const UNIT: usize = 8;

/// Makes words and bytes, which begin as zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment;

impl Segment {
    pub(crate) fn words<T: Words + Zeroed>(&self, _: usize) -> Placed<T> {
        Placed(Arc::new(T::zeroed()))
    }

    pub(crate) fn window(&self, len: usize) -> Window {
        let watched = (0..len.div_ceil(UNIT)).map(|_| UnsafeCell::new(())).collect();
        Window(Arc::new(Memory { watched, bytes: cell::UnsafeCell::new(vec![0; len].into()), len }))
    }
}

/// As in `segment.rs`.
///
/// # Safety
///
/// As there.
pub(crate) unsafe trait Words {}

/// Words that loom makes: its atomics are not valid as zero bytes.
pub(crate) trait Zeroed {
    fn zeroed() -> Self;
}

#[derive(Debug)]
pub(crate) struct Placed<T>(Arc<T>);

impl<T> Clone for Placed<T> {
    fn clone(&self) -> Self {
        Placed(self.0.clone())
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Words that lie in a window; in the models, beside it.
#[derive(Debug)]
pub(crate) struct WindowArray<T>(Vec<T>);

impl<T> WindowArray<T> {
    pub(crate) fn get(&self) -> io::Result<&[T]> {
        Ok(&self.0)
    }
}

/// The mapped part of a window: here all of it.
pub(crate) type View = Window;

/// A window that has all its bytes from the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    watched: Vec<UnsafeCell<()>>,
    bytes: cell::UnsafeCell<Box<[u8]>>,
    len: usize,
}

// SAFETY: loom runs one thread of a model at a time, and switches between them with its own
// synchronisation.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Window {
    pub(crate) fn array<T: Words + Zeroed>(&self, _: usize, count: usize) -> WindowArray<T> {
        WindowArray((0..count).map(|_| T::zeroed()).collect())
    }

    pub(crate) fn map(&self, end: usize) -> io::Result<&Window> {
        if end <= self.0.len { Ok(self) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    pub(crate) fn mapped(&self) -> &Window {
        self
    }

    pub(crate) fn reserve(&self, end: usize) -> io::Result<&Window> {
        self.map(end)
    }

    pub(crate) fn read(&self, at: usize, len: usize) -> io::Result<Vec<u8>> {
        Ok(self.slice(at, len).to_vec())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len
    }

    pub(crate) fn write(&self, at: usize, source: &[u8]) {
        self.watched(at, source.len()).for_each(|unit| unit.with_mut(|_| ()));
        let to = self.pointer(at, source.len());
        // SAFETY: `pointer` has shown that it is inside. Loom has checked that nobody else has
        // access now. `source` is no part of it, as it is no part of a segment.
        unsafe { to.copy_from_nonoverlapping(source.as_ptr(), source.len()) }
    }

    pub(crate) fn copy(&self, from: usize, to: usize, len: usize) {
        self.watched(from, len).for_each(|unit| unit.with(|_| ()));
        self.watched(to, len).for_each(|unit| unit.with_mut(|_| ()));
        let (from, to) = (self.pointer(from, len), self.pointer(to, len));
        // SAFETY: `pointer` has shown that both are inside; they may overlap. Loom has checked that
        // nobody else has access.
        unsafe { from.copy_to(to, len) }
    }

    /// Loom sees a read here. The borrower must not read the bytes after they were given back.
    pub(crate) fn slice(&self, at: usize, len: usize) -> &[u8] {
        self.watched(at, len).for_each(|unit| unit.with(|_| ()));
        // SAFETY: `pointer` has shown that it is inside. Loom has checked that the bytes were
        // written before, and checks that every later write comes after this read.
        unsafe { std::slice::from_raw_parts(self.pointer(at, len), len) }
    }

    pub(crate) fn punch(&self, at: usize, len: usize) -> io::Result<()> {
        let len = len.min(self.0.len - at);
        self.write(at, &vec![0; len]);
        Ok(())
    }

    fn watched(&self, at: usize, len: usize) -> impl Iterator<Item = &UnsafeCell<()>> {
        self.0.watched[at / UNIT..(at + len).div_ceil(UNIT)].iter()
    }

    fn pointer(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at + len <= self.0.len, "{len} bytes at {at} are outside of an area of {} bytes", self.0.len);
        // SAFETY: the box itself never changes, and `at` lies within the memory that it points to.
        unsafe { (*self.0.bytes.get()).as_ptr().cast_mut().add(at) }
    }
}
