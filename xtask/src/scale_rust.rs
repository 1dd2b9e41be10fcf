//! `cargo xtask scale mpi-rust`: the tests of the Rust face's pools on the ranks of an MPI job, and
//! figures of them. It takes the MPI library that the system has. Called by `scale.rs`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cargo::{self, target};
use crate::namespaces::in_namespaces;
use crate::{Outcome, binaries};

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Runs the tests whose names hold the arguments, or the programs that measure.
pub(crate) fn run(measures: bool, arguments: &[&str]) -> Outcome {
    if let Some(missing) = ["mpicc", "mpiexec", "clang"].into_iter().find(|program| !is_there(program)) {
        println!(
            "left out: there is no {missing}, and the tests of Rust pools on MPI do not run (Debian: apt-get install \
             libopenmpi-dev openmpi-bin libclang-dev clang)"
        );
        return Ok(());
    }
    if measures { measure() } else { test(arguments) }
}

/// Each of the two programs begins a job by itself.
fn test(arguments: &[&str]) -> Outcome {
    for (package, features, name) in [("procession-mpi", "link", "post"), ("procession", "mpi", "mpi")] {
        let build = cargo::cargo(&["test", "--package", package, "--features", features, "--test", name]);
        for binary in binaries::chosen(binaries::built(build)?, &[name])? {
            let mut command = in_namespaces("mpi-rust")?;
            command.arg(binary.path).args(arguments);
            cargo::run(command, LIMIT)?;
        }
    }
    Ok(())
}

/// MPI's own round trip, and that of a task, in one machine's same minute.
fn measure() -> Outcome {
    for (package, features, example) in
        [("procession-mpi", "link", "ping_pong"), ("procession", "mpi", "mpi_round_trip")]
    {
        let arguments = ["build", "--release", "--package", package, "--features", features, "--example", example];
        let build = cargo::cargo(&arguments);
        cargo::run(build, LIMIT)?;
    }
    for example in ["ping_pong", "mpi_round_trip"] {
        let mut command = in_namespaces("mpi-rust")?;
        command.args(["mpiexec", "--oversubscribe", "-n", "2"]).arg(built_example(example));
        cargo::run(command, LIMIT)?;
    }
    Ok(())
}

fn built_example(name: &str) -> PathBuf {
    target().join("release").join("examples").join(name)
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
