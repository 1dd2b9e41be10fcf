//! The processes around this one: itself, its parent, its children. Used in any process, from any
//! thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::child::Child;
use procession_core::engine::{Identity, engine};
use procession_core::{Error as Engine, Signal, current_pid, pidfd::PidFd};

use crate::{Error, Result};

/// This process.
///
/// ```
/// let me = procession::current_process();
/// assert_eq!(me.name(), "MainProcess");
/// assert_eq!(me.pid(), std::process::id());
/// ```
pub fn current_process() -> CurrentProcess {
    CurrentProcess { identity: engine().identity() }
}

/// The process that started this one; `None` in a process that procession did not start.
pub fn parent_process() -> Option<ParentProcess> {
    engine().identity().parent.as_ref().map(|pidfd| ParentProcess { pidfd })
}

/// The processes, workers of pools among them, that this one has started and that have not ended.
/// Those that have are reaped on the way.
pub fn active_children() -> Vec<ActiveChild> {
    engine().active_children().into_iter().map(|child| ActiveChild { child }).collect()
}

/// See [`current_process`].
#[derive(Clone, Copy, Debug)]
pub struct CurrentProcess {
    identity: &'static Identity,
}

impl CurrentProcess {
    /// The name it was given; `MainProcess` in a process that procession did not start.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        current_pid()
    }

    /// Whether it is terminated at its parent's exit.
    pub fn is_daemon(&self) -> bool {
        self.identity.daemon
    }
}

/// See [`parent_process`].
#[derive(Clone, Copy, Debug)]
pub struct ParentProcess {
    pidfd: &'static PidFd,
}

impl ParentProcess {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pidfd.pid()
    }

    /// Whether it has not ended yet. It seldom is false for long: this process ends with its
    /// parent.
    pub fn is_alive(&self) -> bool {
        !self.pidfd.has_ended().unwrap_or(false)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`] when it is still alive after `timeout`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<()> {
        match self.pidfd.wait_ended(Instant::now().checked_add(timeout)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::timeout("the parent ended")),
            Err(source) => {
                Err(Engine::Os { what: format!("cannot wait for the parent, process {}", self.pid()), source }.into())
            }
        }
    }

    /// A file descriptor that becomes readable when it ends.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A child as [`active_children`] lists it. It has no result to give; its
/// [`Process`](crate::Process) has.
#[derive(Clone, Debug)]
pub struct ActiveChild {
    child: Arc<Child>,
}

impl ActiveChild {
    /// The name it was given.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it is terminated at this process's exit.
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// If the system refuses, or in another process than the one that started it.
    pub fn join(&self) -> Result<()> {
        self.child.wait(None)?;
        Ok(())
    }

    /// Sends it SIGTERM.
    ///
    /// # Errors
    ///
    /// As [`join`](ActiveChild::join).
    pub fn terminate(&self) -> Result<()> {
        self.child.signal(Signal::TERM)?;
        Ok(())
    }

    /// Sends it SIGKILL.
    ///
    /// # Errors
    ///
    /// As [`join`](ActiveChild::join).
    pub fn kill(&self) -> Result<()> {
        self.child.signal(Signal::KILL)?;
        Ok(())
    }

    /// How it ended, as [`Process::exit_code`](crate::Process::exit_code); `None` while it lives.
    pub fn exit_code(&self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// A file descriptor that becomes readable when it ends.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.sentinel()
    }
}
