//! A test binary's own `main`: it runs named checks one after the other in its first thread,
//! because each of them forks. A watchdog in another thread ends a check that hangs.

#![allow(dead_code)] // Each binary uses a part of it.

#[path = "../time_scale/mod.rs"]
mod time_scale;

use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use procession_sys::pidfd::PidFd;
use procession_sys::{ExitStatus, thread};
use time_scale::scaled;

/// The limit of one check. Checks end in milliseconds; the rest is for a loaded machine.
fn limit() -> Duration {
    scaled(Duration::from_secs(60))
}

/// Runs the checks whose names contain the command line's filter, if there is one, and prints the
/// outcome.
pub(crate) fn run(checks: &[(&'static str, fn())]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let exact = args.iter().any(|arg| arg == "--exact");
    let chosen = |name: &str| filter.is_none_or(|filter| if exact { name == filter } else { name.contains(filter) });
    let chosen: Vec<_> = checks.iter().filter(|(name, _)| chosen(name)).collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| say(&format!("{name}: test")));
        return;
    }
    for (name, check) in chosen {
        let done = watch(name);
        check();
        drop(done);
        say(&format!("test {name} ... ok"));
    }
}

/// Returns a deadline that no healthy check meets.
pub(crate) fn in_time() -> Instant {
    Instant::now() + scaled(Duration::from_secs(40))
}

/// Waits for a child with a deadline and reaps it.
pub(crate) fn end_of(child: &PidFd) -> ExitStatus {
    assert!(child.wait_ended(Some(in_time())).unwrap(), "child {} does not end", child.pid());
    child.try_reap().unwrap().expect("it has ended and was not reaped")
}

/// Polls until the answer is yes, or fails.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = in_time();
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts an engine thread, so that forks are not refused for it. It aborts unless the watch ends
/// in time.
fn watch(name: &'static str) -> Watch {
    let (done, is_done) = std::sync::mpsc::channel();
    let watchdog = thread::spawn_engine_thread("watchdog", move || {
        if is_done.recv_timeout(limit()) == Err(RecvTimeoutError::Timeout) {
            eprintln!("test {name} hangs: aborted after {:?}", limit());
            std::process::abort();
        }
    });
    Watch { done: Some(done), watchdog: Some(watchdog.expect("a thread for the watchdog")) }
}

/// Ends with the check, and leaves no thread to the next one.
struct Watch {
    done: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.done.take());
        self.watchdog.take().map(JoinHandle::join);
    }
}

#[allow(clippy::print_stdout)] // What a test runner reads.
fn say(line: &str) {
    println!("{line}");
}
