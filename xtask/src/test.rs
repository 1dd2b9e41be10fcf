//! `cargo xtask test`: everything that must hold before a change lands, in the order in which it
//! fails soonest.

use std::time::{Duration, Instant};

use crate::cargo::{OPTIONAL, TESTS};
use crate::{Outcome, cargo, conformance, matrix, policy, python, python_tests, soak, tidy, wheel};

/// The limit of one step, from cold. The watchdog of a test binary ends a hang inside it sooner.
const LIMIT: Duration = Duration::from_secs(25 * 60);

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

/// The flags that make the engine's fault points and its parsers of bytes from others callable.
/// They are cfgs and no features, so that no user of the crates can turn them on.
const ARMED: (&str, &str) = ("--cfg procession_fault_injection --cfg fuzzing", "armed");

const STEPS: [Step; 21] = [
    own("tidiness", tidy::run),
    // A machine without one learns of it now, and not after ten minutes.
    own("looking for Python", python::check),
    step("formatting", &["fmt", "--all", "--check"]),
    step("lints", &["clippy", "--workspace", "--all-targets", "--features", OPTIONAL, "--", "-D", "warnings"]),
    Step {
        name: "docs",
        act: Act::Cargo {
            arguments: &["doc", "--workspace", "--no-deps", "--features", OPTIONAL],
            flags: None,
            docs: "-D warnings",
        },
    },
    flagged(
        "a platform without support",
        ("--cfg procession_unsupported -D warnings", "unsupported"),
        &["check", "--package", "procession"],
    ),
    step("tests", &TESTS),
    own("Python environment", || python::environment(None).map(drop)),
    own("Python formatting and lints", python::lint),
    own("wheel for older Linux", wheel::check),
    own("Python types", python::types),
    own("Python tests", || python_tests::run_tests(&[])),
    own("the standard library\'s tests", conformance::test),
    own("a newer libc, newer Pythons", matrix::slice),
    step(
        "programs that call init()",
        &[
            "test",
            "--package",
            "procession",
            "--no-default-features",
            "--test",
            "no_init",
            "--test",
            "init_*",
            "--test",
            "process",
            "--test",
            "tracker",
        ],
    ),
    flagged(
        "what fuzzing found",
        ARMED,
        &["test", "--package", "procession-core", "--features", "auth", "--test", "corpora"],
    ),
    flagged(
        "deaths and stops at every step",
        ARMED,
        &["test", "--package", "procession-faults", "--features", "armed"],
    ),
    step("storms", &["run", "--release", "--package", "procession-stress", "--", "--seconds", "20"]),
    own("what grows", soak::test),
    step("models", &["test", "--package", "procession-models", "--release"]),
    own("weight and policy", policy::run),
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
