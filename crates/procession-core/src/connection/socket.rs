//! Bytes and fds through a stream socket, until a deadline. Used by a connection in the thread that sends or receives.
//!
//! No call sets `O_NONBLOCK`, which other processes with a copy of the socket would feel; where there is a deadline each call
//! says `MSG_DONTWAIT`. A socket that somebody else made non-blocking is waited for by `poll`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use procession_sys::poller::{wait_readable, wait_writable};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};

use crate::handle::MOST_HANDLES;

/// A frame up to so many bytes is copied together and sent as one piece: cheaper than telling the kernel of two.
const JOINED: usize = 256;

/// What a read found.
#[derive(Debug)]
pub(super) enum Came {
    /// So many bytes, and the fds that were sent with the last piece of them.
    Bytes(usize, Vec<OwnedFd>),
    /// The other end is closed and nothing is left.
    End,
    /// Nothing until the deadline.
    Nothing,
    /// Fds were lost on the way: more than a message may hold, or more than this process may open.
    FdsLost,
}

/// Reads what is there, and waits for the first byte of it until the deadline.
pub(super) fn read(socket: BorrowedFd<'_>, room: &mut [u8], deadline: Option<Instant>) -> io::Result<Came> {
    let now = if deadline.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_HANDLES))];
    loop {
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(room)];
        match retried(|| recvmsg(socket, &mut parts, &mut beside, now | RecvFlags::CMSG_CLOEXEC)) {
            Ok(came) => {
                let fds: Vec<OwnedFd> = beside.drain().flat_map(rights).collect();
                if came.flags.contains(ReturnFlags::CTRUNC) {
                    return Ok(Came::FdsLost);
                }
                return Ok(if came.bytes == 0 { Came::End } else { Came::Bytes(came.bytes, fds) });
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if !wait_readable(&[socket], deadline)?[0] {
            return Ok(Came::Nothing);
        }
    }
}

/// Writes all of `header` and `payload`, with the fds beside the first byte. An error says how many bytes went before it;
/// `TimedOut` is the deadline's.
pub(super) fn write(
    socket: BorrowedFd<'_>,
    header: &[u8],
    payload: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> Result<(), (usize, io::Error)> {
    let now = if deadline.is_some() { SendFlags::DONTWAIT } else { SendFlags::empty() };
    let len = header.len() + payload.len();
    let mut sent = if fds.is_empty() && len <= JOINED { write_joined(socket, header, payload, now)? } else { 0 };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_HANDLES))];
    while sent < len {
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if sent == 0 && !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(fds)) {
            let message = format!("{} fds are more than the {MOST_HANDLES} of one message", fds.len());
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

/// Writes a small frame by the kernel's shorter way, as much of it as goes at once.
fn write_joined(
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

/// Repeats what a signal interrupted, and what a reset did: it is said once, ahead of what the other end sent before it was
/// closed. Asked again the socket gives that, then the end of file or `EPIPE`.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            result => return result,
        }
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    }
}
