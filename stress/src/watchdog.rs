//! Ends the program when a storm hangs. It names the storm, how to replay it, and what its
//! processes were doing.

use std::fs;
use std::process::exit;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::thread::spawn_engine_thread;

use crate::weather::children;

/// The limit of a storm: each lasts two seconds and comes to its end at once.
const PATIENCE: Duration = Duration::from_secs(60);

static STORM: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// Notes that a storm begins.
pub(crate) fn enter(storm: String) {
    *STORM.lock().unwrap_or_else(PoisonError::into_inner) = Some((storm, Instant::now()));
}

/// Starts watching.
pub(crate) fn begin(replay: &str) {
    let replay = replay.to_owned();
    let own = std::process::id();
    let shown = replay.clone();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        if std::process::id() == own {
            let storm = STORM.try_lock().ok().and_then(|storm| storm.clone());
            eprintln!("\nthe storm that failed: {:?}; to replay: {shown}", storm.map(|(storm, _)| storm));
        }
    }));
    let watch = move || {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let storm = STORM.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((storm, since)) = storm
                && since.elapsed() > PATIENCE
            {
                eprintln!("{storm} hangs: no end after {PATIENCE:?}; to replay: {replay}");
                for (pid, name) in children() {
                    let at = |what| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
                    eprintln!("  {pid} {name}: {} in {}", state(&at("status")), at("wchan"));
                }
                exit(101);
            }
        }
    };
    spawn_engine_thread("watchdog", watch).expect("the watchdog starts");
}

fn state(status: &str) -> &str {
    status.lines().find(|line| line.starts_with("State:")).unwrap_or("gone")
}
