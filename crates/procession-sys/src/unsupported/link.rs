//! No links. As [`linux/link.rs`](../linux/link.rs).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::unsupported;
pub use crate::message::{MAX_FDS, MAX_MESSAGE, Message, Received};

/// One end of a pair.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
impl Link {
    /// Refuses.
    pub fn pair() -> io::Result<(Link, Link)> {
        unsupported()
    }

    /// Refuses.
    pub fn send(&self, _parts: &[IoSlice<'_>], _fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn send_now(&self, _parts: &[IoSlice<'_>], _fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn recv(&self, _deadline: Option<Instant>) -> io::Result<Option<Message>> {
        unsupported()
    }

    /// Refuses.
    pub fn finish_sending(&self) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn recv_now(&self) -> io::Result<Received> {
        unsupported()
    }

    /// Refuses.
    pub fn is_seqpacket(&self) -> io::Result<bool> {
        unsupported()
    }

    /// Returns `true`.
    pub fn is_peer_closed(&self) -> bool {
        true
    }

    /// Refuses.
    pub fn kill_me_later(&self, _grace: std::time::Duration) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn kill_me_when_peer_closes(&self) -> io::Result<()> {
        unsupported()
    }

    /// Refuses.
    pub fn kill_group_when_peer_closes(&self) -> io::Result<()> {
        unsupported()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Link {
    fn from(fd: OwnedFd) -> Link {
        Link { fd }
    }
}

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.fd
    }
}
