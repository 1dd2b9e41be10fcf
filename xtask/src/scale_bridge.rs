//! `cargo xtask scale bridge-rust`: the tests of the Rust face's pools on a Ray and on a Dask
//! cluster, and figures of them. Called by `scale.rs`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cargo::{self, target};
use crate::namespaces::folder_of_tests;
use crate::venv::Environment;
use crate::{Outcome, binaries};

const ENGINES: [&str; 2] = ["ray", "dask"];
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the tests whose names hold the arguments, or the program that measures. `isolated` makes
/// the command that runs what is appended to it in namespaces of its own.
pub(crate) fn run(
    environment: &Environment,
    measures: bool,
    arguments: &[&str],
    isolated: impl Fn(&str) -> Result<Command, String>,
) -> Outcome {
    let program = if measures { built_example()? } else { built_tests()? };
    for engine in ENGINES {
        println!("on {engine}");
        let mut command = isolated(engine)?;
        command.arg(environment.python()).arg(folder_of_tests().join("bridged.py"));
        // Then the program may ask for the time of the engine's own call.
        command.args(if measures { &["--measure"][..] } else { &[] }).arg(engine);
        command.arg(&program).args(arguments);
        cargo::run(command, LIMIT)?;
    }
    Ok(())
}

fn built_tests() -> Result<PathBuf, String> {
    let build = cargo::cargo(&["test", "--package", "procession", "--features", "bridge", "--test", "bridge"]);
    let built = binaries::chosen(binaries::built(build)?, &["bridge"])?;
    built.into_iter().next().map(|binary| binary.path).ok_or_else(|| "the tests of bridges were not built".into())
}

fn built_example() -> Result<PathBuf, String> {
    const EXAMPLE: &str = "bridge_round_trip";
    let arguments = ["build", "--release", "--package", "procession", "--features", "bridge", "--example", EXAMPLE];
    cargo::run(cargo::cargo(&arguments), LIMIT)?;
    Ok(target().join("release").join("examples").join(EXAMPLE))
}
