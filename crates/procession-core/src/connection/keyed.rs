//! A listener that has a key: its peers are authenticated before they are handed out. Called by
//! `listener`, in any thread that accepts.
//!
//! In the process that listens, each authentication has a thread of its own (`admission`). In one
//! that was forked from it the thread that accepts does it by itself.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::poller;

use super::Connection;
use super::address::Address;
use super::admission::{Admission, Admitted, News};
use super::authentication::{self, Key};
use crate::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Keyed {
    key: Key,
    admission: Admission,
    /// The time that a peer's authentication may take.
    pub(super) time: Duration,
}

impl Keyed {
    /// For the peers of a listening socket.
    pub(super) fn new(socket: BorrowedFd<'_>, key: Key, time: Duration) -> io::Result<Keyed> {
        Ok(Keyed { key, admission: Admission::new(socket)?, time })
    }

    /// Waits for a peer and authenticates it. `accept_next` does not block.
    pub(super) fn accept(
        &self,
        socket: BorrowedFd<'_>,
        accept_next: impl Fn() -> Result<(Connection, Option<Address>)>,
    ) -> Result<Admitted> {
        loop {
            if !self.admission.is_own() {
                poller::wait_readable_unless(&[socket], None, interrupt::ask)
                    .map_err(Error::os("cannot wait for a connection"))?;
                if interrupt::is_over() {
                    return Err(Error::Timeout { what: "a peer connected" });
                }
            } else if let News::Admitted(admitted) = self.admission.wait(socket)? {
                return Ok(admitted);
            }
            let (connection, peer) = match accept_next() {
                // It has gone again, another thread was quicker, or there was none.
                Err(Error::Os { source, .. }) if source.kind() == ErrorKind::WouldBlock => continue,
                accepted => accepted?,
            };
            if self.admission.is_own() {
                self.admission.authenticate(connection, peer, self.key.clone(), self.time)?;
            } else {
                let admitted = authentication::accept(&connection, &self.key, Instant::now() + self.time);
                return Ok((admitted.map(|()| connection), peer));
            }
        }
    }

    /// Ends every wait and every authentication. In a process forked from the one that listens it
    /// does nothing.
    pub(super) fn close(&self) {
        if self.admission.is_own() {
            self.admission.close();
        }
    }

    /// Returns the fd that is readable when `accept` has something to do; `None` if that is the
    /// socket.
    pub(super) fn news(&self) -> Option<BorrowedFd<'_>> {
        self.admission.is_own().then(|| self.admission.news())
    }
}
