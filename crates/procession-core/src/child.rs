//! A started process as its parent holds it. Used in the parent only, from any of its threads: the handle of a face,
//! the list of active children and the supervisor share one [`Child`].

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use procession_shm::interrupt;
use procession_sys::link::{Link, Received};
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::PidFd;
use procession_sys::poller;
use procession_sys::{ExitStatus, Signal};

use crate::outcome::{self, Heard, Outcome};
use crate::start::Popen;
use crate::start::forkserver::{Look, MAX_LOOKS_REPORT, Watch};
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
    reaper: Reaper,
    end: OnceLock<End>,
}

/// The process that reaps a child, and so learns first how it ended.
#[derive(Clone, Debug)]
pub enum Reaper {
    /// This process, whose child it is.
    Parent,
    /// The fork server that forked it, which then sends the exit status over the child's link.
    Server(Arc<Child>),
    /// Other code, which has made it and wants its status.
    Others,
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
    /// A child that a start method, or a face by its own means, has made.
    pub fn new(name: String, daemon: bool, popen: Popen) -> Child {
        let Popen { pidfd, link, began, reaper } = popen;
        let (link, end) = (Mutex::new(Some(link)), OnceLock::new());
        Child { name, daemon, pidfd, generation: fork_generation(), began, link, reaper, end }
    }

    /// A child that other code has made and reaps. It is not tied to this process's life, and leaves nothing but its status.
    pub(crate) fn of_others(name: String, daemon: bool, pidfd: PidFd) -> Child {
        let (link, end) = (Mutex::new(None), OnceLock::new());
        Child { name, daemon, pidfd, generation: fork_generation(), began: true, link, reaper: Reaper::Others, end }
    }

    /// A child that was reaped by others before its pidfd could be opened: it has ended, and nobody knows how. Its sentinel
    /// is the link, whose other end went with it.
    ///
    /// # Errors
    ///
    /// If no fd is left, or what the child sent is malformed.
    pub fn lost(name: String, daemon: bool, pid: u32, link: Link) -> io::Result<Child> {
        let outcome = outcome::read(&link, true)?;
        let end = OnceLock::from(End { status: None, outcome });
        let pidfd = PidFd::from_parts(OwnedFd::from(link), pid);
        let generation = fork_generation();
        let (link, reaper) = (Mutex::new(None), Reaper::Parent);
        Ok(Child { name, daemon, pidfd, generation, began: true, link, reaper, end })
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
    /// [`Error::Timeout`] past the deadline, and when a signal ended the wait ([`interrupt`]); [`Error::Inherited`] in another
    /// process than the one that started it.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<&End> {
        self.check_owner()?;
        // A number that the program has closed may be another file's, which tells nothing of a process.
        if self.end.get().is_none() && self.pidfd.is_open() {
            let ended = poller::wait_readable_unless(&[self.pidfd.as_fd()], deadline, interrupt::ask);
            if !ended.map_err(self.os("wait for"))?[0] {
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

    /// How it ended, if anybody has asked since.
    pub fn end(&self) -> Option<&End> {
        self.end.get()
    }

    /// Sends a signal; `false` when it had already ended.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        self.check_owner()?;
        if self.end.get().is_some() {
            return Ok(false);
        }
        match self.pidfd.signal(signal) {
            // A security module may refuse it. The end of its lifeline is a SIGKILL of the kernel's own.
            Err(_) if signal == Signal::KILL && self.cut_lifeline() => Ok(true),
            sent => sent.map_err(self.os("signal")),
        }
    }

    /// Looks whether the fd that stands for it is still its own.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the program has closed it.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.end.get().is_some() || self.pidfd.is_open() {
            return Ok(());
        }
        Err(Error::closed_descriptor(&format!("by which process {} ({}) is watched", self.pid(), self.name)))
    }

    /// Whether it is stopped, by a signal or a debugger. `false` where `/proc` does not say.
    pub fn is_stopped(&self) -> bool {
        self.pidfd.is_stopped()
    }

    /// Closes this process's end of the link; `false` if there is none.
    fn cut_lifeline(&self) -> bool {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    /// In a forked child: closes this process's copy of the link, so that the lifeline has one holder, the parent.
    /// A lock held by a thread that does not exist here is left alone.
    pub fn disown(&self) {
        if let Ok(mut link) = self.link.try_lock() {
            *link = None;
        }
    }

    fn end_of_ended(&self) -> Result<&End> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        if !self.pidfd.is_open() {
            // The program has closed the engine's fds, and with the link this child's life. Nobody can know how it ended; the
            // link's number may be another file's by now.
            mem::forget(link.take());
            return Ok(self.end.get_or_init(|| End { status: None, outcome: Outcome::Died }));
        }
        let (status, outcome) = match (&self.reaper, link.as_ref()) {
            (Reaper::Server(server), Some(link)) => {
                let reported = self.reported_end(server, link).map_err(self.os("read the outcome of"))?;
                reported.ok_or(Error::Timeout { what: "the process's end was reported" })?
            }
            (reaper, link) => {
                let status = match reaper {
                    Reaper::Others => self.pidfd.peek(),
                    Reaper::Parent | Reaper::Server(_) => self.pidfd.try_reap(),
                };
                let status = match status {
                    Ok(status) => status,
                    // Others were quicker; the kernel may remember.
                    Err(error) if is_no_child(&error) => self.pidfd.ended_status().unwrap_or(None),
                    Err(error) => return Err(self.os("read the exit status of")(error)),
                };
                let outcome = link.map_or(Ok(Outcome::Died), |link| outcome::read(link, self.began));
                (status, outcome.map_err(self.os("read the outcome of"))?)
            }
        };
        *link = None;
        Ok(self.end.get_or_init(|| End { status, outcome }))
    }

    /// How a child ended that its fork server reaps: by what the server sends, or, if the server has ended or is killed for
    /// its silence, by what the kernel tells. `None`: a signal ended the wait ([`interrupt`]).
    fn reported_end(&self, server: &Child, link: &Link) -> io::Result<Option<(Option<ExitStatus>, Outcome)>> {
        let mut heard = Heard::new(self.began);
        let mut watch = Watch::new(server, MAX_LOOKS_REPORT);
        let (mut is_late, mut known) = (false, None);
        loop {
            // Before the link is read: what a server sent before its end is there by then.
            let has_ended = is_late || server.pidfd.has_ended()?;
            match link.recv_now()? {
                Received::Message(message) => heard.take_message(&message)?,
                Received::Nothing if !has_ended => match watch.look(link.as_fd())? {
                    Look::Killed => is_late = true,
                    Look::Interrupted => return Ok(None),
                    // The server is slow, or stopped, and will be killed for it. Its child is a zombie
                    // until then; an older kernel forgets the status soon after.
                    Look::Nothing if known.is_none() => known = self.pidfd.ended_status()?,
                    Look::Readable | Look::Ended | Look::Nothing => {}
                },
                Received::Nothing | Received::Closed => break,
            }
            if heard.exited.is_some() {
                break;
            }
        }
        let status = match heard.exited.flatten().or(known) {
            Some(status) => Some(status),
            None => self.pidfd.ended_status()?,
        };
        let status = if heard.exited.is_some() { status } else { self.reap_orphan()?.or(status) };
        Ok(Some((status, heard.into_outcome())))
    }

    /// Reaps the child of a dead fork server if it is this process's now, as it is in process 1 of a container and in a
    /// subreaper.
    fn reap_orphan(&self) -> io::Result<Option<ExitStatus>> {
        match self.pidfd.try_reap() {
            Err(error) if is_no_child(&error) => Ok(None),
            reaped => reaped,
        }
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
            Outcome::Misplaced(why) => Err(Error::Invalid(format!("process {pid} cannot begin: {why}"))),
            Outcome::OtherBuild(theirs) => {
                let ours = procession_sys::image::BuildId::current().clone();
                Err(Error::OtherBuild { pid, ours, theirs: theirs.clone() })
            }
        }
    }
}

fn is_no_child(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    const ECHILD: i32 = 10;
    matches!(error.raw_os_error(), Some(ESRCH | ECHILD))
}
