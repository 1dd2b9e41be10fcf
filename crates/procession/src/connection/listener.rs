//! Connections by address: a [`Listener`] waits for them, a [`Client`] makes them.

use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "auth")]
use std::time::Duration;

#[cfg(feature = "auth")]
use procession_core::connection::authentication::Key;
use procession_core::connection::listener as engine;

use super::Connection;
use super::address::Address;
use crate::Result;

/// Waits for [`Client`]s, in this program or another: Python's `multiprocessing.connection.Client`
/// is one too.
///
/// A listener lets these peers in:
///
/// | listener | peers |
/// |---|---|
/// | [`Listener::private`] | processes of this user |
/// | [`bind`](Listener::bind) and [`own_user_only`](Listener::own_user_only), unix or abstract | processes of this user |
/// | `authkey`, with the feature `auth`; any address | whoever knows the key, and proves it first |
/// | [`bind`](Listener::bind) alone | whoever reaches the address |
///
/// A connection's data is not encrypted.
///
/// ```
/// use procession::{Address, Client, Connection, Context, Listener};
///
/// # fn main() -> procession::Result<()> {
/// let listener = Listener::private()?;
/// let greet = |address: Address| -> Option<String> {
///     let server: Connection<String, String> = Client::connect(&address).ok()?;
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
    ///
    /// ```
    /// use procession::{Address, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::bind(&Address::Tcp(([127, 0, 0, 1], 0).into()))?;
    /// assert!(matches!(listener.address(), Address::Tcp(given) if given.port() != 0));
    /// # Ok(()) }
    /// ```
    pub fn bind(address: &Address) -> Result<Listener> {
        Ok(Listener(engine::Listener::bind(&address.engine())?))
    }

    /// Listens at a new random address, where only processes of this user are let in. No file
    /// stands for it, so nothing is left of it however this process ends.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let listener = procession::Listener::private()?;
    /// let for_a_child = listener.address(); // send it to whoever is to connect
    /// assert!(matches!(for_a_child, procession::Address::Abstract(_)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If no file descriptor is left.
    pub fn private() -> Result<Listener> {
        Ok(Listener(engine::Listener::private()?))
    }

    /// Turns away processes of other users. The kernel says who they are, so no key is needed.
    ///
    /// ```
    /// use procession::{Address, Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("procession-doc-{}", std::process::id()));
    /// let listener = Listener::bind(&Address::Unix(path))?.own_user_only()?;
    /// let ours: Connection<u32, u32> = Client::connect(&listener.address())?;
    /// let theirs: Connection<u32, u32> = listener.accept()?;
    /// ours.send(&7)?;
    /// assert_eq!(theirs.recv()?, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) over TCP, where the kernel does not know.
    /// [`accept`](Listener::accept) gives [`is_authentication`](crate::Error::is_authentication)
    /// for a process that was turned away.
    pub fn own_user_only(mut self) -> Result<Listener> {
        self.0.let_in_own_user_only()?;
        Ok(self)
    }

    /// Wants both ends to know this key. Needs the feature `auth`, because the proof takes HMAC and
    /// SHA-256, and 13 crates with them.
    ///
    /// ```
    /// use procession::{Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::private()?.authkey(b"a secret")?;
    /// let address = listener.address();
    /// let client = std::thread::spawn(move || Client::connect_with(&address, b"a secret"));
    /// let ours: Connection<u32, u32> = listener.accept()?;
    /// let theirs: Connection<u32, u32> = client.join().unwrap()?;
    /// theirs.send(&7)?;
    /// assert_eq!(ours.recv()?, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) for an empty one; if no file descriptor is
    /// left.
    #[cfg(feature = "auth")]
    pub fn authkey(mut self, key: &[u8]) -> Result<Listener> {
        self.0.set_key(Key::new(key)?)?;
        Ok(self)
    }

    /// Sets the time that a peer's authentication may take. The default is 10 seconds. Others are
    /// authenticated meanwhile, up to 64 at a time, so a peer that says nothing does not hold them
    /// up. If more want in, the oldest has a second.
    ///
    /// ```
    /// # use std::{net::TcpStream, time::Duration};
    /// # use procession::{Address, Connection, Listener};
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::bind(&Address::Tcp(([127, 0, 0, 1], 0).into()))?
    ///     .authkey(b"a secret")?
    ///     .authentication_time(Duration::from_millis(50));
    /// # let Address::Tcp(address) = listener.address() else { unreachable!() };
    /// let says_nothing = TcpStream::connect(address).unwrap();
    /// assert!(listener.accept::<(), ()>().unwrap_err().is_authentication());
    /// # drop(says_nothing);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "auth")]
    pub fn authentication_time(mut self, time: Duration) -> Listener {
        self.0.set_authentication_time(time);
        self
    }

    /// Sets the number of clients that may wait to be accepted. The default is the system's limit
    /// (usually 4096).
    ///
    /// # Errors
    ///
    /// If the system refuses.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let listener = procession::Listener::private()?.backlog(16)?;
    /// # drop(listener);
    /// # Ok(()) }
    /// ```
    pub fn backlog(self, clients: u32) -> Result<Listener> {
        self.0.set_backlog(clients)?;
        Ok(self)
    }

    /// Waits for a client and, if there is a key, authenticates it. [`wait`](crate::wait) tells
    /// when one is there. Of several clients the first whose authentication is over is returned.
    ///
    /// ```
    /// use procession::{Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::private()?;
    /// let client: Connection<u32, u32> = Client::connect(&listener.address())?;
    /// let server: Connection<u32, u32> = listener.accept()?;
    /// client.send(&1)?;
    /// assert_eq!(server.recv()?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_authentication`](crate::Error::is_authentication) for a client that has another
    /// key, or none, or is too slow, or is another user's. The listener goes on: call it again.
    pub fn accept<Tx, Rx>(&self) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(self.0.accept()?))
    }

    /// Returns the address at which the listener listens.
    ///
    /// ```
    /// use procession::{Address, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::bind(&Address::Tcp(([127, 0, 0, 1], 0).into()))?;
    /// println!("listens at {}", listener.address()); // with the port that the system chose
    /// # assert!(listener.address().to_string().starts_with("127.0.0.1:"));
    /// # Ok(()) }
    /// ```
    pub fn address(&self) -> Address {
        Address::from_engine(self.0.address().clone())
    }

    /// Returns the address of the client that was accepted last; `None` for unix sockets that are
    /// bound nowhere, as most are.
    ///
    /// ```
    /// use procession::{Address, Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::bind(&Address::Tcp(([127, 0, 0, 1], 0).into()))?;
    /// let client: Connection<u32, u32> = Client::connect(&listener.address())?;
    /// let server: Connection<u32, u32> = listener.accept()?;
    /// assert!(matches!(listener.last_accepted(), Some(Address::Tcp(from)) if from.ip().is_loopback()));
    /// # drop((client, server));
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// use procession::{Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::private()?;
    /// let ours: Connection<String, String> = Client::connect(&listener.address())?;
    /// let theirs: Connection<String, String> = listener.accept()?;
    /// theirs.send(&"welcome".to_owned())?;
    /// assert_eq!(ours.recv()?, "welcome");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If nobody listens there, or the system refuses.
    pub fn connect<Tx, Rx>(address: &Address) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(engine::connect(&address.engine())?))
    }

    /// Connects to a listener that has this key, and makes sure that it has. Needs the feature
    /// `auth`; there is an example at [`Listener::authkey`].
    ///
    /// ```
    /// use procession::{Client, Connection, Listener};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let listener = Listener::private()?.authkey(b"ours")?;
    /// let address = listener.address();
    /// let client = std::thread::spawn(move || Client::connect_with::<u32, u32>(&address, b"another"));
    /// let server: procession::Result<Connection<u32, u32>> = listener.accept();
    /// assert!(server.unwrap_err().is_authentication());
    /// assert!(client.join().unwrap().unwrap_err().is_authentication());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`connect`](Client::connect);
    /// [`Error::is_authentication`](crate::Error::is_authentication) where the listener has another
    /// key, or none, or does not answer within 10 seconds.
    #[cfg(feature = "auth")]
    pub fn connect_with<Tx, Rx>(address: &Address, key: &[u8]) -> Result<Connection<Tx, Rx>> {
        Ok(Connection::over(engine::connect_with(&address.engine(), &Key::new(key)?)?))
    }
}
