//! A file's bytes in this process's memory, shared with every process that maps the same file.
//! Called by the shared-memory structures, in any process and thread.
//!
//! A page that cannot be accessed lies before every mapping and another one behind it. Code that
//! runs over the end of its own buffer ends with SIGSEGV there, and does not write into memory that
//! others share.

#![allow(unsafe_code)] // mmap, madvise and munmap; sysconf.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

pub use crate::extent::Extent;

/// Mapped memory, unmapped when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    /// The page before the first byte.
    guard: NonNull<u8>,
    /// From that page to the end of the page behind the last byte.
    guarded: usize,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is process-wide memory at a fixed address, unmapped only by the drop of its
// owner. No state in it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; every method takes `&self` and returns no reference into the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the file's first `len` bytes to read and write. Pages that nobody touches take no
    /// memory. An access beyond the end of the file raises SIGBUS.
    ///
    /// # Errors
    ///
    /// As [`of_extents`](Mapping::of_extents).
    pub fn of(file: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Mapping::of_extents(file, &[Extent { offset: 0, len }])
    }

    /// Maps parts of the file one behind the other, as one range. Each begins at a page of the
    /// file, and each but the last is whole pages long.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`, with a text of its own, if the process may have no more addresses
    /// (`ulimit -v`); `InvalidInput` for no bytes and for parts that do not fit pages; other errors
    /// of the system.
    pub fn of_extents(file: BorrowedFd<'_>, extents: &[Extent]) -> io::Result<Mapping> {
        // SHARED: what is written here is the file's.
        Mapping::make(file, extents, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// Maps the first `len` bytes of a file that nobody can write, to read them. A write to the
    /// memory raises SIGSEGV.
    ///
    /// # Errors
    ///
    /// As [`of_extents`](Mapping::of_extents).
    pub fn to_read(file: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        // PRIVATE, since Linux before 6.7 refuses a shared mapping of a file that is sealed against
        // writes. The pages are the file's all the same, as long as nobody writes.
        Mapping::make(file, &[Extent { offset: 0, len }], ProtFlags::READ, MapFlags::PRIVATE)
    }

    fn make(file: BorrowedFd<'_>, extents: &[Extent], access: ProtFlags, sharing: MapFlags) -> io::Result<Mapping> {
        let page = page_size();
        let (last, others) = extents.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let others_fit = others.iter().all(|extent| extent.len > 0 && extent.len.is_multiple_of(page));
        let offsets_fit = extents.iter().all(|extent| extent.offset.is_multiple_of(page as u64));
        if last.len == 0 || !others_fit || !offsets_fit {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "such parts of a file cannot be mapped"));
        }
        let len = extents.iter().try_fold(0_usize, |len, extent| len.checked_add(extent.len));
        let len = len.filter(|len| *len <= isize::MAX as usize).ok_or_else(no_addresses)?;
        let guarded = len.next_multiple_of(page).checked_add(2 * page).ok_or_else(no_addresses)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of this
        // program's.
        let guard = unsafe { mmap_anonymous(std::ptr::null_mut(), guarded, ProtFlags::empty(), flags) };
        let guard = guard.map_err(refused)?;
        // SAFETY: the range is longer than a page.
        let base = unsafe { guard.byte_add(page) };
        let at_zero = || io::Error::other("mapped at zero");
        let guard = NonNull::new(guard.cast::<u8>()).ok_or_else(at_zero)?;
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(at_zero)?;
        // From here on its drop unmaps the range.
        let mapping = Mapping { guard, guarded, base, len };
        let mut at = 0;
        for extent in extents {
            let flags = sharing | MapFlags::NORESERVE | MapFlags::FIXED;
            // SAFETY: the parts lie one behind the other within the range that was mapped above.
            // Nobody knows of that range yet, and it is longer than all parts together. So only a
            // part of it is replaced.
            let mapped = unsafe { mmap(base.as_ptr().add(at).cast(), extent.len, access, flags, file, extent.offset) };
            mapped.map_err(refused)?;
            at += extent.len;
        }
        Ok(mapping)
    }

    /// Leaves the memory out of core dumps, if the system can do that.
    pub fn leave_out_of_core_dumps(&self) {
        // SAFETY: exactly what `of` mapped. Only what a core dump contains changes; refusal changes
        // nothing.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontDump) };
    }

    /// Returns the first byte, at the start of a page. The last page is mapped whole, whatever the
    /// length.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns how many bytes were asked for.
    #[allow(clippy::len_without_is_empty)] // It is never empty.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `of_extents` mapped; a reference into the memory keeps the
        // mapping.
        let unmapped = unsafe { munmap(self.guard.as_ptr().cast(), self.guarded) };
        debug_assert!(unmapped.is_ok(), "a mapping can be unmapped");
    }
}

/// Returns libc's page size. Rustix reads the auxiliary vector itself for it, which ends the
/// process under valgrind.
fn page_size() -> usize {
    // SAFETY: sysconf reads what libc knows, and has no precondition.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every system has a page size")
}

fn refused(error: rustix::io::Errno) -> io::Error {
    if error == rustix::io::Errno::NOMEM { no_addresses() } else { error.into() }
}

fn no_addresses() -> io::Error {
    let text = "this process may map no more memory: raise its limit of addresses (`ulimit -v`, RLIMIT_AS)";
    io::Error::new(io::ErrorKind::OutOfMemory, text)
}
