//! No names without a file. As [`linux/abstract_name.rs`](../linux/abstract_name.rs).
#![allow(clippy::missing_errors_doc)] // Always `Unsupported`.

use std::io;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::unsupported;

/// Refuses.
pub fn listen(_name: &[u8]) -> io::Result<UnixListener> {
    unsupported()
}

/// Refuses.
pub fn connect(_name: &[u8]) -> io::Result<UnixStream> {
    unsupported()
}

/// None has one.
pub fn of(_address: &SocketAddr) -> Option<&[u8]> {
    None
}
