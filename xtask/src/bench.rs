//! `cargo xtask bench`: builds the benchmarks with optimisation and runs them. They are a crate of their own, so that the
//! rivals are nobody else's dependency.

use std::time::Duration;

use crate::Outcome;
use crate::cargo;

const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let fixed = ["run", "--quiet", "--release", "--package", "procession-bench", "--"];
    cargo::run(cargo::cargo(&[&fixed[..], arguments].concat()), LIMIT)
}
