//! A file's bytes in this process's memory, shared with every process that maps the same file. Called by the shared-memory
//! structures, in any process and thread.

#![allow(unsafe_code)] // mmap, madvise and munmap.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Mapped memory, unmapped when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is process-wide memory at a fixed address, unmapped only by the drop of its owner. No state in it is
// bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; every method takes `&self` and gives no reference into the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the file's first `len` bytes to read and write. Pages that nobody touches take no memory. An access beyond the
    /// end of the file raises SIGBUS.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if address space is limited (`ulimit -v`); what else the system refuses, a `len` of 0 among it.
    pub fn of(file: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of this program's.
        let base = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Mapping { base, len })
    }

    /// Leaves the memory out of core dumps, if the system can do that.
    pub fn leave_out_of_core_dumps(&self) {
        // SAFETY: exactly what `of` mapped. Only what a core dump contains changes; refusal changes nothing.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontDump) };
    }

    /// Its first byte, at the start of a page. The last page is mapped whole, whatever the length.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How many bytes were asked for.
    #[allow(clippy::len_without_is_empty)] // It is never empty.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `of` mapped; whoever makes references into the memory keeps the mapping for as long.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping can be unmapped");
    }
}
