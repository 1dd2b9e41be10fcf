//! The state of processes, as `/proc` tells it, and their ends.

use std::fs;

use procession_sys::pidfd::PidFd;
use procession_sys::{ExitStatus, Signal};

use crate::in_time;

/// Returns whether a process exists and is not a zombie.
pub fn runs(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// Returns whether a process exists, if only as a zombie.
pub fn exists(pid: u32) -> bool {
    Stat::of(pid).is_some()
}

/// Returns whether a process is stopped by a signal.
pub fn has_stopped(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state == 'T')
}

/// Kills a process by SIGKILL. Returns `false` if it has ended before.
pub fn kill(pid: u32) -> bool {
    PidFd::open(pid).is_ok_and(|process| process.signal(Signal::KILL).expect("it may be signalled"))
}

/// Waits for a child and reaps it.
///
/// # Panics
///
/// If the child does not end in time.
pub fn end_of(child: &PidFd) -> ExitStatus {
    assert!(child.wait_ended(Some(in_time())).expect("it is waited for"), "child {} does not end", child.pid());
    child.try_reap().expect("it is a child").expect("it has ended and was not reaped")
}

/// Returns the direct children of a process: pid and command name.
pub fn children_of(parent: u32) -> Vec<(u32, String)> {
    let children = all().into_iter().filter(|(_, stat)| stat.parent == parent);
    children.map(|(pid, stat)| (pid, stat.name)).collect()
}

/// Returns the direct children of this process whose command name is `name`.
pub fn children_named(name: &str) -> Vec<u32> {
    children_of_named(std::process::id(), name)
}

/// Returns the direct children of a process whose command name is `name`.
pub fn children_of_named(parent: u32, name: &str) -> Vec<u32> {
    children_of(parent).into_iter().filter(|(_, its)| its == name).map(|(pid, _)| pid).collect()
}

/// Returns a process and all that descend from it.
pub fn processes_below(root: u32) -> Vec<u32> {
    let (all, mut below, mut seen) = (all(), vec![root], 0);
    while let Some(parent) = below.get(seen).copied() {
        below.extend(all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        seen += 1;
    }
    below
}

/// Returns how many file descriptors this process has open, with the one that counts them.
pub fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is there").count()
}

/// Of `/proc/PID/stat`.
struct Stat {
    name: String,
    state: char,
    parent: u32,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // A name may have spaces and parentheses in it.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once('(')?;
        let mut fields = tail.split(' ');
        let (state, parent) = (fields.next()?.chars().next()?, fields.next()?.parse().ok()?);
        Some(Stat { name: name.to_owned(), state, parent })
    }
}

fn all() -> Vec<(u32, Stat)> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}
