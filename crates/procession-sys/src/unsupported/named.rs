//! No memory with a name. As [`linux/named.rs`](../linux/named.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::unsupported;
pub use crate::file_identity::{Identity, Removal};

/// The folder where the names would be.
pub const DIRECTORY: &str = "/dev/shm";

/// Refuses.
pub fn make(_len: u64) -> io::Result<OwnedFd> {
    unsupported()
}

/// Refuses.
pub fn link(_file: BorrowedFd<'_>, _name: &str) -> io::Result<()> {
    unsupported()
}

/// Refuses.
pub fn attach(_name: &str) -> io::Result<(OwnedFd, u64)> {
    unsupported()
}

/// Refuses.
pub fn identity(_file: BorrowedFd<'_>) -> io::Result<Identity> {
    unsupported()
}

/// Refuses.
pub fn unlink(_name: &str, _identity: Identity) -> io::Result<bool> {
    unsupported()
}

/// Refuses.
pub fn unlink_unused(_name: &str, _identity: Identity) -> io::Result<Removal> {
    unsupported()
}

/// Refuses.
pub fn unique() -> io::Result<u64> {
    unsupported()
}
