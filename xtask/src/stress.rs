//! `cargo xtask stress`: builds the storms with optimisation and runs them. They are a crate of
//! their own, since they kill the processes that they have started. Then the storms over Python
//! programs run, `stress/signals.py`, for as long.

use std::time::Duration;

use crate::{Outcome, cargo, python};

/// The build, and the storms' own watchdog, beyond the time asked for.
const SLACK: Duration = Duration::from_secs(15 * 60);

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let seconds = arguments.iter().skip_while(|argument| **argument != "--seconds").nth(1);
    let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).ok_or("it takes --seconds N")?;
    let fixed = ["run", "--quiet", "--release", "--package", "procession-stress", "--"];
    let limit = Duration::from_secs(seconds) + SLACK;
    cargo::run(cargo::cargo(&[&fixed[..], arguments].concat()), limit)?;
    let environment = python::environment(None)?;
    cargo::run(environment.command(&[&["stress/signals.py"], arguments].concat()), limit)
}
