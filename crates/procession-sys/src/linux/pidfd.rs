//! A process as a file descriptor: readable once it has ended, and never some other process that
//! got its pid. Used by parents (wait, signal, reap), by children (is the parent alive?), in any
//! thread.

#![allow(unsafe_code)] // pidfd_send_signal of any number: rustix's `Signal` cannot hold real-time signals and 0.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

use super::descriptor::above_streams;
use super::ended;
use super::poller::poll_until;
use crate::{ExitStatus, Signal};

/// A process, by an fd of its own. Dropping it leaves the process alone.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: u32,
}

impl PidFd {
    /// This process.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn of_self() -> io::Result<PidFd> {
        PidFd::open(current_pid())
    }

    /// The process that has this pid now. Right only while something keeps the pid from being
    /// reused: it is the caller's own, or its unreaped child's.
    ///
    /// # Errors
    ///
    /// If there is no such process (`ESRCH`), or no fd is left.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| invalid_pid(pid))?;
        Ok(PidFd { fd: above_streams(pidfd_open(raw, PidfdFlags::empty())?)?, pid })
    }

    /// A pidfd that came from elsewhere, such as a message, and the pid it stands for.
    pub fn from_parts(fd: OwnedFd, pid: u32) -> PidFd {
        PidFd { fd, pid }
    }

    /// Another fd for the same process.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn try_clone(&self) -> io::Result<PidFd> {
        Ok(PidFd { fd: self.fd.try_clone()?, pid: self.pid })
    }

    /// The pid, for people to read. It may be another process's once this one is reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. `false`: the process had already ended, and got nothing.
    ///
    /// # Errors
    ///
    /// If this process may not signal that one, or there is no such signal.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        // The kernel accepts signals for a zombie and loses them.
        if self.has_ended()? {
            return Ok(false);
        }
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the fd is open, as it is owned; the kernel checks the number; a null siginfo is
        // allowed and means that the kernel fills it as for kill(2); no memory of ours is written.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal.as_raw(), no_info, 0) };
        if sent == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
    }

    /// Waits until the process has ended, without reaping it: it need not be a child. `false`: the
    /// deadline passed first.
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn wait_ended(&self, deadline: Option<Instant>) -> io::Result<bool> {
        Ok(poll_until(&mut [PollFd::new(&self.fd, PollFlags::IN)], deadline, || false)? > 0)
    }

    /// Whether the process has ended, reaped or not.
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait_ended(Some(Instant::now()))
    }

    /// Whether the fd is a pidfd still, and not closed or another file by other code's doing.
    pub fn is_open(&self) -> bool {
        match self.peek() {
            Ok(_) => true,
            Err(error) => !matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL)),
        }
    }

    /// Whether the fd is a pidfd of this process still. As [`is_open`](PidFd::is_open), and no
    /// child's.
    pub fn is_own(&self) -> bool {
        self.peek().is_err_and(|error| error.raw_os_error() == Some(libc::ECHILD))
    }

    /// Whether the process is stopped, by a signal or a debugger. `false` where `/proc` does not
    /// say.
    pub fn is_stopped(&self) -> bool {
        ended::is_stopped(self.fd.as_fd())
    }

    /// Reaps the child if it has ended.
    ///
    /// # Errors
    ///
    /// `ECHILD` if it is not this process's child, or somebody else has reaped it.
    pub fn try_reap(&self) -> io::Result<Option<ExitStatus>> {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// How the child ended, if it has. It stays for others to reap.
    ///
    /// # Errors
    ///
    /// As [`try_reap`](Self::try_reap).
    pub fn peek(&self) -> io::Result<Option<ExitStatus>> {
        self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    /// Waits for the child to end, and reaps it.
    ///
    /// # Errors
    ///
    /// As [`try_reap`](Self::try_reap).
    pub fn reap(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait(WaitIdOptions::EXITED)? {
                return Ok(status);
            }
        }
    }

    /// How the process ended, whoever reaps it: it need not be a child. `None`: it has not ended,
    /// or nobody can know. The latter is so if it has been reaped and Linux is older than 6.15, or
    /// if there is no `/proc`.
    ///
    /// # Errors
    ///
    /// If a security module refuses the kernel's memory of it.
    pub fn ended_status(&self) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = ended::status_of_zombie(self.fd.as_fd()) {
            return Ok(Some(status));
        }
        // It may have been reaped just now.
        ended::status_of_reaped(self.fd.as_fd())
    }

    /// The pidfd of a child just made by a call that tells only its pid.
    ///
    /// A child keeps its pid until it is reaped, so the pid is still its own, unless somebody here
    /// reaps children that are not theirs (`wait(-1)` in another thread, or SIGCHLD ignored,
    /// whereupon the kernel does). So the fd is asked whether it is a child of ours. If it is not,
    /// the child is lost and its pid may be anyone's: nothing is killed.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is lost; others after the child has been killed.
    pub fn of_new_child(pid: i32) -> io::Result<PidFd> {
        let opened = PidFd::open(pid.unsigned_abs()).and_then(|child| {
            child.peek()?;
            Ok(child)
        });
        match opened {
            // EINVAL: what Linux 5.10 says of a process that has just been reaped.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ECHILD | libc::EINVAL)) => {
                Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "child {pid} was reaped before its pidfd could be opened ({error}); do not ignore SIGCHLD and do not wait \
                     for children of others"
                    ),
                ))
            }
            Err(error) => {
                // SAFETY: plain calls on a pid that is still the unreaped child's, or the error
                // above would have told; waitpid may write no status through a null pointer.
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                    while libc::waitpid(pid, std::ptr::null_mut(), 0) == -1
                        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                    {}
                }
                Err(io::Error::new(
                    error.kind(),
                    format!("cannot open a pidfd of child {pid}, which was killed: {error}"),
                ))
            }
            opened => opened,
        }
    }

    fn wait(&self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        let status = retry_on_intr(|| waitid(WaitId::PidFd(self.fd.as_fd()), options))?;
        Ok(status.as_ref().and_then(exit_status))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The caller's pid.
pub fn current_pid() -> u32 {
    std::process::id()
}

fn exit_status(status: &WaitIdStatus) -> Option<ExitStatus> {
    let exited = status.exit_status().map(ExitStatus::exited);
    exited.or_else(|| status.terminating_signal().map(ExitStatus::signaled))
}

fn invalid_pid(pid: u32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is not a pid"))
}
