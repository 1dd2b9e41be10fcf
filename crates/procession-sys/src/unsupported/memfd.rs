//! No memory as a file. As [`linux/memfd.rs`](../linux/memfd.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::unsupported;

/// Refuses.
pub fn create(_name: &str, _len: u64) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn create_growing(_name: &str, _len: u64) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn empty(_name: &str) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn grow(_fd: BorrowedFd<'_>, _len: u64) -> io::Result<()> {
    unsupported()
}

/// Returns no bound.
pub fn max_len() -> u64 {
    u64::MAX
}

/// Refuses.
pub fn sealed_len(_fd: BorrowedFd<'_>) -> io::Result<u64> {
    unsupported()
}

/// Refuses.
pub fn from_bytes(_name: &str, _bytes: &[u8]) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn constant(_name: &str, _bytes: &[u8]) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn constant_len(_fd: BorrowedFd<'_>) -> io::Result<u64> {
    unsupported()
}

/// Refuses.
pub fn read_all(_fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    unsupported()
}

/// Refuses.
pub fn read_at(_fd: BorrowedFd<'_>, _offset: u64, _out: &mut [u8]) -> io::Result<()> {
    unsupported()
}

/// Refuses.
pub fn punch_hole(_fd: BorrowedFd<'_>, _offset: u64, _len: u64) -> io::Result<()> {
    unsupported()
}
