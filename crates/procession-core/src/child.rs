//! A started process as its parent holds it. Used in the parent only, from any of its threads: the handle of a face,
//! the list of active children and the supervisor share one [`Child`].

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use procession_sys::link::Link;
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::PidFd;
use procession_sys::{ExitStatus, Signal};

use crate::outcome::{self, Outcome};
use crate::start::Popen;
use crate::{Error, Result};

/// A child process: what it is, whether it lives, how it ended.
///
/// The link to it is its lifeline: the kernel kills the child when the parent's end closes, so the parent's end stays
/// open for as long as the child is to live, whether or not anybody holds a handle.
#[derive(Debug)]
pub struct Child {
    name: String,
    daemon: bool,
    pidfd: PidFd,
    generation: u64,
    /// The child is known to have reached its bootstrap; otherwise its hello on the link will say so.
    began: bool,
    link: Mutex<Option<Link>>,
    end: OnceLock<End>,
}

/// How a child ended.
#[derive(Debug)]
pub struct End {
    /// `None`: another wait in this program took it.
    pub status: Option<ExitStatus>,
    /// What its target left.
    pub outcome: Outcome,
}

impl Child {
    /// What a start method has made.
    pub fn new(name: String, daemon: bool, popen: Popen) -> Child {
        let Popen { pidfd, link, began } = popen;
        let (link, end) = (Mutex::new(Some(link)), OnceLock::new());
        Child { name, daemon, pidfd, generation: fork_generation(), began, link, end }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is terminated at this process's exit.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pidfd.pid()
    }

    /// Readable once it has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until it has ended and says how. The same answer however often it is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] past the deadline; [`Error::Inherited`] in another process than the one that started it.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<&End> {
        self.check_owner()?;
        if self.end.get().is_none() {
            let ended = self.pidfd.wait_ended(deadline).map_err(self.os("wait for"))?;
            if !ended {
                return Err(Error::Timeout { what: "the process ended" });
            }
        }
        self.end_of_ended()
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> Result<Option<&End>> {
        match self.wait(Some(Instant::now())) {
            Err(Error::Timeout { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sends a signal; `false` when it had already ended.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        self.check_owner()?;
        if self.end.get().is_some() {
            return Ok(false);
        }
        self.pidfd.signal(signal).map_err(self.os("signal"))
    }

    /// In a forked child: closes this process's copy of the link, so that the lifeline has one holder, the parent.
    /// A lock held by a thread that does not exist here is left alone.
    pub(crate) fn disown(&self) {
        if let Ok(mut link) = self.link.try_lock() {
            *link = None;
        }
    }

    fn end_of_ended(&self) -> Result<&End> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        let status = match self.pidfd.try_reap() {
            Ok(status) => status,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || is_no_child(&error) => None,
            Err(error) => return Err(self.os("read the exit status of")(error)),
        };
        let outcome = match link.as_ref() {
            Some(link) => outcome::read(link, self.began).map_err(self.os("read the outcome of"))?,
            None => Outcome::Died,
        };
        *link = None;
        Ok(self.end.get_or_init(|| End { status, outcome }))
    }

    fn check_owner(&self) -> Result<()> {
        if self.generation != fork_generation() {
            return Err(Error::Inherited { what: "Process" });
        }
        Ok(())
    }

    fn os(&self, verb: &str) -> impl FnOnce(std::io::Error) -> Error + use<> {
        Error::os(format!("cannot {verb} process {} ({})", self.pid(), self.name))
    }
}

impl End {
    /// The exit code as `multiprocessing` says it: negative is the signal that killed it.
    pub fn code(&self) -> Option<i32> {
        self.status.map(ExitStatus::code)
    }

    /// What the target left, or the error that says why there is nothing.
    pub fn returned(&self, pid: u32) -> Result<Option<(u32, &[u8])>> {
        match &self.outcome {
            Outcome::Returned { tag, payload } => Ok(Some((*tag, payload))),
            Outcome::Died => Ok(None),
            Outcome::NotReached => {
                let status = self.status.ok_or(Error::StatusLost { pid })?;
                // Killed by a signal on its way is a death like any other, not a missing line in `main`.
                if status.signal().is_some() { Ok(None) } else { Err(Error::NotReached { pid, status }) }
            }
            Outcome::OtherBuild(theirs) => {
                let ours = procession_sys::image::BuildId::current().clone();
                Err(Error::OtherBuild { pid, ours, theirs: theirs.clone() })
            }
        }
    }
}

fn is_no_child(error: &std::io::Error) -> bool {
    const ECHILD: i32 = 10;
    error.raw_os_error() == Some(ECHILD)
}
