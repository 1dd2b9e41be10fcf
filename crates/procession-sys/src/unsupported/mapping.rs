//! No shared mappings. As [`linux/mapping.rs`](../linux/mapping.rs).

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use super::unsupported;
pub use crate::extent::Extent;

/// Mapped memory: cannot be made.
#[derive(Debug)]
pub struct Mapping(());

impl Mapping {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always `Unsupported`.
    pub fn of(_file: BorrowedFd<'_>, _len: usize) -> io::Result<Mapping> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always `Unsupported`.
    pub fn of_extents(_file: BorrowedFd<'_>, _extents: &[Extent]) -> io::Result<Mapping> {
        unsupported()
    }

    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always `Unsupported`.
    pub fn to_read(_file: BorrowedFd<'_>, _len: usize) -> io::Result<Mapping> {
        unsupported()
    }

    /// Does nothing.
    pub fn leave_out_of_core_dumps(&self) {}

    /// Returns no address.
    pub fn base(&self) -> NonNull<u8> {
        NonNull::dangling()
    }

    /// Returns 0.
    #[allow(clippy::len_without_is_empty)] // As on Linux.
    pub fn len(&self) -> usize {
        0
    }
}
