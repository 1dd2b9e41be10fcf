//! Connections: frames between two processes over a stream socket, in the form of Python's
//! `multiprocessing.connection`. Used in any process that has an end, from any thread.
//!
//! | room | what it is |
//! |---|---|
//! | [`frame`] | a message's length and its bytes |
//! | `inbox` | what was received and not taken yet, and whose fds are whose |
//! | `turn` | which thread receives |
//! | `address` | what a listener is found by |
//! | [`listener`] | where connections come from, by address |
//! | `authentication` | two ends prove to each other that they know a key |
//! | `admission` | the authentications of a listener's peers, several at a time |
//! | `keyed` | a listener with a key |
//!
//! The last three, and all cryptography, are compiled with the feature `auth` only.
//!
//! # What can be relied on
//!
//! - Frames of several threads never interleave: one sends at a time, one receives at a time, and
//!   the two do not wait for each other.
//! - A deadline that passes within a frame loses nothing: what came of it stays in the inbox, and
//!   the next `recv` goes on.
//! - A peer that is killed is an end of file here: [`Error::ConnectionClosed`] between frames,
//!   [`Error::Malformed`] within one. Sending to it is [`Error::ConnectionClosed`], and no SIGPIPE.
//! - Whatever a peer sends, no more memory is taken than about twice what it sent, and never more
//!   than the limit.
//! - An end whose stream lost its frames (a defect, a send that failed half way) says so from then
//!   on.

mod address;
#[cfg(feature = "auth")]
mod admission;
#[cfg(feature = "auth")]
pub mod authentication;
pub mod frame;
#[cfg(all(fuzzing, feature = "auth"))]
pub(crate) mod fuzzing;
mod inbox;
#[cfg_attr(not(feature = "auth"), path = "keyless.rs")]
mod keyed;
pub mod listener;
mod turn;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procession_sys::{poller, socket};

use self::frame::Header;
use self::inbox::{Front, Inbox};
use self::turn::Turn;
use crate::handle::MOST_HANDLES;
use crate::reactor::SocketWatch;
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

/// The longest frame that is received unless told otherwise: 1 GiB.
pub const DEFAULT_MAX_FRAME: u64 = 1 << 30;

/// The directions in which frames go at an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ways {
    /// Both.
    Both,
    /// It only receives.
    In,
    /// It only sends.
    Out,
}

/// One end.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    carries_handles: bool,
    ways: Ways,
    inbox: Turn<Inbox>,
    /// True if a frame was left half sent. The lock is held while sending.
    outbox: Mutex<bool>,
    max_frame: AtomicU64,
    read_ahead: AtomicBool,
}

impl Connection {
    /// The two ends of a new connection; not duplex: the first only receives, the second only
    /// sends.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn pair(duplex: bool) -> Result<(Connection, Connection)> {
        let refused = || Error::os("cannot make a pipe");
        let (one, other) = socket::pair().map_err(refused())?;
        let ways = if duplex { [Ways::Both; 2] } else { [Ways::In, Ways::Out] };
        if !duplex {
            socket::stop_sending(one.as_fd()).map_err(refused())?;
        }
        Ok((Connection::over(one, true, ways[0]), Connection::over(other, true, ways[1])))
    }

    /// One over a connected socket.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is not a stream socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Connection> {
        let Some(kind) = socket::kind(socket.as_fd()) else {
            let text = "a connection needs a stream socket (unix or TCP), and this fd is something else";
            return Err(Error::Invalid(text.into()));
        };
        Ok(Connection::over(socket, kind == socket::Kind::Unix, Ways::Both))
    }

    /// Sends one frame, with copies of the fds beside it; waits while the socket is full, or until
    /// the deadline.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionClosed`]; [`Error::Invalid`] for fds over TCP, or at an end that only
    /// receives; [`Error::Timeout`], after which an end that had begun to send cannot be sent over
    /// any more.
    pub fn send(&self, payload: &[u8], fds: &[OwnedFd], deadline: Option<Instant>) -> Result<()> {
        self.check_sendable(fds.len())?;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut half_sent = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        if *half_sent {
            return Err(half_sent_before());
        }
        let header = Header::of(payload.len());
        socket::send_all(self.socket.as_fd(), header.as_bytes(), payload, &fds, deadline).map_err(|(sent, error)| {
            *half_sent = sent > 0;
            match error.kind() {
                io::ErrorKind::BrokenPipe => Error::ConnectionClosed,
                io::ErrorKind::TimedOut if deadline.is_some() => {
                    Error::Timeout { what: "the other end of a connection received" }
                }
                _ => Error::os("cannot send over a connection")(error),
            }
        })
    }

    /// Begins to send a frame without waiting: [`go_on`](Connection::go_on) sends it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], as [`send`](Connection::send).
    pub fn begin_send(&self, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Outgoing> {
        self.check_sendable(fds.len())?;
        let mut bytes = Header::of(payload.len()).as_bytes().to_vec();
        bytes.extend_from_slice(payload);
        Ok(Outgoing { bytes, sent: 0, fds })
    }

    /// Sends as much of a frame as the socket takes now; `true` once all of it has gone. Until then
    /// nobody else can send at this end.
    ///
    /// # Errors
    ///
    /// As [`send`](Connection::send).
    pub fn go_on(&self, frame: &mut Outgoing) -> Result<bool> {
        let mut half_sent = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        if *half_sent && frame.sent == 0 {
            return Err(half_sent_before());
        }
        let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
        let rest = &frame.bytes[frame.sent..];
        match socket::send_all(self.socket.as_fd(), &[], rest, &fds, Some(Instant::now())) {
            Ok(()) => {
                *half_sent = false;
                frame.sent = frame.bytes.len();
                Ok(true)
            }
            Err((sent, error)) => {
                frame.sent += sent;
                *half_sent = frame.sent > 0;
                if sent > 0 {
                    // They went beside the first byte.
                    frame.fds.clear();
                }
                match error.kind() {
                    io::ErrorKind::TimedOut => Ok(false),
                    io::ErrorKind::BrokenPipe => Err(Error::ConnectionClosed),
                    _ => Err(Error::os("cannot send over a connection")(error)),
                }
            }
        }
    }

    /// A hold on it for futures.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn watch(&self) -> Result<SocketWatch> {
        SocketWatch::of(self.socket.as_fd())
    }

    fn check_sendable(&self, fds: usize) -> Result<()> {
        if self.ways == Ways::In {
            return Err(Error::Invalid("this end of a one-way pipe only receives: send at the other end".into()));
        }
        if fds > 0 && !self.carries_handles {
            let text = "handles travel over unix sockets only, and this connection is TCP: connect by a unix socket";
            return Err(Error::Invalid(text.into()));
        }
        if fds > MOST_HANDLES {
            return Err(Error::Invalid(format!("a message may hold {MOST_HANDLES} handles, not {fds}")));
        }
        Ok(())
    }

    /// Receives one frame and gives what `read` makes of it; waits for it until the deadline.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectionClosed`], [`Error::Malformed`], [`Error::Timeout`]; [`Error::Invalid`] at
    /// an end that only sends.
    pub fn recv<R>(&self, deadline: Option<Instant>, read: impl FnOnce(&[u8], Vec<OwnedFd>) -> R) -> Result<R> {
        self.recv_limited(self.max_frame(), deadline, read)
    }

    /// As [`recv`](Self::recv), with a limit of its own.
    pub(crate) fn recv_limited<R>(
        &self,
        limit: u64,
        deadline: Option<Instant>,
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> R,
    ) -> Result<R> {
        const LATE: Error = Error::Timeout { what: "a whole frame came over the connection" };
        if self.ways == Ways::Out {
            return Err(Error::Invalid("this end of a one-way pipe only sends: receive at the other end".into()));
        }
        let ahead = self.read_ahead.load(Ordering::Relaxed);
        let mut inbox = self.inbox.take(deadline).ok_or(LATE)?;
        loop {
            match inbox.front(limit)? {
                Front::Frame(payload, fds) => return Ok(read(inbox.payload(payload), fds)),
                Front::Needs(bytes) if inbox.fill(self.socket.as_fd(), bytes, ahead, deadline)? => {}
                Front::Needs(_) => return Err(LATE),
            }
        }
    }

    /// Waits until there is something to receive, be it the beginning of a frame or the end;
    /// `false` at the deadline.
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn poll(&self, deadline: Option<Instant>) -> Result<bool> {
        if self.is_ready() {
            return Ok(true);
        }
        Ok(wait_readable(&[self.socket.as_fd()], deadline)?[0])
    }

    /// Returns whether the next `recv` has an answer whatever the socket says. A thread that waits
    /// in `recv` has none yet.
    pub fn is_ready(&self) -> bool {
        self.inbox.try_take().is_some_and(|inbox| inbox.is_ready(self.max_frame()))
    }

    /// The longest frame that is received.
    pub fn max_frame(&self) -> u64 {
        self.max_frame.load(Ordering::Relaxed)
    }

    /// Sets the longest frame that is received.
    pub fn set_max_frame(&self, bytes: u64) {
        self.max_frame.store(bytes, Ordering::Relaxed);
    }

    /// Sets whether a `recv` may take more from the socket than its frame; it may unless told
    /// otherwise.
    pub fn set_read_ahead(&self, read_ahead: bool) {
        self.read_ahead.store(read_ahead, Ordering::Relaxed);
    }

    /// Returns the state that must travel beside the fd, for another process to go on where this
    /// one is: the ways, the limit, the bytes that were received and not taken.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] while another thread receives, or when handles were received and not
    /// taken.
    pub fn state(&self) -> Result<Vec<u8>> {
        let busy =
            || Error::Invalid("this connection cannot be sent away while another thread receives from it".into());
        let inbox = self.inbox.try_take().ok_or_else(busy)?;
        let ways = match self.ways {
            Ways::Both => 0,
            Ways::In => 1,
            Ways::Out => 2,
        };
        let Writer(mut bytes) =
            Writer::default().u8(ways).u8(u8::from(self.read_ahead.load(Ordering::Relaxed))).u64(self.max_frame());
        bytes.extend_from_slice(inbox.unread()?);
        Ok(bytes)
    }

    /// One that came as a handle, with its [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// If the two are not a connection's.
    pub fn attach(socket: OwnedFd, state: &[u8]) -> Result<Connection> {
        let mut reader = Reader(state);
        let mut head = || Some((reader.u8()?, reader.u8()?, reader.u64()?));
        let (ways, read_ahead, max_frame) = match head() {
            Some((ways @ 0..=2, read_ahead, max_frame)) => (ways, read_ahead != 0, max_frame),
            _ => return Err(Error::Invalid("what came is not the state of a connection".into())),
        };
        let mut connection = Connection::from_fd(socket)?;
        connection.ways = [Ways::Both, Ways::In, Ways::Out][usize::from(ways)];
        connection.inbox = Turn::new(Inbox::with(reader.0.to_vec()));
        connection.set_read_ahead(read_ahead);
        connection.set_max_frame(max_frame);
        Ok(connection)
    }

    /// The socket, and what was received over it and not taken.
    pub fn into_parts(self) -> (OwnedFd, Vec<u8>) {
        let inbox = self.inbox.into_inner();
        let unread = inbox.and_then(|inbox| inbox.unread().map(<[u8]>::to_vec).ok());
        (self.socket, unread.unwrap_or_default())
    }

    fn over(socket: OwnedFd, carries_handles: bool, ways: Ways) -> Connection {
        Connection {
            socket,
            carries_handles,
            ways,
            inbox: Turn::new(Inbox::default()),
            outbox: Mutex::new(false),
            max_frame: AtomicU64::new(DEFAULT_MAX_FRAME),
            read_ahead: AtomicBool::new(true),
        }
    }
}

/// A frame that is sent bit by bit.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Until the first byte has gone.
    fds: Vec<OwnedFd>,
}

fn half_sent_before() -> Error {
    Error::Malformed("a frame was left half sent over this connection, so no other can follow: make a new one".into())
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of the fds is readable, or closed at its other end, and says which are. All
/// `false`: the deadline passed.
///
/// # Errors
///
/// If there are more fds than this process may open, or the system is out of memory.
pub fn wait_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Result<Vec<bool>> {
    poller::wait_readable(fds, deadline).map_err(Error::os("cannot wait for what was given to wait for"))
}
