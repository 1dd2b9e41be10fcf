//! `cargo xtask soak`: makes each public call of both faces many times, and checks whether memory,
//! file descriptors, mappings, threads or children grow. The Rust half is a program of the crate of
//! storms, the Python half `stress/soak.py`.

use std::time::Duration;

use crate::{Outcome, cargo, python};

/// The limit: ten thousand of each call, by each start method.
const LIMIT: Duration = Duration::from_secs(3 * 60 * 60);
const CALLS: &str = "10000";
/// For a step of the gate: enough to see what each call leaks.
const CALLS_OF_A_SLICE: &str = "150";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    match arguments {
        [] => soak(CALLS),
        ["--calls", calls] if calls.parse::<u32>().is_ok() => soak(calls),
        _ => Err("it takes --calls N".into()),
    }
}

pub(crate) fn test() -> Outcome {
    soak(CALLS_OF_A_SLICE)
}

fn soak(calls: &str) -> Outcome {
    let fixed = ["run", "--quiet", "--release", "--package", "procession-stress", "--bin", "soak", "--", calls];
    cargo::run(cargo::cargo(&fixed), LIMIT)?;
    let environment = python::environment(None)?;
    cargo::run(environment.command(&["stress/soak.py", "--calls", calls]), LIMIT)
}
