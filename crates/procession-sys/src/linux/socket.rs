//! Stream sockets: bytes with fds beside them, until a deadline. Called in the thread that
//! connects, sends or receives.
//!
//! No call sets `O_NONBLOCK`, which would affect other processes that have a copy of the socket. If
//! there is a deadline, each call says `MSG_DONTWAIT`. If somebody else has made a socket
//! non-blocking, `poll` waits for it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, listen, recvmsg, send, sendmsg, shutdown,
    socketpair, sockopt,
};
use rustix::process::geteuid;

use super::descriptor::above_streams;
use super::poller::{wait_readable, wait_writable};
use crate::message::MAX_FDS;
pub use crate::stream::{Incoming, Kind, Peer};

/// A frame of up to this many bytes is copied together and sent as one piece, which is cheaper than
/// a call with two pieces.
const JOINED: usize = 256;

/// Makes a connection and returns its two ends.
///
/// # Errors
///
/// If no fd is left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    Ok((above_streams(one)?, above_streams(other)?))
}

/// Makes the socket one that only receives.
///
/// # Errors
///
/// If it is not connected.
pub fn stop_sending(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Write)?)
}

/// Ends the connection for every process that has the socket: each wait for its other end is over.
///
/// # Errors
///
/// If it is not connected.
pub fn end_connection(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(shutdown(socket, Shutdown::Both)?)
}

/// Returns of which kind a stream socket is; `None` for any other fd.
pub fn kind(fd: BorrowedFd<'_>) -> Option<Kind> {
    match (sockopt::socket_type(fd), sockopt::socket_domain(fd)) {
        (Ok(SocketType::STREAM), Ok(AddressFamily::UNIX)) => Some(Kind::Unix),
        (Ok(SocketType::STREAM), Ok(_)) => Some(Kind::Network),
        _ => None,
    }
}

/// Sets how many connections may wait to be accepted.
///
/// # Errors
///
/// None for a socket that listens.
pub fn set_backlog(listener: BorrowedFd<'_>, connections: i32) -> io::Result<()> {
    Ok(listen(listener, connections)?)
}

/// Returns the process at the other end of a unix socket, as the kernel noted it when the two were
/// connected.
///
/// # Errors
///
/// If it is no connected unix socket.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let peer = sockopt::socket_peercred(socket)?;
    Ok(Peer { pid: peer.pid.as_raw_nonzero().get().unsigned_abs(), user: peer.uid.as_raw() })
}

/// Returns the user whose rights this process has.
pub fn current_user() -> u32 {
    geteuid().as_raw()
}

/// Receives the bytes that are there. Waits for the first byte until the deadline.
///
/// # Errors
///
/// If the system refuses. A closed end is not an error.
pub fn receive(socket: BorrowedFd<'_>, room: &mut [u8], deadline: Option<Instant>) -> io::Result<Incoming> {
    let now = if deadline.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    loop {
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(room)];
        match retried(|| recvmsg(socket, &mut parts, &mut beside, now | RecvFlags::CMSG_CLOEXEC)) {
            Ok(came) => {
                let fds = received_fds(&mut beside)?;
                if came.flags.contains(ReturnFlags::CTRUNC) {
                    return Ok(Incoming::FdsLost);
                }
                return Ok(if came.bytes == 0 { Incoming::End } else { Incoming::Bytes(came.bytes, fds) });
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if !wait_readable(&[socket], deadline)?[0] {
            return Ok(Incoming::TimedOut);
        }
    }
}

/// Sends all of `header` and `payload`, with the fds beside the first byte.
///
/// # Errors
///
/// The number of bytes that were sent, and why no more: `BrokenPipe` if the other end is closed
/// (there is no SIGPIPE), `TimedOut` at the deadline, `InvalidInput` for more fds than one message
/// takes.
pub fn send_all(
    socket: BorrowedFd<'_>,
    header: &[u8],
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> Result<(), (usize, io::Error)> {
    let now = if deadline.is_some() { SendFlags::DONTWAIT } else { SendFlags::empty() };
    let len = header.len() + payload.len();
    let mut sent = if fds.is_empty() && len <= JOINED { send_joined(socket, header, payload, now)? } else { 0 };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    while sent < len {
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
            let message = format!("{} fds are more than the {MAX_FDS} of one message", fds.len());
            return Err((0, io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        let parts = [
            IoSlice::new(&header[sent.min(header.len())..]),
            IoSlice::new(&payload[sent.saturating_sub(header.len())..]),
        ];
        match retried(|| sendmsg(socket, &parts, &mut beside, now | SendFlags::NOSIGNAL)) {
            Ok(went) => sent += went,
            Err(Errno::AGAIN) => match wait_writable(socket, deadline) {
                Ok(true) => {}
                Ok(false) => return Err((sent, io::ErrorKind::TimedOut.into())),
                Err(error) => return Err((sent, error)),
            },
            Err(error) => return Err((sent, error.into())),
        }
    }
    Ok(())
}

/// Sends a small frame by the kernel's shorter call. Returns how much of it went at once.
fn send_joined(
    socket: BorrowedFd<'_>,
    header: &[u8],
    payload: &[u8],
    now: SendFlags,
) -> Result<usize, (usize, io::Error)> {
    let mut joined = [0; JOINED];
    let len = header.len() + payload.len();
    joined[..header.len()].copy_from_slice(header);
    joined[header.len()..len].copy_from_slice(payload);
    match retried(|| send(socket, &joined[..len], now | SendFlags::NOSIGNAL)) {
        Ok(went) => Ok(went),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err((0, error.into())),
    }
}

/// Repeats a call that a signal interrupted or a reset ended. The kernel reports a reset once,
/// ahead of the bytes that the other end sent before it was closed. The next calls return those
/// bytes, then the end of file or `EPIPE`.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            result => return result,
        }
    }
}

/// Takes the fds that came beside a message. All of them are taken, and so owned, even if one
/// cannot be moved.
pub(super) fn received_fds(beside: &mut RecvAncillaryBuffer<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    fds.into_iter().map(above_streams).collect()
}
