//! Names of unix sockets that have no file: the kernel forgets a name with its listener. Called in
//! any process and thread that listens or connects.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::descriptor::above_streams;

/// Listens at a name.
///
/// # Errors
///
/// `AddrInUse` if the name is taken; `InvalidInput` if it is too long.
pub fn listen(name: &[u8]) -> io::Result<UnixListener> {
    above_streams(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?)
}

/// Connects to the listener that has the name.
///
/// # Errors
///
/// `ConnectionRefused` if there is none; `InvalidInput` if the name is too long.
pub fn connect(name: &[u8]) -> io::Result<UnixStream> {
    above_streams(UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?)
}

/// Returns the name in an address, if it has one.
pub fn of(address: &SocketAddr) -> Option<&[u8]> {
    address.as_abstract_name()
}
