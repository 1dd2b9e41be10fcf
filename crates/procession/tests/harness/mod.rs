//! Runs named tests in the main thread, one after the other, as processes that fork need it; each under a watchdog, so
//! that a hang fails by name. The watchdog's thread is the engine's kind, and so does not stand in a fork's way.

// Each test binary uses what it needs of this.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../procession-sys/tests/time_scale/mod.rs"]
mod time_scale;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use procession::Context;
use procession_sys::thread::spawn_engine_thread;
pub use time_scale::scaled;

/// What no test may exceed; far above what any takes.
pub fn patience() -> Duration {
    scaled(Duration::from_secs(60))
}

/// How long to wait for something that must come: less than a test may take, so that it fails before the watchdog ends it.
pub fn long() -> Duration {
    patience() / 2
}

static RUNNING: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// All contexts, by name.
pub const CONTEXTS: [(&str, Context); 3] =
    [("fork", Context::fork()), ("spawn", Context::spawn()), ("forkserver", Context::forkserver())];

/// One trial.
pub fn trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.to_owned();
    let shown = name.clone();
    Trial::test(shown, move || {
        *RUNNING.lock().unwrap() = Some((name, Instant::now() + patience()));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        *RUNNING.lock().unwrap() = None;
        ended.map_err(|payload| {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Failed::from(text.unwrap_or_else(|| "panicked".into()))
        })
    })
}

/// The same test under each start method.
pub fn for_each_context(name: &str, body: fn(Context)) -> impl Iterator<Item = Trial> {
    CONTEXTS.into_iter().map(move |(method, context)| trial(&format!("{name}::{method}"), move || body(context)))
}

/// Runs the trials and leaves.
pub fn run(trials: Vec<Trial>) -> ! {
    spawn_engine_thread("watchdog", || {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let running = RUNNING.lock().unwrap().clone();
            if let Some((name, deadline)) = running
                && Instant::now() > deadline
            {
                eprintln!("test {name} hangs: nothing for {:?}", patience());
                // Handlers of `exit` may hang too.
                std::process::abort();
            }
        }
    })
    .expect("the watchdog starts");
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit()
}

/// Polls until the condition holds; fails by name after [`long`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    poll(long(), what, condition);
}

/// Polls until the condition holds, for no longer than `limit`. A step that takes far longer than it should counts as a short
/// one: the machine stood still, and so did whatever is waited for.
#[track_caller]
pub fn within(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    poll(scaled(limit), what, condition);
}

#[track_caller]
fn poll(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    const LONGEST: Duration = Duration::from_millis(20);
    let mut left = limit;
    while !condition() {
        assert!(!left.is_zero(), "not within {limit:?}: {what}");
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        left = left.saturating_sub(begun.elapsed().min(LONGEST));
    }
}

/// Whether a process exists and is not a zombie.
pub fn runs(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether a process exists, be it as a zombie.
pub fn exists(pid: u32) -> bool {
    state_of(pid).is_some()
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The direct children of this process whose command name is `name`.
pub fn children_named(name: &str) -> Vec<u32> {
    children_of_named(std::process::id(), name)
}

/// The direct children of a process whose command name is `name`.
pub fn children_of_named(parent: u32, name: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let Some((head, tail)) = stat.rsplit_once(") ") else { return false };
        let its = tail.split(' ').nth(1).and_then(|ppid| ppid.parse().ok());
        its == Some(parent) && head.ends_with(&format!("({name}"))
    })
    .collect()
}

/// A process and all that descend from it.
pub fn processes_below(root: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    let pids: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<_> = pids.iter().map(|pid| parent_of(*pid)).collect();
    let mut below = vec![root];
    let mut seen = 0;
    while let Some(parent) = below.get(seen).copied() {
        below.extend(pids.iter().zip(&parents).filter(|(_, its)| **its == Some(parent)).map(|(pid, _)| *pid));
        seen += 1;
    }
    below
}

/// A value that serialises and does not deserialise.
pub mod one_way {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes, and never reads back.
    #[derive(Debug)]
    pub struct OneWay;

    impl Serialize for OneWay {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(1)
        }
    }

    impl<'de> Deserialize<'de> for OneWay {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("one way only"))
        }
    }
}
