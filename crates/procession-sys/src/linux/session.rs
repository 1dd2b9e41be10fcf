//! Leaving the session of the program that started this process: for a process that must outlive
//! all the others, such as the tracker. Called in that process, in its only thread.

use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{chdir, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::descriptor::above_streams;
use super::thread::block_all_signals;

/// Separates this process from the program's terminal, shell and signals. It gets a session and a
/// process group of its own and blocks all signals (SIGKILL cannot be blocked). It keeps no folder
/// busy, and closes its standard input and output so that nobody waits for the end of a pipe. Its
/// standard error stays.
///
/// # Errors
///
/// If this process leads a process group, as one that was just made does not.
pub fn leave() -> io::Result<()> {
    block_all_signals();
    setsid()?;
    chdir("/")?;
    // Without a /dev/null they stay as they are, which harms only those that wait for their end.
    if let Ok(null) = null() {
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
    }
    Ok(())
}

/// Closes standard error too, when nobody reads it any more.
pub fn leave_stderr() {
    // As above.
    let _ = null().and_then(|null| Ok(dup2_stderr(&null)?));
}

fn null() -> io::Result<std::os::fd::OwnedFd> {
    // `dup2` of a number to itself would leave it `CLOEXEC`, and it would be closed below.
    above_streams(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
