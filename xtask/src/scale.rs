//! `cargo xtask scale`: the tests of clusters, on real ones that are started for them: Ray, Dask
//! and MPI, from the package index, and the Rust face on them (`scale_rust.rs`, `scale_bridge.rs`).
//! Each runs in namespaces of its own, so that nothing listens outside and nothing is left.

use std::process::Command;
use std::time::Duration;

use crate::cargo::run;
use crate::namespaces::{folder_of_tests, in_namespaces};
use crate::venv::Environment;
use crate::{Outcome, python, scale_bridge, scale_rust};

const NAMES: [&str; 3] = ["ray", "dask", "mpi"];
/// The Rust face's tests of MPI, and of Ray and Dask, beside the Python package's.
const RUST: &str = "mpi-rust";
const BRIDGE: &str = "bridge-rust";
/// The ranks of the MPI job: one is the program.
const RANKS: &str = "9";
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// The events of a virtual host or of the program, and the retries of the tasks meanwhile.
const EVENTS: [(&str, &str); 7] =
    [("power", "2"), ("power", "0"), ("cut", "2"), ("cut", "0"), ("pause", "2"), ("pause", "0"), ("driver", "0")];
const OWN: [&str; 4] = ["--slice", "--measure", "--hosts", "--slurm"];

/// The arguments are the clusters (all, if none is said), `--slice` for the tests that the gate
/// runs; in the place of tests, `--measure` for figures, `--hosts` for what happens to virtual
/// hosts, `--slurm` for the recipes for Slurm, where that is installed; and pytest's.
pub(crate) fn run_scale(arguments: &[&str]) -> Outcome {
    let is_rust = |argument: &&str| [RUST, BRIDGE].contains(argument);
    let known = |argument: &&str| NAMES.contains(argument) || OWN.contains(argument) || is_rust(argument);
    let (own, others): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|argument| known(argument));
    let is_all = !own.iter().any(|argument| NAMES.contains(argument) || is_rust(argument));
    let is_elsewhere = own.contains(&"--hosts") || own.contains(&"--slurm");
    if (is_all && !is_elsewhere) || own.contains(&RUST) {
        println!("on {RUST}");
        scale_rust::run(own.contains(&"--measure"), if is_all { &[] } else { &others })?;
    }
    let needs_python = |argument: &&str| NAMES.contains(argument) || *argument == BRIDGE;
    if !is_all && !own.iter().any(needs_python) {
        return Ok(());
    }
    let environment = match python::scale_environment() {
        Ok(environment) => environment,
        Err(problem) => {
            let line = problem.lines().next().unwrap_or_default();
            println!(
                "left out: the libraries of clusters cannot be installed here, and their tests do not run ({line})"
            );
            return Ok(());
        }
    };
    if own.contains(&"--slurm") {
        return run_on_slurm(&environment);
    }
    if (is_all && !is_elsewhere) || own.contains(&BRIDGE) {
        println!("on {BRIDGE}");
        let measures = own.contains(&"--measure");
        scale_bridge::run(&environment, measures, if is_all { &[] } else { &others }, |name| {
            isolated(name, &environment)
        })?;
        if !is_all && !own.iter().any(|argument| NAMES.contains(argument)) {
            return Ok(());
        }
    }
    let chosen: Vec<&str> = NAMES.into_iter().filter(|name| own.contains(name)).collect();
    for name in if chosen.is_empty() { NAMES.to_vec() } else { chosen } {
        println!("on {name}");
        if !own.contains(&"--hosts") {
            run(command_on(name, &environment, &own, &others)?, LIMIT)?;
        } else if name != "mpi" {
            // A job of MPI's does not outlive a host.
            for (event, retries) in EVENTS {
                let mut command = isolated(name, &environment)?;
                command.arg("sh").arg(folder_of_tests().join("hosts.sh"));
                command.args([event, retries]).arg(environment.python());
                run(command, LIMIT)?;
            }
        }
    }
    Ok(())
}

/// Runs the recipes for Slurm on one that is started for them.
fn run_on_slurm(environment: &Environment) -> Outcome {
    if Command::new("slurmctld").arg("-V").output().is_err() {
        println!("left out: Slurm is not installed (Debian: slurm-wlm, munge, libpmix2), and its recipes do not run");
        return Ok(());
    }
    let mut command = isolated("slurm", environment)?;
    command.arg("sh").arg(folder_of_tests().join("slurm.sh")).arg(environment.python());
    run(command, LIMIT)
}

/// Returns the command of the tests on a cluster, or of the figures.
fn command_on(name: &str, environment: &Environment, own: &[&str], others: &[&str]) -> Result<Command, String> {
    let mut command = isolated(name, environment)?;
    if name == "mpi" {
        command.arg(environment.program("mpiexec")).args(["--oversubscribe", "-n", RANKS]);
        command.arg(environment.python()).args(["-m", "procession.mpi"]);
    } else {
        command.arg(environment.python());
    }
    if own.contains(&"--measure") {
        command.arg(folder_of_tests().join("measure.py"));
    } else {
        command.args(["-m", "pytest", "--quiet", "--color=no", "--durations=5", "--show-capture=no"]);
        command.arg(folder_of_tests());
        command.args(if own.contains(&"--slice") { &["-m", "not long"][..] } else { &[] }).args(others);
    }
    Ok(command)
}

/// Returns a command that runs what is appended to it in namespaces of its own, with the programs
/// of the environment.
fn isolated(name: &str, environment: &Environment) -> Result<Command, String> {
    let mut command = in_namespaces(name)?;
    command.env("PROCESSION_TEST_CLUSTER", name).env_remove("LD_LIBRARY_PATH").env_remove("PYTHONPATH");
    // Programs that the tests start find those of the environment.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", environment.folder().join("bin").display()));
    Ok(command)
}
