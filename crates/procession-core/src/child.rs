//! A started process as its parent holds it. Used in the parent only, from any of its threads: the
//! handle of a face, the list of active children and the supervisor share one [`Child`].
//!
//! | state | made by | its status comes from |
//! |---|---|---|
//! | own | this process | this process, which reaps it |
//! | served | a fork server | the server, which reaps it and reports over the link; else the kernel |
//! | foreign | other code | the kernel, as long as that code has not reaped it |
//! | lost | this process | nowhere: other code reaped it before its pidfd was open |
//!
//! Except for a lost child, which has ended, each is running until somebody asks for its end and
//! finds one. That end is kept.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use procession_shm::interrupt;
use procession_sys::link::{Link, Received};
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::PidFd;
use procession_sys::poller;
use procession_sys::{ExitStatus, Signal};
use rustix::io::Errno;

use crate::outcome::{self, Heard, Outcome};
use crate::server_watch::{Look, Watch};
use crate::{Error, Result};

/// How often a fork server is looked at that is to report the end of a child that has ended.
const MAX_LOOKS_REPORT: u32 = 50;

/// A child process: what it is, whether it lives, how it ended.
///
/// The link to it is its lifeline: the kernel kills the child when the parent's end closes, so the
/// parent's end stays open for as long as the child is to live, whether or not anybody holds a
/// handle.
#[derive(Debug)]
pub struct Child {
    name: String,
    daemon: bool,
    generation: u64,
    state: State,
}

/// See the module.
#[derive(Debug)]
enum State {
    Own(Tied),
    Served {
        child: Tied,
        server: Arc<Child>,
    },
    /// Leaves nothing but its status.
    Foreign {
        pidfd: PidFd,
        end: OnceLock<End>,
    },
    Lost {
        pid: u32,
        /// The sentinel: the other end of the link went with the child.
        link: Link,
        end: End,
    },
}

/// A child whose life hangs on a link to this process.
#[derive(Debug)]
struct Tied {
    pidfd: PidFd,
    /// `None` once this process has let go of it.
    link: Mutex<Option<Link>>,
    /// The child is known to have reached its bootstrap; otherwise its hello on the link will say so.
    began: bool,
    end: OnceLock<End>,
}

/// A child as a start method gives it to its parent.
#[derive(Debug)]
pub struct Popen {
    /// The child.
    pub pidfd: PidFd,
    /// The parent's end.
    pub link: Link,
    /// The child is known to have reached its bootstrap.
    pub began: bool,
    /// Who learns how it ended.
    pub reaper: Reaper,
}

/// The process that reaps a child, and so learns first how it ended.
#[derive(Clone, Debug)]
pub enum Reaper {
    /// This process, whose child it is.
    Parent,
    /// The fork server that forked it, which then sends the exit status over the child's link.
    Server(Arc<Child>),
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
        let child = Tied { pidfd, link: Mutex::new(Some(link)), began, end: OnceLock::new() };
        let state = match reaper {
            Reaper::Parent => State::Own(child),
            Reaper::Server(server) => State::Served { child, server },
        };
        Child { name, daemon, generation: fork_generation(), state }
    }

    /// A child that other code has made and reaps. It is not tied to this process's life.
    pub(crate) fn of_others(name: String, daemon: bool, pidfd: PidFd) -> Child {
        let state = State::Foreign { pidfd, end: OnceLock::new() };
        Child { name, daemon, generation: fork_generation(), state }
    }

    /// A child that was reaped by others before its pidfd could be opened.
    ///
    /// # Errors
    ///
    /// If what the child sent is malformed.
    pub fn lost(name: String, daemon: bool, pid: u32, link: Link) -> io::Result<Child> {
        let outcome = outcome::read(&link, true)?;
        let state = State::Lost { pid, link, end: End { status: None, outcome } };
        Ok(Child { name, daemon, generation: fork_generation(), state })
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
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.pidfd.pid(),
            State::Foreign { pidfd, .. } => pidfd.pid(),
            State::Lost { pid, .. } => *pid,
        }
    }

    /// Readable once it has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.pidfd.as_fd(),
            State::Foreign { pidfd, .. } => pidfd.as_fd(),
            State::Lost { link, .. } => link.as_fd(),
        }
    }

    /// Its pidfd; `None` if it is lost, and so has ended.
    pub(crate) fn pidfd(&self) -> Option<&PidFd> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => Some(&child.pidfd),
            State::Foreign { pidfd, .. } => Some(pidfd),
            State::Lost { .. } => None,
        }
    }

    /// How it ended, if anybody has asked since.
    pub fn end(&self) -> Option<&End> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.end.get(),
            State::Foreign { end, .. } => end.get(),
            State::Lost { end, .. } => Some(end),
        }
    }

    /// Waits until it has ended and says how. The same answer however often it is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] past the deadline, and when a signal ended the wait ([`interrupt`]);
    /// [`Error::Inherited`] in another process than the one that started it.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<&End> {
        self.check_owner()?;
        if let Some(pidfd) = self.running() {
            let ended = poller::wait_readable_unless(&[pidfd.as_fd()], deadline, interrupt::ask);
            if !ended.map_err(self.os("wait for"))?[0] {
                return Err(Error::Timeout { what: "the process ended" });
            }
        }
        match &self.state {
            State::Own(child) => child.end_by(|link| self.reap(child, link)),
            State::Served { child, server } => child.end_by(|link| match link {
                Some(link) => self.reported(child, server, link),
                None => self.reap(child, None),
            }),
            State::Foreign { pidfd, end } => self.peek(pidfd, end),
            State::Lost { end, .. } => Ok(end),
        }
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
        let (None, Some(pidfd)) = (self.end(), self.pidfd()) else { return Ok(false) };
        match pidfd.signal(signal) {
            // A security module may refuse it. The end of its lifeline is a SIGKILL of the kernel's own.
            Err(_) if signal == Signal::KILL && self.cut_lifeline() => Ok(true),
            sent => sent.map_err(self.os("signal")),
        }
    }

    /// Looks whether the fd that stands for it is still its own.
    ///
    /// # Errors
    ///
    /// [`Error::DescriptorClosed`] if the program has closed it.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.end().is_some() || self.running().is_some() {
            return Ok(());
        }
        let which = format!("by which process {} ({}) is watched", self.pid(), self.name);
        Err(Error::DescriptorClosed { which })
    }

    /// Whether it is stopped, by a signal or a debugger. `false` where `/proc` does not say.
    pub fn is_stopped(&self) -> bool {
        self.pidfd().is_some_and(PidFd::is_stopped)
    }

    /// Closes this process's copy of the link, if no other thread uses it: in a forked child, so that
    /// the lifeline has one holder, the parent. A thread that does not exist there may hold the lock.
    pub fn disown(&self) {
        if let Some(child) = self.tied()
            && let Ok(mut link) = child.link.try_lock()
        {
            *link = None;
        }
    }

    /// Closes this process's end of the link; `false` if there is none.
    fn cut_lifeline(&self) -> bool {
        self.tied().is_some_and(|child| child.link.lock().unwrap_or_else(PoisonError::into_inner).take().is_some())
    }

    fn tied(&self) -> Option<&Tied> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => Some(child),
            State::Foreign { .. } | State::Lost { .. } => None,
        }
    }

    /// The pidfd of one whose end nobody knows yet. `None` as well if the program has closed it: its
    /// number may be another file's by now, which tells nothing of a process.
    fn running(&self) -> Option<&PidFd> {
        self.pidfd().filter(|pidfd| self.end().is_none() && pidfd.is_open())
    }

    /// The end of an own child, which has ended.
    fn reap(&self, child: &Tied, link: Option<&Link>) -> Result<End> {
        let status = self.status(&child.pidfd, child.pidfd.try_reap())?;
        let outcome = link.map_or(Ok(Outcome::Died), |link| outcome::read(link, child.began));
        Ok(End { status, outcome: outcome.map_err(self.os("read the outcome of"))? })
    }

    /// The end of a foreign child, which has ended.
    fn peek<'a>(&self, pidfd: &PidFd, end: &'a OnceLock<End>) -> Result<&'a End> {
        if let Some(end) = end.get() {
            return Ok(end);
        }
        // Where the program has closed the pidfd, nobody can know.
        let status = if pidfd.is_open() { self.status(pidfd, pidfd.peek())? } else { None };
        Ok(end.get_or_init(|| End { status, outcome: Outcome::Died }))
    }

    fn status(&self, pidfd: &PidFd, known: io::Result<Option<ExitStatus>>) -> Result<Option<ExitStatus>> {
        match known {
            // Others were quicker; the kernel may remember.
            Err(error) if is_no_child(&error) => Ok(pidfd.ended_status().unwrap_or(None)),
            known => known.map_err(self.os("read the exit status of")),
        }
    }

    /// The end of a served child, which has ended.
    fn reported(&self, child: &Tied, server: &Child, link: &Link) -> Result<End> {
        let reported = child.reported_end(server, link).map_err(self.os("read the outcome of"))?;
        reported.ok_or(Error::Timeout { what: "the process's end was reported" })
    }

    fn check_owner(&self) -> Result<()> {
        if self.generation != fork_generation() {
            return Err(Error::Inherited { what: "Process" });
        }
        Ok(())
    }

    fn os(&self, verb: &str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::os(format!("cannot {verb} process {} ({})", self.pid(), self.name))
    }
}

impl Tied {
    /// How it ended: `read` by the first thread that asks, kept for the others.
    fn end_by(&self, read: impl FnOnce(Option<&Link>) -> Result<End>) -> Result<&End> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        if !self.pidfd.is_open() {
            // The program has closed the engine's fds, and with the link this child's life. Nobody can
            // know how it ended; the link's number may be another file's by now.
            mem::forget(link.take());
            return Ok(self.end.get_or_init(|| End { status: None, outcome: Outcome::Died }));
        }
        let end = read(link.as_ref())?;
        *link = None;
        Ok(self.end.get_or_init(|| end))
    }

    /// How it ended: by what its fork server sends, or, if the server has ended or is killed for its
    /// silence, by what the kernel tells. `None`: a signal ended the wait ([`interrupt`]).
    fn reported_end(&self, server: &Child, link: &Link) -> io::Result<Option<End>> {
        let mut heard = Heard::new(self.began);
        // None once the server has ended, or has been killed.
        let mut watch = server.pidfd().map(|server| Watch::new(server, MAX_LOOKS_REPORT));
        let mut known = None;
        while heard.exited.is_none() {
            // Before the link is read: what a server sent before its end is there by then.
            if let Some(looked_at) = &watch
                && looked_at.has_ended()?
            {
                watch = None;
            }
            match link.recv_now()? {
                Received::Message(message) => {
                    heard.take_message(&message)?;
                    continue;
                }
                Received::Nothing => {}
                Received::Closed => break,
            }
            let Some(looking) = &mut watch else { break };
            match looking.look(link.as_fd())? {
                Look::Overdue => {
                    server.signal(Signal::KILL).map_err(io::Error::other)?;
                    watch = None;
                }
                Look::Interrupted => return Ok(None),
                // The server is slow, or stopped, and will be killed for it. Its child is a zombie until
                // then; an older kernel forgets the status soon after.
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

    /// Reaps the child of a dead fork server if it is this process's now, as it is in process 1 of a
    /// container and in a subreaper.
    fn reap_orphan(&self) -> io::Result<Option<ExitStatus>> {
        match self.pidfd.try_reap() {
            Err(error) if is_no_child(&error) => Ok(None),
            reaped => reaped,
        }
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
            Outcome::Misplaced(why) => Err(Error::Misplaced { pid, why: why.clone() }),
            Outcome::OtherBuild(theirs) => {
                let ours = procession_sys::image::BuildId::current().clone();
                Err(Error::OtherBuild { pid, ours, theirs: theirs.clone() })
            }
        }
    }
}

fn is_no_child(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::SRCH | Errno::CHILD))
}
