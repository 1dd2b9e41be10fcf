//! `cargo xtask test`: everything that must hold before a change lands, in the order in which it
//! fails soonest.

use std::time::{Duration, Instant};

use crate::{Outcome, cargo, conformance, matrix, python, soak, tidy, wheel};

/// The limit of one step, from cold. The watchdog of a test binary ends a hang inside it sooner.
const LIMIT: Duration = Duration::from_secs(15 * 60);

struct Step {
    name: &'static str,
    act: Act,
}

enum Act {
    Cargo {
        arguments: &'static [&'static str],
        /// Flags of their own need a target folder of their own, or everything is built twice.
        flags: Option<(&'static str, &'static str)>,
        docs: &'static str,
    },
    /// A function of another file of xtask.
    Own(fn() -> Outcome),
}

const fn step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, act: Act::Cargo { arguments, flags: None, docs: "" } }
}

const fn flagged(name: &'static str, flags: (&'static str, &'static str), arguments: &'static [&'static str]) -> Step {
    Step { name, act: Act::Cargo { arguments, flags: Some(flags), docs: "" } }
}

const fn own(name: &'static str, run: fn() -> Outcome) -> Step {
    Step { name, act: Act::Own(run) }
}

const STEPS: [Step; 21] = [
    own("tidiness", tidy::run),
    // A machine without one learns of it now, and not after ten minutes.
    own("looking for Python", python::check),
    step("formatting", &["fmt", "--all", "--check"]),
    step("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    Step {
        name: "docs",
        act: Act::Cargo { arguments: &["doc", "--workspace", "--no-deps"], flags: None, docs: "-D warnings" },
    },
    flagged(
        "a platform without support",
        ("--cfg procession_unsupported", "unsupported"),
        &["check", "--package", "procession"],
    ),
    step("tests", &["test", "--workspace"]),
    own("Python environment", || python::environment(None).map(drop)),
    own("wheel for older Linux", wheel::check),
    own("stubtest", python::stubtest),
    own("Python tests", || python::test(&[])),
    own("the standard library\'s tests", conformance::test),
    own("a newer libc, newer Pythons", matrix::slice),
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
    step(
        "a worker stopped with a lock",
        &["test", "--package", "procession", "--features", "fault-injection", "--test", "pool_stopped"],
    ),
    step("storms", &["run", "--release", "--package", "procession-stress", "--", "--seconds", "20"]),
    own("what grows", soak::test),
    flagged(
        "models",
        ("--cfg loom", "loom"),
        &["test", "--package", "procession-shm", "--release", "--test", "loom_*"],
    ),
];

pub(crate) fn run() -> Outcome {
    let mut times = Vec::new();
    for Step { name, act } in &STEPS {
        println!("== {name}");
        let begun = Instant::now();
        act.run().map_err(|problem| format!("{name} failed: {problem}"))?;
        times.push((name, begun.elapsed()));
    }
    println!();
    for (name, time) in times {
        println!("{name:<32} {:>7.1} s", time.as_secs_f64());
    }
    println!("everything holds");
    Ok(())
}

impl Act {
    fn run(&self) -> Outcome {
        let (arguments, flags, docs) = match self {
            Act::Own(run) => return run(),
            Act::Cargo { arguments, flags, docs } => (arguments, flags, docs),
        };
        let mut command = cargo::cargo(arguments);
        if let Some((flags, folder)) = flags {
            command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", cargo::target().join(folder));
        }
        if !docs.is_empty() {
            command.env("RUSTDOCFLAGS", docs);
        }
        cargo::run(command, LIMIT)
    }
}
