//! `cargo xtask test`: everything that must hold before a change lands, in the order in which it fails soonest.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::cargo;

/// Of one step, from cold; a hang inside a test binary is found sooner, by its own watchdog.
const LIMIT: Duration = Duration::from_secs(15 * 60);

struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Flags of their own need a target folder of their own, or everything is built twice.
    flags: Option<(&'static str, &'static str)>,
    docs: &'static str,
}

const fn step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, arguments, flags: None, docs: "" }
}

const STEPS: [Step; 11] = [
    step("formatting", &["fmt", "--all", "--check"]),
    step("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    Step { docs: "-D warnings", ..step("docs", &["doc", "--workspace", "--no-deps"]) },
    Step {
        flags: Some(("--cfg procession_unsupported", "unsupported")),
        ..step("a platform without support", &["check", "--package", "procession-sys"])
    },
    step("tests", &["test", "--workspace"]),
    step("spans and events", &["test", "--package", "procession", "--features", "tracing", "--test", "pool_tracing"]),
    step("what fuzzing found", &["test", "--package", "procession-core", "--features", "fuzzing", "--test", "corpora"]),
    step(
        "death at every step",
        &["test", "--package", "procession-shm", "--features", "fault-injection", "--test", "fault_injection"],
    ),
    step(
        "death at every step of a name",
        &["test", "--package", "procession", "--features", "fault-injection", "--test", "tracker_faults"],
    ),
    step("storms", &["run", "--release", "--package", "procession-stress", "--", "--seconds", "20"]),
    Step {
        flags: Some(("--cfg loom", "loom")),
        ..step("models", &["test", "--package", "procession-shm", "--release", "--test", "loom_*"])
    },
];

pub(crate) fn run() -> Outcome {
    let mut times = Vec::new();
    for step in &STEPS {
        println!("== {}", step.name);
        let begun = Instant::now();
        let mut command = cargo::cargo(step.arguments);
        if let Some((flags, folder)) = step.flags {
            command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", cargo::root().join("target").join(folder));
        }
        if !step.docs.is_empty() {
            command.env("RUSTDOCFLAGS", step.docs);
        }
        cargo::run(command, LIMIT).map_err(|problem| format!("{} failed: {problem}", step.name))?;
        times.push((step.name, begun.elapsed()));
    }
    println!();
    for (name, time) in times {
        println!("{name:<28} {:>7.1} s", time.as_secs_f64());
    }
    println!("everything holds");
    Ok(())
}
