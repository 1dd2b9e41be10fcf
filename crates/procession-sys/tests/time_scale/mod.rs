//! Stretches the time limits of tests, for machines that are slower than those the limits were made
//! for: an emulated processor, for instance. The tests of each crate include this file.

use std::time::Duration;

/// Returns `limit`, multiplied by the number in the environment variable
/// `PROCESSION_TEST_TIME_SCALE` if it is set.
#[allow(dead_code, unreachable_pub)] // Each test binary uses what it needs of its harness.
pub fn scaled(limit: Duration) -> Duration {
    const VARIABLE: &str = "PROCESSION_TEST_TIME_SCALE";
    let Ok(text) = std::env::var(VARIABLE) else { return limit };
    let scale = text.parse().ok().filter(|scale: &f64| *scale > 0.0 && scale.is_finite());
    limit.mul_f64(scale.unwrap_or_else(|| panic!("{VARIABLE}={text} is not a positive number")))
}
