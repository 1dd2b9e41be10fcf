//! Watches a fork server that owes something, a hello or the report of a child's end. Used in the
//! server's owner, by the thread that waits. It only looks: its caller kills a server that is
//! [overdue](Look::Overdue).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::pidfd::PidFd;
use procession_sys::poller;

/// The interval between looks at a server that does not answer. Looks are counted instead of time:
/// the time in which this whole program is stopped is not the server's.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The most looks at a server that the kernel says is stopped.
const MAX_LOOKS_STOPPED: u32 = 10;

/// Looks at a fork server that owes something.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    server: &'a PidFd,
    max_looks: u32,
    looks: u32,
    /// The last looks that found it stopped.
    stopped: u32,
}

/// The result of one look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Something to read.
    Readable,
    /// The server has ended.
    Ended,
    /// Nothing yet.
    Nothing,
    /// Nothing for too long: the server is stopped or stuck, and must be killed. Its children live
    /// on, and the next start makes another server.
    Overdue,
    /// A signal ended the wait ([`interrupt`]).
    Interrupted,
}

impl<'a> Watch<'a> {
    /// A server is overdue after `max_looks` looks.
    pub(crate) fn new(server: &'a PidFd, max_looks: u32) -> Watch<'a> {
        Watch { server, max_looks, looks: 0, stopped: 0 }
    }

    /// Waits for a moment until `news` is readable or the server has ended.
    pub(crate) fn look(&mut self, news: BorrowedFd<'_>) -> io::Result<Look> {
        let end = Some(Instant::now() + LOOK_INTERVAL);
        let ready = poller::wait_readable_unless(&[news, self.server.as_fd()], end, interrupt::ask)?;
        let found = Look::found(&ready);
        if found != Look::Nothing {
            return Ok(found);
        }
        // The signal may have reached another thread.
        if interrupt::ask() {
            return Ok(Look::Interrupted);
        }
        self.looks += 1;
        self.stopped = if self.server.is_stopped() { self.stopped + 1 } else { 0 };
        let is_overdue = self.looks >= self.max_looks || self.stopped >= MAX_LOOKS_STOPPED;
        Ok(if is_overdue { Look::Overdue } else { Look::Nothing })
    }

    /// Returns whether the server has ended.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        self.server.has_ended()
    }
}

impl Look {
    /// Reads what a wait for news and, after it, for the server's end has found ready.
    pub(crate) fn found(ready: &[bool]) -> Look {
        match ready {
            [true, ..] => Look::Readable,
            [_, true] => Look::Ended,
            _ => Look::Nothing,
        }
    }
}
