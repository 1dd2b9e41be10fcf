//! Children that a face makes itself, because an interpreter must be forked by its own rules or
//! started by its own command line. The face writes and reads the spawn message, which says what
//! runs in the child. The engine holds the child, ties it to its parent's life and reads what it
//! leaves. Called in the parent by the thread that starts, and in the child by its only thread.
//!
//! | | parent | child |
//! |---|---|---|
//! | fork | forks, [`opened`] | has everything |
//! | spawn | [`execute`], [`send`] | [`inherited`], [`receive`] |
//! | forkserver | [`send`], the [client](super::client) | its [`Server`](super::server::Server), hello, [`receive`] |

use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

pub use procession_sys::link::Link;
use procession_sys::link::MAX_FDS;
use procession_sys::memfd;
use procession_sys::pidfd::PidFd;
use procession_sys::spawn::{FIRST_FD, Spawn, inherited_fd};

use crate::child::{Child, Popen, Reaper};
use crate::outcome::INLINE_LIMIT;
use crate::wire::{Reader, Writer};

/// The time for which a child that watches its parent's life itself may outlive its parent.
pub const GRACE: Duration = Duration::from_millis(500);

/// A child that the face has just forked.
///
/// # Errors
///
/// If no fd is left; the child is killed then.
pub fn opened(pid: i32, link: Link, name: String, daemon: bool) -> io::Result<Child> {
    match PidFd::of_new_child(pid) {
        Ok(pidfd) => Ok(Child::new(name, daemon, Popen { pidfd, link, began: true, reaper: Reaper::Parent })),
        // A handler of SIGCHLD that waits for any child was quicker.
        Err(error) if error.kind() == ErrorKind::NotFound => Child::lost(name, daemon, pid.unsigned_abs(), link),
        Err(error) => Err(error),
    }
}

/// A process that neither the engine nor the face has started, by its pid. It need not be a child
/// of this process. The engine leaves its status to the code that has started it.
///
/// # Errors
///
/// If there is no such process, or no fd is left.
pub fn of_others(pid: u32, name: String, daemon: bool) -> io::Result<Child> {
    Ok(Child::of_others(name, daemon, PidFd::open(pid)?))
}

/// Executes a program with the other end of the link as its first fd after the standard streams.
/// SIGINT is blocked there until the face is ready for it.
///
/// # Errors
///
/// See [`Spawn::start`].
pub fn execute(program: &Path, args: &[OsString], theirs: &Link) -> io::Result<PidFd> {
    Spawn { program, args, fds: &[theirs.as_fd()], preload: None, holds_interrupts: true }.start()
}

/// In an executed child: the link to its parent, once.
///
/// # Errors
///
/// `NotFound` if this process was not started by [`execute`].
pub fn inherited() -> io::Result<Link> {
    let link = Link::from(inherited_fd(FIRST_FD)?);
    if link.is_seqpacket()? {
        return Ok(link);
    }
    Err(io::Error::new(ErrorKind::NotFound, "the first file descriptor is not a link to a parent"))
}

/// Sends a spawn message, with copies of fds. Does not wait, because both ends' buffers are empty
/// when a child begins. Returns `Ok` if the child has ended already: its end will say so.
///
/// # Errors
///
/// An error of the system.
pub fn send(link: &Link, message: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let is_beside = message.len() > INLINE_LIMIT;
    let head = Writer::default().u8(is_beside.into()).u32(fds.len() as u32).0;
    let beside = if is_beside { Some(memfd::from_bytes("procession-spawn", message)?) } else { None };
    let mut all = beside.iter().map(AsFd::as_fd).chain(fds.iter().map(AsFd::as_fd));
    let mut parts = vec![IoSlice::new(&head)];
    if !is_beside {
        parts.push(IoSlice::new(message));
    }
    loop {
        let some: Vec<_> = all.by_ref().take(MAX_FDS).collect();
        let is_last = some.len() < MAX_FDS;
        match link.send_now(&parts, &some) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
        if is_last {
            return Ok(());
        }
        // The fds that one message has no room for follow in others.
        parts = vec![IoSlice::new(b"+")];
    }
}

/// In the child: reads what [`send`] sent. `None`: the parent is gone.
///
/// # Errors
///
/// `InvalidData` if something else came; what the system refuses.
pub fn receive(link: &Link) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let malformed = || io::Error::new(ErrorKind::InvalidData, "what the parent sent is not a spawn message");
    let Some(first) = link.recv(None)? else { return Ok(None) };
    let mut reader = Reader(&first.bytes);
    let is_beside = reader.u8().ok_or_else(malformed)? != 0;
    let expected = reader.u32().ok_or_else(malformed)? as usize + usize::from(is_beside);
    let mut fds = first.fds;
    // Another message follows each full one, even if no fd is left.
    let mut is_full = fds.len() == MAX_FDS;
    while is_full {
        let Some(more) = link.recv(None)? else { return Ok(None) };
        is_full = more.fds.len() == MAX_FDS;
        fds.extend(more.fds);
    }
    if fds.len() != expected {
        return Err(malformed());
    }
    let message = if is_beside { memfd::read_all(fds.remove(0).as_fd())? } else { reader.0.to_vec() };
    Ok(Some((message, fds)))
}
