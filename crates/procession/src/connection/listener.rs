//! Connections by address: a [`Listener`] waits for them, a [`Client`] makes them.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use procession_core::connection::authentication::Key;
use procession_core::connection::listener as engine;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::connection::Connection;

/// Where a [`Listener`] is found. It is a value: send it to whoever is to connect.
// Not the engine's `Address`, since the engine knows no serde.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Address {
    /// A socket file; Python's `AF_UNIX` address.
    Unix(PathBuf),
    /// A name without a file, known in this network namespace; Python's `'\0name'`. Any user can
    /// connect.
    Abstract(Vec<u8>),
    /// A host and a port; Python's `AF_INET` address.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine().fmt(f)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl Address {
    fn engine(&self) -> engine::Address {
        match self.clone() {
            Address::Unix(path) => engine::Address::Unix(path),
            Address::Abstract(name) => engine::Address::Abstract(name),
            Address::Tcp(address) => engine::Address::Tcp(address),
        }
    }

    fn from_engine(address: engine::Address) -> Address {
        match address {
            engine::Address::Unix(path) => Address::Unix(path),
            engine::Address::Abstract(name) => Address::Abstract(name),
            engine::Address::Tcp(address) => Address::Tcp(address),
        }
    }
}

/// Waits for [`Client`]s, in this program or another: Python's `multiprocessing.connection.Client`
/// is one too.
///
/// With a key ([`authkey`](Listener::authkey)) both ends prove that they know it before anything
/// else is said. Without one whoever reaches the address is let in. What goes over a connection is
/// not encrypted.
///
/// ```
/// use procession::{Address, Client, Connection, Context, Listener};
///
/// # fn main() -> procession::Result<()> {
/// let listener = Listener::private()?.authkey(b"a secret")?;
/// let greet = |address: Address| -> Option<String> {
///     let server: Connection<String, String> = Client::connect_with(&address, b"a secret").ok()?;
///     server.send(&"hello".to_owned()).ok()?;
///     server.recv().ok()
/// };
/// # let ctx = Context::fork();
/// let mut client = ctx.process(greet, listener.address()).start()?;
/// let connection: Connection<String, String> = listener.accept()?;
/// connection.send(&connection.recv()?.to_uppercase())?;
/// assert_eq!(client.join()?.as_deref(), Some("HELLO"));
/// # Ok(()) }
/// ```
///
/// Dropping it closes it, and removes its socket file.
#[derive(Debug)]
pub struct Listener(engine::Listener);

impl Listener {
    /// Listens at an address. TCP port 0 is any free one; [`address`](Listener::address) says
    /// which.
    ///
    /// # Errors
    ///
    /// If the address is in use, too long (a path has about 100 bytes), or refused by the system.
    pub fn bind(address: &Address) -> Result<Listener> {
        Ok(Listener(engine::Listener::bind(&address.engine())?))
    }

    /// Listens at a new random address, where only processes of this user are let in. No file
    /// stands for it, so nothing is left of it however this process ends.
    ///
    /// # Errors
    ///
    /// If no file descriptor is left.
    pub fn private() -> Result<Listener> {
        Ok(Listener(engine::Listener::private()?))
    }

    /// Wants both ends to know this key.
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) for an empty one; if no file descriptor is
    /// left.
    pub fn authkey(mut self, key: &[u8]) -> Result<Listener> {
        self.0.set_key(Key::new(key)?)?;
        Ok(self)
    }

    /// How long a peer's authentication may take; 10 seconds until told otherwise. Others are
    /// authenticated meanwhile, up to 64 at a time, so a peer that says nothing does not hold them
    /// up. Where more want in, the oldest has a second.
    pub fn authentication_time(mut self, time: Duration) -> Listener {
        self.0.set_authentication_time(time);
        self
    }

    /// How many clients may wait to be accepted; the system's limit (usually 4096) until told
    /// otherwise.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn backlog(self, clients: u32) -> Result<Listener> {
        self.0.set_backlog(clients)?;
        Ok(self)
    }

    /// Waits for a client, and authenticates it. [`wait`](crate::wait) tells when one is there. Of
    /// several clients the first whose authentication is over is returned.
    ///
    /// # Errors
    ///
    /// [`Error::is_authentication`](crate::Error::is_authentication) for a client that has another
    /// key, or none, or is too slow. The listener goes on: call it again.
    pub fn accept<Tx, Rx>(&self) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(self.0.accept()?))
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::from_engine(self.0.address().clone())
    }

    /// Where the client that was accepted last came from; `None` for unix sockets that are bound
    /// nowhere, as most are.
    pub fn last_accepted(&self) -> Option<Address> {
        self.0.last_accepted().map(Address::from_engine)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connects to a [`Listener`], in this program or another: Python's
/// `multiprocessing.connection.Listener` is one too.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Connects to a listener that has no key.
    ///
    /// # Errors
    ///
    /// If nobody listens there, or the system refuses.
    pub fn connect<Tx, Rx>(address: &Address) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(engine::connect(&address.engine(), None)?))
    }

    /// Connects to a listener that has this key, and makes sure that it has.
    ///
    /// # Errors
    ///
    /// As [`connect`](Client::connect);
    /// [`Error::is_authentication`](crate::Error::is_authentication) where the listener has another
    /// key, or none, or does not answer within 10 seconds.
    pub fn connect_with<Tx, Rx>(address: &Address, key: &[u8]) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(engine::connect(&address.engine(), Some(&Key::new(key)?))?))
    }
}
