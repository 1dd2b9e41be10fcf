//! Kill storms: how long one lasts, and which random numbers it has.

use std::time::Duration;

use crate::random::number_from;
use crate::{Random, seed_of_now, watchdog};

/// Returns the random numbers of a storm and how long it is to last, and prints both. The running
/// test may take so much longer.
///
/// `KILL_STORM_SEED` replays a run's choices (the instants are the machine's), and
/// `KILL_STORM_SECONDS` lengthens it.
pub fn storm() -> (Random, Duration) {
    let seed = number_from("KILL_STORM_SEED").unwrap_or_else(seed_of_now);
    let seconds = number_from("KILL_STORM_SECONDS").unwrap_or(2);
    println!("seed {seed}, {seconds} s");
    let length = Duration::from_secs(seconds);
    watchdog::extend_limit(length);
    (Random::new(seed), length)
}
