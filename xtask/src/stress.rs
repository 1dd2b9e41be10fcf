//! `cargo xtask stress`: builds the storms with optimisation and runs them. They are a crate of their own, since they must be
//! processes of their own: they kill what they have started.

use std::time::Duration;

use crate::Outcome;
use crate::cargo;

/// Beyond what is asked for: the build, and the storms' own watchdog.
const SLACK: Duration = Duration::from_secs(15 * 60);

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let seconds = match arguments {
        ["--seconds", seconds, ..] => seconds.parse().ok(),
        _ => None,
    };
    let seconds: u64 =
        seconds.ok_or("it takes --seconds N first, then --seed S to replay a storm, and --only STORM for one kind")?;
    let fixed = ["run", "--quiet", "--release", "--package", "procession-stress", "--"];
    cargo::run(cargo::cargo(&[&fixed[..], arguments].concat()), Duration::from_secs(seconds) + SLACK)
}
