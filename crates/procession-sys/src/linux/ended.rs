//! The exit status of a process that another process reaps. Used by
//! [`PidFd::ended_status`](super::pidfd::PidFd), in any process and thread.
//!
//! | the process | source |
//! |---|---|
//! | has ended, nobody has reaped it | `/proc/PID/stat`, field 52 (proc(5)) |
//! | has been reaped, Linux 6.15 or later | the request `PIDFD_GET_INFO` |
//! | has been reaped, before Linux 6.15 | none |

#![allow(unsafe_code)] // An ioctl that rustix does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::ExitStatus;

/// The kernel's `struct pidfd_info` in its first size (`linux/pidfd.h`).
#[repr(C)]
#[derive(Default)]
struct PidFdInfo {
    mask: u64,
    cgroup: u64,
    /// Pids and ids of users and groups, which nobody here reads.
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC000_FF0B | (size_of::<PidFdInfo>() as libc::c_ulong) << 16;

/// Returns the exit status of the process of a pidfd, if it has been reaped and the kernel
/// remembers.
pub(super) fn status_of_reaped(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    let mut info = PidFdInfo { mask: PIDFD_INFO_EXIT, ..PidFdInfo::default() };
    // SAFETY: the fd is open, as it is borrowed; the kernel reads and writes one structure of the
    // size that is part of the request's number, to a live local.
    let told = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if told == -1 {
        let error = io::Error::last_os_error();
        // Kernels before 6.13 have no such request; before 6.15 they know nothing of a process that
        // was reaped.
        let is_unknown = matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ESRCH));
        return if is_unknown { Ok(None) } else { Err(error) };
    }
    Ok(if info.mask & PIDFD_INFO_EXIT == 0 { None } else { decoded(info.exit_code) })
}

/// Returns the exit status of the process of a pidfd, if it has ended and nobody has reaped it.
/// Returns `None` without `/proc`.
pub(super) fn status_of_zombie(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let pid = shown_pid(pidfd)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A process that may not look at that one reads a 0. The link needs the same permission, and
    // cannot be read then.
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    // Until it is reaped no other process has its pid, so the status is its own.
    if shown_pid(pidfd)? != pid {
        return None;
    }
    status_in(&stat)
}

/// Returns whether the process of a pidfd is stopped; `false` without `/proc`.
pub(super) fn is_stopped(pidfd: BorrowedFd<'_>) -> bool {
    let stat = shown_pid(pidfd).and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    let state = stat.as_deref().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    matches!(state, Some('T' | 't'))
}

/// Returns the pid as this `/proc` shows it; `None` if the process has been reaped.
fn shown_pid(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    // It is -1 once the process has been reaped, and 0 in another namespace.
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (pid != 0).then_some(pid)
}

fn status_in(stat: &str) -> Option<ExitStatus> {
    // A name may hold anything. After it come the fields from the third, the state, on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if *fields.first()? != "Z" {
        return None;
    }
    decoded(fields.get(49)?.parse().ok()?)
}

/// Reads a status in the form of waitpid(2).
fn decoded(status: libc::c_int) -> Option<ExitStatus> {
    if libc::WIFEXITED(status) {
        return Some(ExitStatus::exited(libc::WEXITSTATUS(status)));
    }
    libc::WIFSIGNALED(status).then(|| ExitStatus::signaled(libc::WTERMSIG(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_the_fifty_second_field_of_a_zombie() {
        let stat = |state: &str, status: &str| format!("7 (a) b) {state} {}{status}\n", "0 ".repeat(48));
        assert_eq!(status_in(&stat("Z", "1280")), Some(ExitStatus::exited(5)));
        assert_eq!(status_in(&stat("Z", "9")), Some(ExitStatus::signaled(9)));
        assert_eq!(status_in(&stat("Z", "134")), Some(ExitStatus::signaled(6)), "with a core dump");
        assert_eq!(status_in(&stat("S", "0")), None);
        assert_eq!(status_in("7 (a) Z 1 2"), None);
    }
}
