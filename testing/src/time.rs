//! The bounds on the waits of tests. Every wait has a bound, and none of the bounds says how quick
//! a machine must be: on a machine that is slower than those they were made for,
//! `PROCESSION_TEST_TIME_SCALE` stretches them all.

use std::time::{Duration, Instant};

const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Returns `limit`, multiplied by the number in the environment variable
/// `PROCESSION_TEST_TIME_SCALE` if it is set.
pub fn scaled(limit: Duration) -> Duration {
    const VARIABLE: &str = "PROCESSION_TEST_TIME_SCALE";
    let Ok(text) = std::env::var(VARIABLE) else { return limit };
    let scale = text.parse().ok().filter(|scale: &f64| *scale > 0.0 && scale.is_finite());
    limit.mul_f64(scale.unwrap_or_else(|| panic!("{VARIABLE}={text} is not a positive number")))
}

/// Returns how long a test may take before the watchdog ends it: far longer than any takes.
pub fn patience() -> Duration {
    scaled(Duration::from_secs(60))
}

/// Returns how long to wait for something that must come: less than a test may take, so that the
/// test fails by itself.
pub fn long() -> Duration {
    patience() / 2
}

/// Returns the instant until which to wait for something that must come.
pub fn in_time() -> Instant {
    Instant::now() + long()
}

/// Polls until the condition holds, and fails after [`long`]. A pause that takes far longer than it
/// should counts as a short one: the machine stood still, and so did whatever the test waits for.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(long(), what, condition);
}

#[track_caller]
fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let mut left = limit;
    while !condition() {
        assert!(!left.is_zero(), "not within {limit:?}: {what}");
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        left = left.saturating_sub(begun.elapsed().min(LONGEST_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_is_asked_until_it_holds() {
        let mut asked = 0;
        eventually("it was asked three times", || {
            asked += 1;
            asked == 3
        });
        assert_eq!(asked, 3);
    }

    #[test]
    fn condition_that_never_holds_fails_by_its_name() {
        let failed = std::panic::catch_unwind(|| within(Duration::from_millis(5), "pigs fly", || false)).unwrap_err();
        assert!(failed.downcast_ref::<String>().unwrap().contains("pigs fly"));
    }
}
