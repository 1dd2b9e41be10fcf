//! Listeners, from which connections come. A listener has an address, and whoever knows the address
//! connects. Used in any process, from any thread.
//!
//! A listener that nobody gave an address listens at an abstract one of 128 random bits, which has
//! no file: a process that is killed leaves nothing behind. Such a name has no permissions either,
//! so other users are turned away by the kernel's word on who they are.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
#[cfg(feature = "auth")]
use std::time::{Duration, Instant};

use procession_sys::pidfd::current_pid;
use procession_sys::{abstract_name, descriptor::above_streams, random, socket};

#[cfg(feature = "auth")]
use super::authentication::{self, AUTHENTICATION_TIME, Key};
use super::keyed::Keyed;
use super::{Connection, Ways};
use crate::{Error, Result};

pub use super::address::Address;

/// Connects to a listener.
///
/// # Errors
///
/// If nobody listens there.
pub fn connect(address: &Address) -> Result<Connection> {
    let refused = || Error::os(format!("cannot connect to {address}: is a listener there?"));
    Ok(match address {
        Address::Unix(path) => over_unix(UnixStream::connect(path).and_then(above_streams).map_err(refused())?),
        Address::Abstract(name) => over_unix(abstract_name::connect(name).map_err(refused())?),
        Address::Tcp(address) => over_tcp(TcpStream::connect(address).and_then(above_streams).map_err(refused())?)?,
    })
}

/// Connects to a listener, and the two ends authenticate.
///
/// # Errors
///
/// If nobody listens there; [`Error::Authentication`].
#[cfg(feature = "auth")]
pub fn connect_with(address: &Address, key: &Key) -> Result<Connection> {
    let connection = connect(address)?;
    authentication::connect(&connection, key, Instant::now() + AUTHENTICATION_TIME)?;
    Ok(connection)
}

/// One that waits for connections.
#[derive(Debug)]
pub struct Listener {
    /// Before the socket: while that is open no other file can have its identity.
    _file: Option<SocketFile>,
    socket: Socket,
    address: Address,
    own_user_only: bool,
    /// With a key: the authentications that go on.
    keyed: Option<Keyed>,
    #[cfg(feature = "auth")]
    authentication_time: Duration,
    read_ahead: bool,
    last_accepted: Mutex<Option<Address>>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at an address. Port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// If the address is in use, or the system refuses it.
    pub fn bind(address: &Address) -> Result<Listener> {
        let refused = || Error::os(format!("cannot listen at {address}"));
        match address {
            Address::Unix(path) => {
                let socket = UnixListener::bind(path).and_then(above_streams).map_err(Error::os(format!(
                    "cannot listen at {address} (if a listener that was killed left the file there, remove it)"
                )))?;
                let file = SocketFile::made(path).map_err(refused())?;
                Ok(Listener::over(Socket::Unix(socket), address.clone(), Some(file)))
            }
            Address::Abstract(name) => {
                let socket = abstract_name::listen(name).map_err(refused())?;
                Ok(Listener::over(Socket::Unix(socket), address.clone(), None))
            }
            Address::Tcp(asked) => {
                let socket = TcpListener::bind(asked).and_then(above_streams).map_err(refused())?;
                let given = Address::Tcp(socket.local_addr().map_err(refused())?);
                Ok(Listener::over(Socket::Tcp(socket), given, None))
            }
        }
    }

    /// Listens where only this user's processes are let in, and nobody else finds it.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn private() -> Result<Listener> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes).map_err(Error::os("cannot get random bytes"))?;
        let name = format!("procession-{:032x}", u128::from_ne_bytes(bytes));
        let mut listener = Listener::bind(&Address::Abstract(name.into_bytes()))?;
        listener.let_in_own_user_only()?;
        Ok(listener)
    }

    /// One over a socket that listens already. Its connections do not read ahead, so that whoever
    /// made the socket can go on with their fds.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is not a stream socket, or its address is of no known form.
    pub fn from_fd(socket: OwnedFd) -> Result<Listener> {
        let refused = || Error::os("cannot find where a socket listens");
        let (socket, address) = match socket::kind(socket.as_fd()) {
            Some(socket::Kind::Unix) => {
                let socket = UnixListener::from(socket);
                let address = unix_address(&socket.local_addr().map_err(refused())?);
                (Socket::Unix(socket), address.ok_or_else(|| Error::Invalid("the socket has no address".into()))?)
            }
            Some(socket::Kind::Network) => {
                let socket = TcpListener::from(socket);
                let address = Address::Tcp(socket.local_addr().map_err(refused())?);
                (Socket::Tcp(socket), address)
            }
            None => return Err(Error::Invalid("a listener needs a stream socket (unix or TCP)".into())),
        };
        let mut listener = Listener::over(socket, address, None);
        listener.read_ahead = false;
        Ok(listener)
    }

    /// Turns away processes of other users, by the kernel's word on who they are.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] over TCP, where the kernel does not know.
    pub fn let_in_own_user_only(&mut self) -> Result<()> {
        if matches!(self.socket, Socket::Tcp(_)) {
            let text = "who connects over TCP cannot be told: listen at a unix or abstract address, or use a key";
            return Err(Error::Invalid(text.into()));
        }
        self.own_user_only = true;
        Ok(())
    }

    /// Wants every peer to know this key.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    #[cfg(feature = "auth")]
    pub fn set_key(&mut self, key: Key) -> Result<()> {
        // Several threads may accept, and one that comes too late is to wait for what the others
        // wait for.
        let prepared = match &self.socket {
            Socket::Unix(socket) => socket.set_nonblocking(true),
            Socket::Tcp(socket) => socket.set_nonblocking(true),
        };
        let keyed = prepared.and_then(|()| Keyed::new(self.socket.as_fd(), key, self.authentication_time));
        self.keyed = Some(keyed.map_err(Error::os("cannot prepare the authentication of peers"))?);
        Ok(())
    }

    /// Sets the time that a peer's authentication may take.
    #[cfg(feature = "auth")]
    pub fn set_authentication_time(&mut self, time: Duration) {
        self.authentication_time = time;
        if let Some(keyed) = &mut self.keyed {
            keyed.time = time;
        }
    }

    /// Sets the number of connections that may wait to be accepted.
    ///
    /// # Errors
    ///
    /// None for a listener that listens.
    pub fn set_backlog(&self, connections: u32) -> Result<()> {
        let connections = i32::try_from(connections).unwrap_or(i32::MAX);
        socket::set_backlog(self.socket.as_fd(), connections).map_err(Error::os("cannot change a listener's backlog"))
    }

    /// Waits for a peer and, with a key, authenticates it. Several are authenticated at a time, and
    /// the first to be done is returned. The next peer may be accepted even if one has failed.
    ///
    /// # Errors
    ///
    /// [`Error::Authentication`]; if no fd is left.
    pub fn accept(&self) -> Result<Connection> {
        let (admitted, peer) = match &self.keyed {
            None => self.accept_next().map(|(connection, peer)| (Ok(connection), peer))?,
            Some(keyed) => keyed.accept(self.socket.as_fd(), || self.accept_next())?,
        };
        let connection = admitted?;
        *self.last_accepted.lock().unwrap_or_else(PoisonError::into_inner) = peer;
        Ok(connection)
    }

    fn accept_next(&self) -> Result<(Connection, Option<Address>)> {
        let refused = || Error::os(format!("cannot accept a connection at {}", self.address));
        let (connection, peer) = match &self.socket {
            Socket::Unix(socket) => {
                let (stream, peer) = socket.accept().map_err(refused())?;
                let stream = above_streams(stream).map_err(refused())?;
                self.check_user(&stream)?;
                (over_unix(stream), unix_address(&peer))
            }
            Socket::Tcp(socket) => {
                let (stream, peer) = socket.accept().map_err(refused())?;
                let stream = above_streams(stream).map_err(refused())?;
                (over_tcp(stream)?, Some(Address::Tcp(peer)))
            }
        };
        connection.set_read_ahead(self.read_ahead);
        Ok((connection, peer))
    }

    /// Ends each `accept` that waits and each authentication that goes on, those of other threads
    /// too. In a process forked from the one that listens it does nothing.
    pub fn close(&self) {
        if let Some(keyed) = &self.keyed {
            keyed.close();
        }
    }

    /// Returns the address at which the listener listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the address from which the peer that was accepted last connected. Unix sockets have
    /// none as a rule.
    pub fn last_accepted(&self) -> Option<Address> {
        self.last_accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check_user(&self, stream: &UnixStream) -> Result<()> {
        if !self.own_user_only {
            return Ok(());
        }
        let peer = socket::peer(stream.as_fd()).map_err(Error::os("cannot tell who connects"))?;
        let own = socket::current_user();
        if peer.user == own {
            return Ok(());
        }
        let text = format!("process {} of user {} connected to a private listener of user {own}", peer.pid, peer.user);
        Err(Error::Authentication(text))
    }

    fn over(socket: Socket, address: Address, file: Option<SocketFile>) -> Listener {
        Listener {
            _file: file,
            socket,
            address,
            own_user_only: false,
            keyed: None,
            #[cfg(feature = "auth")]
            authentication_time: AUTHENTICATION_TIME,
            read_ahead: true,
            last_accepted: Mutex::new(None),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.keyed.as_ref().and_then(Keyed::news).unwrap_or_else(|| self.socket.as_fd())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

/// The file of a unix socket; removed when its listener is dropped where it was made, unless it is
/// another's by then.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    maker: u32,
}

impl SocketFile {
    fn made(path: &Path) -> std::io::Result<SocketFile> {
        let path = std::path::absolute(path)?;
        Ok(SocketFile { identity: identity(&path)?, path, maker: current_pid() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if current_pid() == self.maker && identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If it cannot be removed, the next to listen there is told what to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

fn unix_address(address: &UnixAddr) -> Option<Address> {
    let path = address.as_pathname().map(|path| Address::Unix(path.to_owned()));
    path.or_else(|| abstract_name::of(address).map(|name| Address::Abstract(name.to_owned())))
}

fn over_unix(stream: UnixStream) -> Connection {
    Connection::over(OwnedFd::from(stream), true, Ways::Both)
}

/// A small frame is not kept back to be joined with the next.
fn over_tcp(stream: TcpStream) -> Result<Connection> {
    stream.set_nodelay(true).map_err(Error::os("cannot set up a TCP connection"))?;
    Ok(Connection::over(OwnedFd::from(stream), false, Ways::Both))
}
