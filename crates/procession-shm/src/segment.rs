//! A segment is memory that several processes map. The parent of a pool makes it and its workers
//! attach it. It is a memfd without a name on any disk, so it is gone when the last of them is.
//!
//! Here offsets become references. A reference to words is given only for types that are valid as
//! zero bytes and are changed through atomics alone ([`Words`]). A segment of a pool or a queue has
//! such words in its *fixed* part, which is always mapped. Plain bytes lie behind it, in
//! [windows](crate::window), of which a process maps what it needs.

#![allow(unsafe_code, reason = "makes references into the mapping")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use bytemuck::Pod;
use procession_sys::{mapping, memfd};

/// A mapped segment. Clones share the mapping.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Mapping>);

/// A file and its bytes in this process's memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    fd: OwnedFd,
    memory: mapping::Mapping,
}

impl Segment {
    /// Makes a segment of `len` bytes, all zero. Untouched pages take no memory, so `len` may be
    /// generous.
    pub fn create(name: &str, len: usize) -> io::Result<Segment> {
        Segment::attach(memfd::create(name, len as u64)?)
    }

    /// Makes a segment whose file has `len` bytes and may grow. The first `fixed` are mapped, the
    /// rest is for [windows](crate::window).
    pub(crate) fn create_growing(name: &str, fixed: usize, len: usize) -> io::Result<Segment> {
        Segment::attach_growing(memfd::create_growing(name, len as u64)?, fixed)
    }

    /// Maps the first `fixed` bytes of a segment that another process made.
    pub(crate) fn attach_growing(fd: OwnedFd, fixed: usize) -> io::Result<Segment> {
        if memfd::sealed_len(fd.as_fd())? < fixed as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is too short"));
        }
        Segment::map(fd, fixed)
    }

    /// Maps a segment that another process made. Its length is sealed, so that no access can miss
    /// it.
    pub fn attach(fd: OwnedFd) -> io::Result<Segment> {
        let len = usize::try_from(memfd::sealed_len(fd.as_fd())?).map_err(io::Error::other)?;
        Segment::map(fd, len)
    }

    /// Maps the first `fixed` bytes of another program's segment, to read them. Whoever writes to
    /// them ends by SIGSEGV.
    pub(crate) fn observe(fd: OwnedFd, fixed: usize) -> io::Result<Segment> {
        if memfd::sealed_len(fd.as_fd())? < fixed as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is too short"));
        }
        let memory = mapping::Mapping::to_read(fd.as_fd(), fixed)?;
        Ok(Segment(Arc::new(Mapping { fd, memory })))
    }

    fn map(fd: OwnedFd, len: usize) -> io::Result<Segment> {
        let mapping = Mapping::of(fd, len)?;
        mapping.memory.leave_out_of_core_dumps();
        Ok(Segment(Arc::new(mapping)))
    }

    /// Returns the memfd, to hand to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Returns how many of its bytes are always mapped.
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the words at `offset`.
    ///
    /// # Panics
    ///
    /// If they do not lie inside, or not at their alignment: layouts are this crate's own.
    pub(crate) fn words<T: Words>(&self, offset: usize) -> Placed<T> {
        self.check(offset, size_of::<T>());
        assert!(offset.is_multiple_of(align_of::<T>()), "words at {offset} are not aligned");
        // SAFETY: `check` has shown that the offset is inside the mapping.
        let at = unsafe { self.0.base().add(offset) }.cast();
        Placed { segment: self.clone(), at }
    }

    /// Returns the `count` words of one type at `offset`.
    ///
    /// # Panics
    ///
    /// As [`words`](Segment::words).
    pub(crate) fn array<T: Words>(&self, offset: usize, count: usize) -> PlacedArray<T> {
        let len = size_of::<T>().checked_mul(count).expect("layouts are small");
        self.check(offset, len);
        assert!(offset.is_multiple_of(align_of::<T>()), "words at {offset} are not aligned");
        // SAFETY: `check` has shown that the offset is inside the mapping.
        let at = unsafe { self.0.base().add(offset) }.cast();
        PlacedArray { _segment: self.clone(), at, count }
    }

    /// Returns the plain value at `offset`, for a caller that has the lock which guards it.
    ///
    /// # Panics
    ///
    /// As [`words`](Segment::words).
    pub(crate) fn guarded<T: Pod>(&self, offset: usize) -> Guarded<T> {
        self.check(offset, size_of::<T>());
        assert!(offset.is_multiple_of(align_of::<T>()), "a value at {offset} is not aligned");
        // SAFETY: `check` has shown that the offset is inside the mapping.
        let at = unsafe { self.0.base().add(offset) }.cast();
        Guarded { _segment: self.clone(), at }
    }

    /// Returns a reference that does not keep the segment mapped.
    pub(crate) fn downgrade(&self) -> WeakSegment {
        WeakSegment(Arc::downgrade(&self.0))
    }

    /// Zeroes `len` bytes at `offset`, which by protocol nobody else reads or writes.
    ///
    /// # Panics
    ///
    /// If they do not lie inside.
    pub(crate) fn zero(&self, offset: usize, len: usize) {
        self.check(offset, len);
        // SAFETY: `check` has shown that they are inside the mapping. The caller alone knows of
        // them: no reference to them is left.
        unsafe { self.0.base().add(offset).write_bytes(0, len) }
    }

    /// Gives the pages of `len` bytes at `offset` back to the system; they read as zeros again.
    ///
    /// # Panics
    ///
    /// As [`zero`](Segment::zero).
    pub(crate) fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        self.check(offset, len);
        memfd::punch_hole(self.as_fd(), offset as u64, len as u64)
    }

    fn check(&self, offset: usize, len: usize) {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.0.len());
        assert!(inside, "{len} bytes at {offset} are outside of a segment of {} bytes", self.0.len());
    }
}

impl Mapping {
    /// Maps the file's first `len` bytes. The caller knows that the file has as many: accesses
    /// beyond its end raise SIGBUS.
    pub(crate) fn of(fd: OwnedFd, len: usize) -> io::Result<Mapping> {
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is empty"));
        }
        let memory = mapping::Mapping::of(fd.as_fd(), len)?;
        Ok(Mapping { fd, memory })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Returns the first byte, at the start of a page. The last page is there whole, whatever the
    /// length.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }
}

/// Types that may be reached by reference while other processes change them.
///
/// # Safety
///
/// The type is `repr(C)`, valid as zero bytes, and every field is an atomic or changed only through
/// calls made for memory shared between processes.
pub(crate) unsafe trait Words {}

/// A reference to a segment that does not keep it mapped.
#[derive(Debug)]
pub(crate) struct WeakSegment(Weak<Mapping>);

impl WeakSegment {
    /// Returns whether it refers to that segment.
    pub(crate) fn is(&self, segment: &Segment) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&segment.0))
    }

    /// Returns the segment, if it is still mapped.
    pub(crate) fn upgrade(&self) -> Option<Segment> {
        self.0.upgrade().map(Segment)
    }
}

/// Words in a segment, which it keeps mapped.
#[derive(Debug)]
pub(crate) struct Placed<T: Words> {
    segment: Segment,
    at: NonNull<T>,
}

impl<T: Words> Clone for Placed<T> {
    fn clone(&self) -> Placed<T> {
        Placed { segment: self.segment.clone(), at: self.at }
    }
}

// SAFETY: `Words` are for sharing between processes, and so between threads; the segment inside is
// Send.
unsafe impl<T: Words> Send for Placed<T> {}
// SAFETY: as above; only `&T` is given out.
unsafe impl<T: Words> Sync for Placed<T> {}

impl<T: Words> Placed<T> {
    /// Returns the segment.
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Returns where in the segment the words are.
    pub(crate) fn offset(&self) -> usize {
        self.at.addr().get() - self.segment.0.base().addr().get()
    }
}

impl<T: Words> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `Segment::words` checked bounds and alignment. The mapping lives as long as the
        // segment held beside. It began as zeros, for which `Words` promises validity, and changes
        // through atomics only.
        unsafe { self.at.as_ref() }
    }
}

/// Words of one type in a segment, which it keeps mapped.
#[derive(Debug)]
pub(crate) struct PlacedArray<T: Words> {
    _segment: Segment,
    at: NonNull<T>,
    count: usize,
}

// SAFETY: as for `Placed`.
unsafe impl<T: Words> Send for PlacedArray<T> {}
// SAFETY: as for `Placed`.
unsafe impl<T: Words> Sync for PlacedArray<T> {}

impl<T: Words> Deref for PlacedArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as for `Placed`; `Segment::array` checked the same for all `count` of them.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.count) }
    }
}

/// A plain value in a segment, which it keeps mapped. A lock beside it says who may use it.
#[derive(Debug)]
pub(crate) struct Guarded<T: Pod> {
    _segment: Segment,
    at: NonNull<T>,
}

// SAFETY: only the holder of the lock reaches a `T`, in whatever thread; `Pod` values are plain
// bytes, which any thread may read and write.
unsafe impl<T: Pod> Send for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Pod> Sync for Guarded<T> {}

impl<T: Pod> Guarded<T> {
    /// Returns the value.
    ///
    /// # Safety
    ///
    /// The calling thread holds the lock for reading or writing, for as long as the reference
    /// lives.
    pub(crate) unsafe fn get(&self) -> &T {
        // SAFETY: `Segment::guarded` checked bounds and alignment, and the segment beside keeps the
        // mapping. `Pod` is valid for all bytes, a half-written value included. The caller's lock
        // keeps others from writing it.
        unsafe { self.at.as_ref() }
    }

    /// Returns the value, to be changed.
    ///
    /// # Safety
    ///
    /// The calling thread alone holds the lock, for as long as the reference lives, and makes no
    /// other reference.
    #[allow(clippy::mut_from_ref, reason = "the lock is what makes it unique")]
    pub(crate) unsafe fn get_mut(&self) -> &mut T {
        let mut at = self.at;
        // SAFETY: as in `get`; the caller's lock keeps others from reading and writing it.
        unsafe { at.as_mut() }
    }
}
