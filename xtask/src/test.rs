//! `cargo xtask test`: everything that must hold before a change lands, in the order in which it
//! fails soonest.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
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

/// The feature whose tests need a cluster: `cargo xtask scale bridge-rust` runs them.
const UNTESTED: &str = "procession/bridge";

const STEPS: [Step; 21] = [
    own("tidiness", tidy::run),
    // A machine without one learns of it now, and not after ten minutes.
    own("looking for Python", python::check),
    step("formatting", &["fmt", "--all", "--check"]),
    step(
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            OPTIONAL,
            "--features",
            UNTESTED,
            "--",
            "-D",
            "warnings",
        ],
    ),
    Step {
        name: "docs",
        act: Act::Cargo {
            arguments: &["doc", "--workspace", "--no-deps", "--features", OPTIONAL, "--features", UNTESTED],
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

/// The step beside which what later ones need is made: from here on the processors are idle for a
/// good part of the time.
const FIRST_IDLE: &str = "Python environment";

pub(crate) fn run() -> Outcome {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = run_steps(|at| {
            let is_over = &is_over;
            scope.spawn(move || prepare_steps(&STEPS[at..], is_over));
        });
        is_over.store(true, Ordering::Relaxed);
        ended
    })
}

/// Runs the steps. `prepare` is called once, with the place of the first one that leaves the
/// processors idle.
fn run_steps(prepare: impl Fn(usize)) -> Outcome {
    let mut times = Vec::new();
    for (at, Step { name, act }) in STEPS.iter().enumerate() {
        println!("== {name}");
        if *name == FIRST_IDLE {
            prepare(at);
        }
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

/// Makes what these steps need, while others run, until the gate is over. A problem is no concern
/// here: the step meets it again, and tells it.
fn prepare_steps(steps: &[Step], is_over: &AtomicBool) {
    matrix::prepare_slice();
    for command in steps.iter().filter_map(|step| step.act.build_ahead()) {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        drop(cargo::run(command, LIMIT));
    }
}

impl Act {
    fn run(&self) -> Outcome {
        let (arguments, docs) = match self {
            Act::Own(run) => return run(),
            Act::Cargo { arguments, docs, .. } => (arguments, docs),
        };
        let mut command = cargo::cargo(arguments);
        self.set_flags(&mut command);
        if !docs.is_empty() {
            command.env("RUSTDOCFLAGS", docs);
        }
        cargo::run(command, LIMIT)
    }

    /// Returns the command that builds what the step runs, in time that nobody else wants.
    fn build_ahead(&self) -> Option<Command> {
        let Act::Cargo { arguments, .. } = self else { return None };
        let build: Vec<&str> = match arguments {
            ["test", rest @ ..] => ["test", "--no-run"].into_iter().chain(rest.iter().copied()).collect(),
            ["run", rest @ ..] => {
                let of_cargo = rest.iter().take_while(|argument| **argument != "--");
                ["build"].into_iter().chain(of_cargo.copied()).collect()
            }
            _ => return None,
        };
        let cargo = cargo::cargo(&build);
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(cargo.get_program()).args(cargo.get_args()).current_dir(cargo::root());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.set_flags(&mut command);
        Some(command)
    }

    fn set_flags(&self, command: &mut Command) {
        if let Act::Cargo { flags: Some((flags, folder)), .. } = self {
            command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", cargo::target().join(folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_ahead(name: &str) -> Option<Vec<String>> {
        let step = STEPS.iter().find(|step| step.name == name).unwrap();
        let command = step.act.build_ahead()?;
        Some(command.get_args().skip(3).map(|argument| argument.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn steps_are_built_and_not_run_ahead() {
        let storms = built_ahead("storms").unwrap();
        assert_eq!(storms, ["build", "--release", "--package", "procession-stress"]);
        assert_eq!(built_ahead("models").unwrap()[..2], ["test", "--no-run"]);
        assert_eq!(built_ahead("lints"), None);
        assert_eq!(built_ahead("weight and policy"), None);
    }

    #[test]
    fn a_step_is_the_first_that_leaves_processors_idle() {
        assert_eq!(STEPS.iter().filter(|step| step.name == FIRST_IDLE).count(), 1);
    }
}
