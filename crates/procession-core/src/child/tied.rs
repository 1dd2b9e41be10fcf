//! A child whose life hangs on a link to this process, and how it ended: as this process finds out
//! by itself, or as the child's fork server reports. Used in the parent, by the thread that asks.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use procession_sys::ExitStatus;
use procession_sys::link::{Link, Received};
use procession_sys::pidfd::PidFd;
use rustix::io::Errno;

use super::end::End;
use super::server_watch::{Look, Watch};
use crate::Result;
use crate::outcome::{self, Heard, Outcome};

/// The most looks at a fork server that is to report the end of a child that has ended.
const MAX_LOOKS_REPORT: u32 = 50;

/// A child whose life hangs on a link to this process.
#[derive(Debug)]
pub(super) struct Tied {
    pub(super) pidfd: PidFd,
    /// `None` once this process has let go of it.
    link: Mutex<Option<Link>>,
    /// The child is known to have reached its bootstrap; otherwise its hello on the link will say
    /// so.
    began: bool,
    end: OnceLock<End>,
}

impl Tied {
    pub(super) fn new(pidfd: PidFd, link: Link, began: bool) -> Tied {
        Tied { pidfd, link: Mutex::new(Some(link)), began, end: OnceLock::new() }
    }

    /// Returns how the child ended, if anybody has asked since.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.get()
    }

    /// Closes this process's copy of the link, if no other thread uses it.
    pub(super) fn disown(&self) {
        if let Ok(mut link) = self.link.try_lock() {
            *link = None;
        }
    }

    /// Closes this process's end of the link; `false` if there is none.
    pub(super) fn cut_lifeline(&self) -> bool {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// Returns how the child ended. The first thread that asks calls `read`; the result is kept for
    /// the others.
    pub(super) fn end_by(&self, read: impl FnOnce(Option<&Link>) -> Result<End>) -> Result<&End> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        if !self.pidfd.is_open() {
            // The program has closed the engine's fds, and with the link this child's life. Nobody
            // can know how it ended; the link's number may be another file's by now.
            mem::forget(link.take());
            return Ok(self.end.get_or_init(|| End { status: None, outcome: Outcome::Died }));
        }
        let end = read(link.as_ref())?;
        *link = None;
        Ok(self.end.get_or_init(|| end))
    }

    /// Reads the outcome that the child left on its link, now that it has ended.
    pub(super) fn outcome(&self, link: Option<&Link>) -> io::Result<Outcome> {
        link.map_or(Ok(Outcome::Died), |link| outcome::read(link, self.began))
    }

    /// Returns how the child ended: by what its fork server sends or, if the server has ended or is
    /// killed for its silence, by what the kernel tells. Returns `None` if a signal ended the wait.
    pub(super) fn reported_end(
        &self,
        link: &Link,
        server: Option<&PidFd>,
        kill_server: impl Fn() -> io::Result<()>,
    ) -> io::Result<Option<End>> {
        let mut heard = Heard::new(self.began);
        // None once the server has ended, or has been killed.
        let mut watch = server.map(|server| Watch::new(server, MAX_LOOKS_REPORT));
        let mut known = None;
        while heard.exited.is_none() && !heard.has_enough() {
            // Before the link is read: what a server sent before its end is there by then.
            if let Some(looked_at) = &watch
                && looked_at.has_ended()?
            {
                watch = None;
            }
            match link.recv_now() {
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => break,
                Ok(Received::Message(message)) => {
                    heard.take(Ok(&message));
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    heard.take(Err(error));
                    continue;
                }
                Err(error) => return Err(error),
            }
            let Some(looking) = &mut watch else { break };
            match looking.look(link.as_fd())? {
                Look::Overdue => {
                    kill_server()?;
                    watch = None;
                }
                Look::Interrupted => return Ok(None),
                // The server is slow, or stopped, and will be killed for it. Its child is a zombie
                // until then; an older kernel forgets the status soon after.
                Look::Nothing if known.is_none() => known = self.pidfd.ended_status()?,
                Look::Readable | Look::Ended | Look::Nothing => {}
            }
        }
        let status = match heard.exited.flatten().or(known) {
            Some(status) => Some(status),
            None => self.pidfd.ended_status()?,
        };
        let status = if heard.exited.is_some() { status } else { self.reap_orphan()?.or(status) };
        Ok(Some(End { status, outcome: heard.into_outcome() }))
    }

    /// Reaps the child of a dead fork server if it is this process's now, as it is in process 1 of
    /// a container and in a subreaper.
    fn reap_orphan(&self) -> io::Result<Option<ExitStatus>> {
        match self.pidfd.try_reap() {
            Err(error) if is_no_child(&error) => Ok(None),
            reaped => reaped,
        }
    }
}

/// Returns whether the system says that a process is not this one's child, or is reaped.
pub(super) fn is_no_child(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::SRCH | Errno::CHILD))
}
