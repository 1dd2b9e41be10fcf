//! Ends a program whose test hangs: names the test, says what the program's children were at, and
//! aborts.
//!
//! The watchdog is an engine thread of the process that first has something watched. It does not
//! stand in the way of forks, and a forked child is without it.

use std::fs;
use std::process::abort;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::thread::spawn_engine_thread;

use crate::processes::children_of;

const INTERVAL: Duration = Duration::from_millis(100);

/// The tests that are watched, oldest first: one, or as many as run at once.
static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct Watched {
    number: u64,
    what: String,
    limit: Duration,
    deadline: Instant,
}

/// Ends the watch when it is dropped.
#[must_use]
#[derive(Debug)]
pub struct Watch {
    number: u64,
}

/// Ends the program unless the returned guard is dropped within `limit`. `what` names what hangs.
pub fn watch(what: impl Into<String>, limit: Duration) -> Watch {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| drop(spawn_engine_thread("watchdog", look_again_and_again).expect("the watchdog starts")));
    let mut watched = watched();
    let number = watched.last().map_or(0, |last| last.number + 1);
    watched.push(Watched { number, what: what.into(), limit, deadline: Instant::now() + limit });
    Watch { number }
}

/// Gives the latest of what is watched so much more time: a test may run as long as its caller
/// asks.
pub fn extend_limit(by: Duration) {
    if let Some(latest) = watched().last_mut() {
        latest.limit += by;
        latest.deadline += by;
    }
}

/// Returns the latest of what is watched, unless the watchdog is looking just now.
pub fn latest() -> Option<String> {
    WATCHED.try_lock().ok()?.last().map(|watched| watched.what.clone())
}

impl Drop for Watch {
    fn drop(&mut self) {
        watched().retain(|watched| watched.number != self.number);
    }
}

fn watched() -> MutexGuard<'static, Vec<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look_again_and_again() {
    loop {
        std::thread::sleep(INTERVAL);
        let late = watched().iter().find(|watched| Instant::now() > watched.deadline).cloned();
        if let Some(Watched { what, limit, .. }) = late {
            eprintln!("{what} hangs: no end after {limit:?}");
            for (pid, name) in children_of(std::process::id()) {
                let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
                eprintln!("  {pid} {name}: {} in {}", state(&file("status")), file("wchan"));
            }
            // Handlers of `exit` may hang too.
            abort();
        }
    }
}

fn state(status: &str) -> &str {
    status.lines().find(|line| line.starts_with("State:")).unwrap_or("gone")
}
