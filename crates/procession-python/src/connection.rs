//! Authentications for the listeners and the managers of the Python package, by the engine's
//! protocol, which is Python's. Called in any thread, with the interpreter attached; waits detach
//! it.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::time::Instant;

use procession_core::connection::Connection;
use procession_core::connection::authentication::{self, AUTHENTICATION_TIME, Key};
use procession_core::connection::listener as engine;
use procession_core::descriptor;
use pyo3::prelude::*;

use crate::error::{OrOsError, OrRaise};
use crate::wait::blocking;

/// The part of a listener that authenticates. The socket is its maker's; this has a copy.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub(crate) struct Listener {
    listener: engine::Listener,
}

#[pymethods]
impl Listener {
    /// For a socket that listens, and peers that are to know `key`.
    #[new]
    fn new(py: Python<'_>, socket: i32, key: &[u8]) -> PyResult<Listener> {
        let mut listener = engine::Listener::from_fd(descriptor::duplicate(socket).or_os_error()?).or_raise(py)?;
        listener.set_key(Key::any(key)).or_raise(py)?;
        Ok(Listener { listener })
    }

    /// A new fd for the next peer that is authenticated, owned by the caller.
    fn accept(&self, py: Python<'_>) -> PyResult<i32> {
        let connection = blocking(py, || self.listener.accept(), Result::is_ok)?.or_raise(py)?;
        // It has read nothing that follows the authentication.
        Ok(connection.into_parts().0.into_raw_fd())
    }

    /// The number of an fd that is readable when `accept` has something to do. Open as long as this
    /// object is.
    fn fileno(&self) -> i32 {
        self.listener.as_fd().as_raw_fd()
    }

    /// Ends what is waited for, in other threads too.
    fn close(&self) {
        self.listener.close();
    }
}

/// Makes sure that the other end of a socket knows `key`.
#[pyfunction]
pub(crate) fn deliver_challenge(py: Python<'_>, socket: i32, key: &[u8]) -> PyResult<()> {
    authenticate(py, socket, key, authentication::deliver_challenge)
}

/// Proves to the other end of a socket that this one knows `key`.
#[pyfunction]
pub(crate) fn answer_challenge(py: Python<'_>, socket: i32, key: &[u8]) -> PyResult<()> {
    authenticate(py, socket, key, authentication::answer_challenge)
}

fn authenticate(
    py: Python<'_>,
    socket: i32,
    key: &[u8],
    part: impl FnOnce(&Connection, &Key, Instant) -> procession_core::Result<()> + Send,
) -> PyResult<()> {
    let connection = Connection::from_fd(descriptor::duplicate(socket).or_os_error()?).or_raise(py)?;
    // Later bytes are for other readers of the socket.
    connection.set_read_ahead(false);
    let key = Key::any(key);
    py.detach(|| part(&connection, &key, Instant::now() + AUTHENTICATION_TIME)).or_raise(py)
}
