//! The processes around this one: itself, its parent, its children. Used in any process, from any
//! thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use procession_core::engine::{Identity, engine};
use procession_core::{Error as Engine, current_pid, pidfd::PidFd};

use crate::process::ActiveChild;
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
///
/// ```
/// # fn main() -> procession::Result<()> {
/// assert!(procession::parent_process().is_none(), "nobody of procession's started this program");
/// # let ctx = procession::Context::fork();
/// let mut child = ctx.process(|()| procession::parent_process().map(|parent| parent.pid()), ()).start()?;
/// assert_eq!(child.join()?, Some(std::process::id()));
/// # Ok(()) }
/// ```
pub fn parent_process() -> Option<ParentProcess> {
    engine().identity().parent.as_ref().map(|pidfd| ParentProcess { pidfd })
}

/// The processes, workers of pools among them, that this one has started and that have not ended.
/// Those that have are reaped on the way.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// # let ctx = procession::Context::fork();
/// let mut child = ctx.process(|()| std::thread::sleep(std::time::Duration::MAX), ()).name("waits").start()?;
/// let active = procession::active_children();
/// assert_eq!(active.iter().map(|child| child.name()).collect::<Vec<_>>(), ["waits"]);
/// child.kill()?;
/// # assert!(child.join().is_err());
/// # Ok(()) }
/// ```
pub fn active_children() -> Vec<ActiveChild> {
    engine().active_children().into_iter().map(ActiveChild::listed).collect()
}

/// See [`current_process`].
#[derive(Clone, Copy, Debug)]
pub struct CurrentProcess {
    identity: &'static Identity,
}

impl CurrentProcess {
    /// The name it was given; `MainProcess` in a process that procession did not start.
    ///
    /// ```
    /// assert_eq!(procession::current_process().name(), "MainProcess");
    /// ```
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its process id.
    ///
    /// ```
    /// assert_eq!(procession::current_process().pid(), std::process::id());
    /// ```
    pub fn pid(&self) -> u32 {
        current_pid()
    }

    /// Returns whether this process is terminated at its parent's exit.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let is_daemon = |()| procession::current_process().is_daemon();
    /// assert!(ctx.process(is_daemon, ()).daemon(true).start()?.join()?);
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let parent = |()| procession::parent_process().unwrap().pid();
    /// assert_eq!(ctx.process(parent, ()).start()?.join()?, std::process::id());
    /// # Ok(()) }
    /// ```
    pub fn pid(&self) -> u32 {
        self.pidfd.pid()
    }

    /// Returns whether the parent has not ended yet. The result is seldom `false` for long: this
    /// process ends with its parent.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let is_alive = |()| procession::parent_process().unwrap().is_alive();
    /// assert!(ctx.process(is_alive, ()).start()?.join()?);
    /// # Ok(()) }
    /// ```
    pub fn is_alive(&self) -> bool {
        !self.pidfd.has_ended().unwrap_or(false)
    }

    /// Waits until it ends.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// let wait = |()| {
    ///     let parent = procession::parent_process().unwrap();
    ///     parent.join_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timeout())
    /// };
    /// assert!(ctx.process(wait, ()).start()?.join()?);
    /// # Ok(()) }
    /// ```
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
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// // For a poll loop: whatever else the child waits for, it learns of its parent's end.
    /// let lives = |()| {
    ///     let parent = procession::parent_process().unwrap();
    ///     procession::wait(&[&parent.sentinel()], Some(Duration::ZERO)).is_ok_and(|ready| ready.is_empty())
    /// };
    /// assert!(ctx.process(lives, ()).start()?.join()?);
    /// # Ok(()) }
    /// ```
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
