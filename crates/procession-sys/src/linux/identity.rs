//! A process in one word that fits shared memory: its pid and its start time, so that another
//! process that got the same pid is not mistaken for it. Used by waiters that have no pidfd of a
//! process, in any process and thread.

use std::fs;

use rustix::io::Errno;

use super::pidfd::{PidFd, current_pid};
use crate::per_process::PerProcess;

/// Identifies a process for good. Never 0.
///
/// Processes in different pid namespaces cannot recognise each other by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64);

impl Identity {
    /// The kernel's largest pid is below 2^22; the rest of the word holds a start time in ticks for
    /// ages.
    const PID_BITS: u32 = 22;

    /// Returns this process's identity.
    pub fn of_self() -> Identity {
        static OWN: PerProcess<Identity> = PerProcess::new(|| {
            let pid = current_pid();
            Identity(start_time(pid).unwrap_or(0) << Identity::PID_BITS | u64::from(pid))
        });
        *OWN.get()
    }

    /// Returns the word.
    pub fn to_word(self) -> u64 {
        self.0
    }

    /// Makes an identity of a word; 0 is nobody.
    pub fn from_word(word: u64) -> Option<Identity> {
        (word != 0).then_some(Identity(word))
    }

    /// Returns the pid.
    pub fn pid(self) -> u32 {
        (self.0 & ((1 << Self::PID_BITS) - 1)) as u32
    }

    /// Returns whether the process has ended, reaped or not. Returns `false` if that cannot be
    /// found out, so that no process is declared dead on a suspicion.
    pub fn has_ended(self) -> bool {
        match PidFd::open(self.pid()) {
            Ok(process) => process.has_ended().unwrap_or(false) || self.is_another(),
            Err(error) => error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) || self.is_another(),
        }
    }

    /// Returns whether another process is known to have the pid now.
    fn is_another(self) -> bool {
        let started = self.0 >> Self::PID_BITS;
        started != 0 && start_time(self.pid()).is_some_and(|now| now != started)
    }
}

/// Returns the start time in the kernel's ticks since it booted; `None` without `/proc`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything. The start time is the 22nd field, and the
    // state behind the name is the 3rd.
    stat.rsplit_once(") ")?.1.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let own = Identity::of_self();
        assert!(own.pid() == current_pid() && !own.has_ended());
        assert_eq!(Identity::from_word(own.to_word()), Some(own));
        assert_eq!(Identity::from_word(0), None);
        let later = Identity(own.0 + (1 << Identity::PID_BITS));
        assert!(later.has_ended(), "the same pid, and another start");
    }

    #[test]
    fn a_process_that_nobody_has_reaped_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let identity = Identity(start_time(pid).unwrap() << Identity::PID_BITS | u64::from(pid));
        assert!(!identity.has_ended());
        child.kill().unwrap();
        let process = PidFd::open(pid).unwrap();
        assert!(process.wait_ended(None).unwrap());
        assert!(identity.has_ended(), "as a zombie");
        child.wait().unwrap();
        assert!(identity.has_ended(), "and when it is reaped");
    }
}
