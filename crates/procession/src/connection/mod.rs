//! Connections: two ends over which values go back and forth. Used in any process that has an end,
//! from any thread.

mod address;
mod listener;
mod wait;

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_core::{connection as engine, handle};
use serde_core::de::{DeserializeOwned, Error as _};
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Whose;
use crate::{Error, Result, message};

pub use address::Address;
pub use listener::{Client, Listener};
pub use wait::{Waitable, wait};

/// The two ends of a new connection: the first sends `Tx` and receives `Rx`, the second the
/// reverse.
///
/// Without `duplex` frames go one way: the first end only receives, the second only sends. Say so
/// by a type that has no values, and the compiler sees to it: `pipe::<Infallible, Rx>(false)`.
///
/// ```
/// use procession::{Connection, Context, pipe};
///
/// # fn main() -> procession::Result<()> {
/// let (ours, theirs) = pipe::<String, usize>(true)?;
/// let serve = |end: Connection<usize, String>| while let Ok(word) = end.recv() { end.send(&word.len()).unwrap() };
/// # let ctx = Context::fork();
/// let mut server = ctx.process(serve, theirs).start()?;
/// ours.send(&"four".to_owned())?;
/// assert_eq!(ours.recv()?, 4);
/// # server.kill()?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// If no file descriptor is left.
pub fn pipe<Tx, Rx>(duplex: bool) -> Result<(Connection<Tx, Rx>, Connection<Rx, Tx>)> {
    let (one, other) = engine::Connection::pair(duplex)?;
    Ok((Connection::over(one), Connection::over(other)))
}

/// One end of a connection, which sends `Tx` and receives `Rx`.
///
/// It comes from [`pipe`], from a [`Listener`] or from a [`Client`]; it travels to a child as (part
/// of) an argument, and over another connection. Messages that this process received and did not
/// take go along. Send it away to hand it over, and drop it here: while a copy is open anywhere,
/// the other end does not see its end. (A child that was started by fork has copies of all that was
/// open.)
///
/// Any number of threads may send and receive at once; frames never interleave. Of *processes* one
/// at a time may send at an end and one receive, as in `multiprocessing`; several that take turns
/// to receive need [`set_read_ahead(false)`](Connection::set_read_ahead).
///
/// Values go in frames of Python's `multiprocessing.connection`. A value's own form is this
/// crate's; bytes that are to be understood by others go by [`send_bytes`](Connection::send_bytes)
/// and [`recv_bytes`](Connection::recv_bytes).
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let (left, right) = procession::pipe::<u32, String>(true)?;
/// left.send(&7)?;
/// right.send(&format!("got {}", right.recv()?))?;
/// assert_eq!(left.recv()?, "got 7");
/// drop(right);
/// assert!(left.recv().unwrap_err().is_closed());
/// # Ok(()) }
/// ```
pub struct Connection<Tx, Rx> {
    pub(crate) engine: engine::Connection,
    values: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx: Serialize + 'static, Rx> Connection<Tx, Rx> {
    /// Sends a value. Waits while the other end has too much to receive.
    ///
    /// Queues, connections and other [handles](crate::Handle) within it go along, over unix
    /// sockets.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<Vec<String>, ()>(true)?;
    /// left.send(&vec!["a".to_owned(), "b".to_owned()])?;
    /// assert_eq!(right.recv()?, ["a", "b"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A value that does not encode ([`Error::is_encode`]); the other end is gone
    /// ([`Error::is_closed`]); handles over TCP, or an end that only receives
    /// ([`Error::is_invalid`]).
    pub fn send(&self, value: &Tx) -> Result<()> {
        let (payload, handles) = message::encode_with_handles(value)
            .map_err(|why| Error::unencodable("message", "Connection::send", why))?;
        Ok(self.engine.send(&payload, &handles, None)?)
    }
}

impl<Tx, Rx: DeserializeOwned + 'static> Connection<Tx, Rx> {
    /// Receives a value; waits for one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// left.send(&7)?;
    /// drop(left);
    /// assert_eq!(right.recv()?, 7);
    /// assert!(right.recv().unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The other end is gone and nothing is left ([`Error::is_closed`]); what came is cut off, too
    /// long or no frame ([`Error::is_malformed`]); it does not decode ([`Error::is_decode`]), and
    /// is then gone; an end that only sends ([`Error::is_invalid`]).
    pub fn recv(&self) -> Result<Rx> {
        self.recv_until(None)
    }

    /// As [`recv`](Connection::recv), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// assert!(right.recv_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// left.send(&7)?;
    /// assert_eq!(right.recv_timeout(Duration::from_secs(10))?, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv), and [`Error::is_timeout`]. The part of a value that came by
    /// then is kept for the next call.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Rx> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// Receives a value if one is there.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// assert_eq!(right.try_recv()?, None);
    /// left.send(&7)?;
    /// assert_eq!(right.try_recv()?, Some(7));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv).
    pub fn try_recv(&self) -> Result<Option<Rx>> {
        match self.recv_until(Some(Instant::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            received => received.map(Some),
        }
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<Rx> {
        let decode = |payload: &[u8], fds| handle::receiving(fds, || message::decode(payload));
        self.engine.recv(deadline, decode)?.map_err(|why| undecodable("Connection::recv", why))
    }
}

impl<Tx, Rx> Connection<Tx, Rx> {
    /// Sends bytes as they are, in one frame: what `send_bytes` of Python's connections does.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<(), ()>(true)?;
    /// left.send_bytes(b"as they are")?;
    /// assert_eq!(right.recv_bytes()?, b"as they are");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Connection::send), but for encoding.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.engine.send(bytes, &[], None)?)
    }

    /// Receives the bytes of one frame: what `recv_bytes` of Python's connections does.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<(), ()>(true)?;
    /// left.send_bytes(&[1, 2, 3])?;
    /// assert_eq!(right.recv_bytes()?, [1, 2, 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Connection::recv); [`Error::is_decode`] for a value with handles, which are
    /// closed.
    pub fn recv_bytes(&self) -> Result<Vec<u8>> {
        self.recv_bytes_until(None)
    }

    /// As [`recv_bytes`](Connection::recv_bytes), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<(), ()>(true)?;
    /// assert!(right.recv_bytes_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// # drop(left);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Connection::recv_bytes), and [`Error::is_timeout`].
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
        self.recv_bytes_until(Instant::now().checked_add(timeout))
    }

    /// Waits until there is something to receive, for no longer than `timeout`, and says whether
    /// there is. The beginning of a frame counts, and so does the other end's being closed.
    /// [`wait`] does so for several.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// assert!(!right.poll(Duration::ZERO)?);
    /// left.send(&7)?;
    /// assert!(right.poll(Duration::from_secs(10))?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        Ok(self.engine.poll(Instant::now().checked_add(timeout))?)
    }

    /// Sets the longest frame that is received, in bytes; 1 GiB until then. A longer one is an
    /// error before any memory is taken for it ([`Error::is_malformed`]), and the end of this
    /// connection. (Python's has no limit.)
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<(), ()>(true)?;
    /// right.set_max_frame(1000);
    /// left.send_bytes(&[0; 1001])?;
    /// assert!(right.recv_bytes().unwrap_err().is_malformed());
    /// # Ok(()) }
    /// ```
    pub fn set_max_frame(&self, bytes: u64) {
        self.engine.set_max_frame(bytes);
    }

    /// Sets whether a receive may take the beginning of later frames along, which spares a system
    /// call a frame. It may until told otherwise.
    ///
    /// Without it this process never holds a frame that it did not ask for: set it, before anything
    /// is received, where several processes receive from the same end in turn.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// right.set_read_ahead(false); // a copy of `right` elsewhere receives every second number
    /// left.send(&1)?;
    /// left.send(&2)?;
    /// assert_eq!(right.recv()?, 1);
    /// assert_eq!(right.into_parts().1, [] as [u8; 0], "the second is still in the socket");
    /// # Ok(()) }
    /// ```
    pub fn set_read_ahead(&self, read_ahead: bool) {
        self.engine.set_read_ahead(read_ahead);
    }

    /// The socket, and what was received over it and not taken.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let (left, right) = procession::pipe::<u32, ()>(true)?;
    /// let (socket, unread) = left.into_parts();
    /// assert!(unread.is_empty());
    /// let stream = UnixStream::from(socket); // and now by another protocol
    /// # drop((stream, right));
    /// # Ok(()) }
    /// ```
    pub fn into_parts(self) -> (OwnedFd, Vec<u8>) {
        self.engine.into_parts()
    }

    fn over(engine: engine::Connection) -> Self {
        Connection { engine, values: PhantomData }
    }

    fn recv_bytes_until(&self, deadline: Option<Instant>) -> Result<Vec<u8>> {
        let copy = |payload: &[u8], fds: Vec<OwnedFd>| if fds.is_empty() { Some(payload.to_vec()) } else { None };
        let with_handles = || undecodable("Connection::recv_bytes", "it has handles, which recv() receives".into());
        self.engine.recv(deadline, copy)?.ok_or_else(with_handles)
    }
}

impl<Tx, Rx> TryFrom<OwnedFd> for Connection<Tx, Rx> {
    type Error = Error;

    /// An end over a connected stream socket, be it unix or TCP. [`Error::is_invalid`] for any
    /// other fd.
    fn try_from(socket: OwnedFd) -> Result<Self> {
        Ok(Connection::over(engine::Connection::from_fd(socket)?))
    }
}

impl<Tx, Rx> AsFd for Connection<Tx, Rx> {
    /// The socket. It does not tell of frames that were received and not taken, as [`wait`] and
    /// [`poll`](Connection::poll) do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

impl<Tx, Rx> fmt::Debug for Connection<Tx, Rx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("socket", &self.as_fd()).finish_non_exhaustive()
    }
}

/// On its way to a child, or over another connection; anywhere else the error says what to do.
impl<Tx, Rx> Serialize for Connection<Tx, Rx> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.as_fd(), "connection").map_err(S::Error::custom)?;
        let state = self.engine.state().map_err(|error| {
            handle::refuse(&error.to_string());
            S::Error::custom(error)
        })?;
        (index, state).serialize(serializer)
    }
}

impl<'de, Tx, Rx> Deserialize<'de> for Connection<Tx, Rx> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, state) = <(u32, Vec<u8>)>::deserialize(deserializer)?;
        let socket = handle::receive_fd(index, "connection").map_err(D::Error::custom)?;
        let engine = engine::Connection::attach(socket, &state).map_err(|error| {
            handle::refuse(&error.to_string());
            D::Error::custom(error)
        })?;
        Ok(Connection::over(engine))
    }
}

fn undecodable(call: &'static str, why: String) -> Error {
    Error::undecodable(Whose::Call(call), "message", why)
}
