//! A process as a file descriptor. It is readable once the process has ended, and never stands for
//! another process that got its pid. Used by parents (wait, signal, reap) and by children (is the
//! parent alive?), in any thread.

// pidfd_send_signal of any number: rustix's `Signal` cannot hold real-time signals and 0.
#![allow(unsafe_code)]

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
    /// Opens a pidfd of this process.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn of_self() -> io::Result<PidFd> {
        PidFd::open(current_pid())
    }

    /// Opens a pidfd of the process that has this pid now. That is the right process only while
    /// something keeps the pid from being reused: the pid is the caller's own, or its unreaped
    /// child's.
    ///
    /// # Errors
    ///
    /// If there is no such process (`ESRCH`), or no fd is left.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| invalid_pid(pid))?;
        Ok(PidFd { fd: above_streams(pidfd_open(raw, PidfdFlags::empty())?)?, pid })
    }

    /// Makes one of a pidfd that came from elsewhere, such as a message, and its pid.
    pub fn from_parts(fd: OwnedFd, pid: u32) -> PidFd {
        PidFd { fd, pid }
    }

    /// Opens another fd for the same process.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn try_clone(&self) -> io::Result<PidFd> {
        Ok(PidFd { fd: self.fd.try_clone()?, pid: self.pid })
    }

    /// Returns the pid, for people to read. Another process may get it once this one is reaped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Returns `false` if the process had already ended, and got nothing.
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
        // SAFETY: the fd is open, as it is owned. The kernel checks the number. A null siginfo is
        // allowed and means that the kernel fills it as for kill(2). The kernel writes no memory of
        // this process.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal.as_raw(), no_info, 0) };
        known(sent)
    }

    /// Kills (SIGKILL) every process of the group that this process leads, or led before it ended.
    /// Returns `false` if there is none. The caller has not reaped the process, and nobody else
    /// does: else a kernel before Linux 6.9 may take another group for this one.
    ///
    /// # Errors
    ///
    /// If this process may signal none of them.
    pub fn kill_group(&self) -> io::Result<bool> {
        match self.kill_group_by_fd() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // SAFETY: sends a signal, and touches no memory of this process.
                let sent = unsafe { libc::kill(-self.pid.cast_signed(), libc::SIGKILL) };
                known(sent.into())
            }
            killed => killed,
        }
    }

    /// As [`kill_group`](Self::kill_group), also if the process has been reaped.
    ///
    /// # Errors
    ///
    /// `InvalidInput` on a kernel before Linux 6.9; if this process may signal none of them.
    pub fn kill_group_by_fd(&self) -> io::Result<bool> {
        const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: as in `signal`.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                libc::SIGKILL,
                no_info,
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        known(sent)
    }

    /// Waits until the process has ended, without reaping it: it need not be a child. Returns
    /// `false` if the deadline passed first.
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn wait_ended(&self, deadline: Option<Instant>) -> io::Result<bool> {
        Ok(poll_until(&mut [PollFd::new(&self.fd, PollFlags::IN)], deadline, || false)? > 0)
    }

    /// Returns whether the process has ended, reaped or not.
    ///
    /// # Errors
    ///
    /// If the system is out of memory.
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait_ended(Some(Instant::now()))
    }

    /// Returns whether the fd is still a pidfd, and other code has not closed it or replaced it by
    /// another file.
    pub fn is_open(&self) -> bool {
        match self.peek() {
            Ok(_) => true,
            Err(error) => !matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL)),
        }
    }

    /// Returns whether the fd is still a pidfd of this process. As [`is_open`](PidFd::is_open), and
    /// not a child's.
    pub fn is_own(&self) -> bool {
        self.peek().is_err_and(|error| error.raw_os_error() == Some(libc::ECHILD))
    }

    /// Returns whether a signal or a debugger has stopped the process; `false` where `/proc` does
    /// not say.
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

    /// Returns how the child ended, if it has. It stays for others to reap.
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

    /// Returns how the process ended, whoever reaps it: it need not be a child. Returns `None` if
    /// it has not ended, or nobody can know. The latter is so if it has been reaped and Linux is
    /// older than 6.15, or if there is no `/proc`.
    ///
    /// # Errors
    ///
    /// If a security module refuses access to the kernel's record.
    pub fn ended_status(&self) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = ended::status_of_zombie(self.fd.as_fd()) {
            return Ok(Some(status));
        }
        // Another process may have reaped it just now.
        ended::status_of_reaped(self.fd.as_fd())
    }

    /// Opens a pidfd of a new child, of which its maker knows only the pid.
    ///
    /// A child keeps its pid until it is reaped. So the pid is still its own, unless other code
    /// here reaps every child (`wait(-1)` in another thread, or SIGCHLD ignored, whereupon the
    /// kernel does). So this checks that the fd is a child's. If it is not, the child is lost and
    /// its pid may be anyone's: nothing is killed.
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
            // EINVAL: Linux 5.10 returns it for a process that has just been reaped.
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
                // SAFETY: plain calls on a pid that is still the unreaped child's, since the error
                // above would have shown otherwise; waitpid may write no status through a null
                // pointer.
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

/// Returns whether a signal was sent, by what the system call has returned.
fn known(sent: libc::c_long) -> io::Result<bool> {
    if sent == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
}

/// Returns the caller's pid.
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
