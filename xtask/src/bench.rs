//! `cargo xtask bench`: builds the benchmarks with optimisation and runs them. They are a crate of
//! their own, so that only they depend on the rivals. `--python` runs those of the Python face, in
//! an environment of their own.

use std::time::Duration;

use crate::{Outcome, cargo, python};

const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Seven libraries, each measurement in a process of its own.
const PYTHON_LIMIT: Duration = Duration::from_secs(90 * 60);

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    if let ["--python", arguments @ ..] = arguments {
        return run_python(arguments);
    }
    let fixed = ["run", "--quiet", "--release", "--package", "procession-bench", "--"];
    cargo::run(cargo::cargo(&[&fixed[..], arguments].concat()), LIMIT)
}

fn run_python(arguments: &[&str]) -> Outcome {
    let environment = python::bench_environment(None)?;
    let mut command = environment.command(&["benches/python/bench.py"]);
    command.arg("--out").arg(cargo::target().join("bench")).args(arguments);
    cargo::run(command, PYTHON_LIMIT)
}
