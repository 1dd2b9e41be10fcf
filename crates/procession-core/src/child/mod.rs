//! A started process as its parent holds it. Used in the parent only, from any of its threads: the
//! handle of a face, the list of active children and the supervisor share one [`Child`].
//!
//! | state | made by | its status comes from |
//! |---|---|---|
//! | own | this process | this process, which reaps it |
//! | served | a fork server | the server, which reaps it and reports over the link; else the kernel |
//! | foreign | other code | the kernel, as long as that code has not reaped it |
//! | lost | this process | nowhere: other code reaped it before its pidfd was open |
//! | elsewhere | another machine | the thread of this process that stands for it |
//!
//! Except for a lost child, which has ended, each is running until somebody asks for its end and
//! finds one. That end is kept.

mod elsewhere;
mod end;
pub(crate) mod server_watch;
#[cfg(test)]
mod tests;
mod tied;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use procession_shm::interrupt;
use procession_sys::link::Link;
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::PidFd;
use procession_sys::poller;
use procession_sys::{ExitStatus, Signal};

pub use self::elsewhere::Elsewhere;
pub use self::end::End;
use self::tied::{Tied, is_no_child};
use crate::outcome::{self, Outcome};
use crate::{Error, Result};

/// A child process: what it is, whether it lives, how it ended.
///
/// The link to it is its lifeline: the kernel kills the child when the parent's end closes, so the
/// parent's end stays open for as long as the child is to live, whether or not anybody holds a
/// handle.
#[derive(Debug)]
pub struct Child {
    name: String,
    daemon: bool,
    /// It leads a process group, which ends with it.
    leads_group: bool,
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
    /// On another machine.
    Elsewhere(Arc<Elsewhere>),
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
    /// The process that reaps the child, and so learns how it ended.
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

impl Child {
    /// A child that a start method, or a face by its own means, has made.
    pub fn new(name: String, daemon: bool, popen: Popen) -> Child {
        let Popen { pidfd, link, began, reaper } = popen;
        let child = Tied::new(pidfd, link, began);
        let state = match reaper {
            Reaper::Parent => State::Own(child),
            Reaper::Server(server) => State::Served { child, server },
        };
        Child { name, daemon, leads_group: false, generation: fork_generation(), state }
    }

    /// This child, which leads a process group: whatever is left of the group is killed before the
    /// child is reaped.
    pub fn leading_group(self, leads_group: bool) -> Child {
        Child { leads_group, ..self }
    }

    /// A child that other code has made and reaps. It is not tied to this process's life.
    pub(crate) fn of_others(name: String, daemon: bool, pidfd: PidFd) -> Child {
        let state = State::Foreign { pidfd, end: OnceLock::new() };
        Child { name, daemon, leads_group: false, generation: fork_generation(), state }
    }

    /// A child that was reaped by others before its pidfd could be opened.
    ///
    /// # Errors
    ///
    /// If what the child sent is malformed.
    pub fn lost(name: String, daemon: bool, pid: u32, link: Link) -> io::Result<Child> {
        let outcome = outcome::read(&link, true)?;
        let state = State::Lost { pid, link, end: End { status: None, outcome } };
        Ok(Child { name, daemon, leads_group: false, generation: fork_generation(), state })
    }

    /// A child on another machine. It is not tied to this process's life by the kernel.
    pub(crate) fn elsewhere(name: String, daemon: bool, child: Arc<Elsewhere>) -> Child {
        let state = State::Elsewhere(child);
        Child { name, daemon, leads_group: false, generation: fork_generation(), state }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the child is terminated at this process's exit.
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.pidfd.pid(),
            State::Foreign { pidfd, .. } => pidfd.pid(),
            State::Lost { pid, .. } => *pid,
            State::Elsewhere(child) => child.pid(),
        }
    }

    /// Readable once it has ended.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.pidfd.as_fd(),
            State::Foreign { pidfd, .. } => pidfd.as_fd(),
            State::Lost { link, .. } => link.as_fd(),
            State::Elsewhere(child) => child.sentinel(),
        }
    }

    /// The machine that it is on, if it is another one.
    pub fn host(&self) -> Option<Arc<str>> {
        match &self.state {
            State::Elsewhere(child) => Some(child.host()),
            _ => None,
        }
    }

    /// Its pidfd; `None` if it is lost, and so has ended, or on another machine.
    pub(crate) fn pidfd(&self) -> Option<&PidFd> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => Some(&child.pidfd),
            State::Foreign { pidfd, .. } => Some(pidfd),
            State::Lost { .. } | State::Elsewhere(_) => None,
        }
    }

    /// Returns how the child ended, if anybody has asked since.
    pub fn end(&self) -> Option<&End> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => child.end(),
            State::Foreign { end, .. } => end.get(),
            State::Lost { end, .. } => Some(end),
            State::Elsewhere(child) => child.end(),
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
        let awaited = match &self.state {
            State::Elsewhere(child) => child.end().is_none().then(|| child.sentinel()),
            _ => self.running().map(AsFd::as_fd),
        };
        if let Some(sentinel) = awaited {
            let ended = poller::wait_readable_unless(&[sentinel], deadline, interrupt::ask);
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
            State::Elsewhere(child) => child.end().ok_or(Error::Bug("a child elsewhere has ended, and not said how")),
        }
    }

    /// Returns how the child ended, if it has.
    pub fn try_wait(&self) -> Result<Option<&End>> {
        self.check_owner()?;
        if let State::Own(child) = &self.state
            && child.end().is_none()
            && matches!(child.pidfd.peek(), Ok(None))
        {
            // One system call tells of a child of this very process that it runs.
            return Ok(None);
        }
        match self.wait(Some(Instant::now())) {
            Err(Error::Timeout { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sends a signal; `false` when it had already ended.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        self.check_owner()?;
        if let State::Elsewhere(child) = &self.state {
            return Ok(child.send(signal));
        }
        let (None, Some(pidfd)) = (self.end(), self.pidfd()) else { return Ok(false) };
        match pidfd.signal(signal) {
            // A security module may refuse it. The end of its lifeline is a SIGKILL of the kernel's
            // own.
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
        let is_elsewhere = matches!(self.state, State::Elsewhere(_));
        // Another thread may learn of its end meanwhile; the pidfd of an ended child is one still.
        if is_elsewhere || self.end().is_some() || self.pidfd().is_some_and(PidFd::is_open) {
            return Ok(());
        }
        let which = format!("by which process {} ({}) is watched", self.pid(), self.name);
        Err(Error::DescriptorClosed { which })
    }

    /// Returns whether the child is stopped, by a signal or a debugger. Returns `false` if `/proc`
    /// does not say.
    pub fn is_stopped(&self) -> bool {
        self.pidfd().is_some_and(PidFd::is_stopped)
    }

    /// Closes this process's copy of the link, if no other thread uses it: in a forked child, so
    /// that the lifeline has one holder, the parent. A thread that does not exist there may hold
    /// the lock.
    pub fn disown(&self) {
        if let Some(child) = self.tied() {
            child.disown();
        }
    }

    /// Closes this process's end of the link; `false` if there is none.
    fn cut_lifeline(&self) -> bool {
        self.tied().is_some_and(Tied::cut_lifeline)
    }

    fn tied(&self) -> Option<&Tied> {
        match &self.state {
            State::Own(child) | State::Served { child, .. } => Some(child),
            State::Foreign { .. } | State::Lost { .. } | State::Elsewhere(_) => None,
        }
    }

    /// The pidfd of one whose end nobody knows yet. `None` as well if the program has closed it:
    /// its number may be another file's by now, which tells nothing of a process.
    fn running(&self) -> Option<&PidFd> {
        self.pidfd().filter(|pidfd| self.end().is_none() && pidfd.is_open())
    }

    /// The end of an own child, which has ended.
    fn reap(&self, child: &Tied, link: Option<&Link>) -> Result<End> {
        if self.leads_group {
            // Refused only by processes that have taken another identity.
            let _ = child.pidfd.kill_group();
        }
        let status = self.status(&child.pidfd, child.pidfd.try_reap())?;
        Ok(End { status, outcome: child.outcome(link).map_err(self.os("read the outcome of"))? })
    }

    /// The end of a foreign child, which has ended.
    fn peek<'a>(&self, pidfd: &PidFd, end: &'a OnceLock<End>) -> Result<&'a End> {
        if let Some(end) = end.get() {
            return Ok(end);
        }
        // If the program has closed the pidfd, nobody can know.
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
        if self.leads_group {
            // Its server has done so before it reaped the child, unless the server was killed.
            let _ = child.pidfd.kill_group_by_fd();
        }
        let kill = || server.signal(Signal::KILL).map(drop).map_err(io::Error::other);
        let reported = child.reported_end(link, server.pidfd(), kill).map_err(self.os("read the outcome of"))?;
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
