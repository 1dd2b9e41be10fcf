//! Addresses of listeners. Used in any process, from any thread.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The address of a listener.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// A name that has no file.
    Abstract(Vec<u8>),
    /// A host and a port.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{}", OsStr::from_bytes(name).display()),
            Address::Tcp(address) => address.fmt(f),
        }
    }
}
