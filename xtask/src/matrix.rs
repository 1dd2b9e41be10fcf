//! `cargo xtask matrix`: runs the tests in other userlands, with another libc and other Pythons, on
//! this machine's kernel. They are the tests of the Rust crates, those of the Python package, and
//! the standard library's own. A slice of it is a step of the gate.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::binaries::{self, Binary};
use crate::cargo::{run as run_command, target};
use crate::results::{self, Row};
use crate::userland::{SUITES, Suite, Userland};
use crate::{Outcome, cargo, wheel};

const USAGE: &str = "it takes [--suite sid|trixie|bullseye]... [--rust] [--python] [--conformance] [--stress SECONDS] \
                     [--bench], or [--suite ...] and names of Rust test binaries";

/// A binary's own watchdog ends a hang sooner.
const RUST_LIMIT: Duration = Duration::from_secs(5 * 60);
const PYTHON_LIMIT: Duration = Duration::from_secs(30 * 60);
const CONFORMANCE_LIMIT: Duration = Duration::from_secs(90 * 60);
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The storms' own watchdog, beyond the time asked for.
const STRESS_SLACK: Duration = Duration::from_secs(3 * 60);

/// Test binaries that cannot run in a userland, and why.
const LEFT_OUT: [(&str, &str); 2] = [
    ("python", "the Rust tests of the extension module are linked against this machine's Python"),
    ("compile_errors", "it runs the compiler, which is not in the userland"),
];

/// The gate's slice: the tests that depend most on the libc and on the version of Python.
const SLICE_SUITE: &str = "sid";
const SLICE: [&str; 4] = ["process", "sync", "queue", "pool_trouble"];

/// The command line.
#[derive(Default, PartialEq, Debug)]
struct Request<'a> {
    suites: Vec<&'a str>,
    is_rust: bool,
    is_python: bool,
    is_conformance: bool,
    /// The benchmarks whose rivals no Python of this machine has.
    is_bench: bool,
    /// Seconds of storms by each start method.
    stress: Option<u64>,
    binaries: Vec<&'a str>,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            match argument {
                "--suite" => {
                    let name = arguments.next().ok_or(USAGE)?;
                    if SUITES.iter().all(|suite| suite.name != name) {
                        return Err(format!("there is no suite {name} here: {USAGE}"));
                    }
                    request.suites.push(name);
                }
                "--rust" => request.is_rust = true,
                "--python" => request.is_python = true,
                "--conformance" => request.is_conformance = true,
                "--bench" => request.is_bench = true,
                "--stress" => {
                    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                    request.stress = Some(seconds.ok_or(USAGE)?);
                }
                name if !name.starts_with('-') => request.binaries.push(name),
                _ => return Err(format!("{argument} is not known: {USAGE}")),
            }
        }
        request.is_rust |= !request.binaries.is_empty();
        let is_named = request.is_rust || request.is_python || request.is_conformance || request.is_bench;
        if !is_named && request.stress.is_none() {
            (request.is_rust, request.is_python, request.is_conformance) = (true, true, true);
        }
        Ok(request)
    }
}

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let request = Request::parse(arguments)?;
    let is_wanted = |suite: &&Suite| request.suites.is_empty() || request.suites.contains(&suite.name);
    let mut rows = Vec::new();
    for suite in SUITES.iter().filter(is_wanted) {
        let place = Place { suite, userland: Userland::whole(suite)? };
        place.introduce();
        if request.is_rust {
            rows.extend(place.rust_tests(&request.binaries)?);
        }
        if let Some(seconds) = request.stress {
            rows.extend(place.storms(seconds)?);
        }
        for version in suite.pythons {
            if request.is_python {
                rows.push(place.python_tests(version, &[])?);
            }
            if request.is_conformance {
                rows.push(place.conformance(version)?);
            }
            if request.is_bench {
                place.bench(version)?;
            }
        }
    }
    results::conclude(&rows)
}

/// Makes the userland of the slice. What hinders it, the slice tells.
pub(crate) fn prepare_slice() {
    drop(Userland::small(slice_suite()));
}

fn slice_suite() -> &'static Suite {
    SUITES.iter().find(|suite| suite.name == SLICE_SUITE).expect("it is one of them")
}

/// Runs the gate's slice. A machine that can make no userland says so and goes on.
pub(crate) fn slice() -> Outcome {
    let suite = slice_suite();
    let place = match Userland::small(suite) {
        Ok(userland) => Place { suite, userland },
        Err(problem) => {
            println!("left out: {problem}");
            return Ok(());
        }
    };
    place.introduce();
    let mut rows = place.rust_tests(&SLICE)?;
    // Once, and not by both.
    wheel::build()?;
    // Side by side, as they wait most of their time.
    thread::scope(|scope| {
        let place = &place;
        let test = |version| scope.spawn(move || place.python_tests(version, &["-k", "forkserver"]));
        let running: Vec<_> = suite.pythons.iter().copied().map(test).collect();
        for tests in running {
            rows.push(tests.join().map_err(|_| "the thread of a Python's tests panicked".to_owned())??);
        }
        Ok::<(), String>(())
    })?;
    results::conclude(&rows)
}

/// A userland in which tests run.
struct Place<'a> {
    suite: &'a Suite,
    userland: Userland,
}

impl Place<'_> {
    /// Prints the versions found in it: some suites move, and may be the cause of a failure.
    fn introduce(&self) {
        println!("\n== {}: {}", self.suite.name, self.userland.first_line(&["ldd", "--version"]));
        for version in self.suite.pythons {
            println!("   {}", self.userland.first_line(&[&format!("python{version}"), "-VV"]));
        }
    }

    fn rust_tests(&self, names: &[&str]) -> Result<Vec<Row>, String> {
        let begun = Instant::now();
        let built = match binaries::built(self.build()?) {
            Ok(built) => built,
            Err(problem) => return Ok(vec![self.row("rust, build", false, problem, begun)]),
        };
        let mut rows = Vec::new();
        let binaries = binaries::chosen(built, names)?;
        for Binary { name, folder, path: binary } in &binaries {
            if let Some((_, reason)) = LEFT_OUT.iter().find(|(its, _)| its == name) {
                println!("left out: {name}: {reason}");
                continue;
            }
            let command = self.userland.command(folder, &[&binary.to_string_lossy()]);
            rows.push(self.run(&format!("rust {name}"), command, RUST_LIMIT, results::summary_of_rust)?);
        }
        Ok(rows)
    }

    /// Returns the command that builds the tests.
    fn build(&self) -> Result<Command, String> {
        if !self.suite.is_linked_against() {
            // The same command as the gate's, so that they are built once.
            return Ok(cargo::cargo(&cargo::TESTS));
        }
        let mut command = cargo::cargo(&["test", "--target", &host()?]);
        for package in ["procession", "procession-core", "procession-shm", "procession-sys"] {
            command.args(["--package", package]);
        }
        command.env("RUSTFLAGS", self.userland.link_flags());
        command.env("CARGO_TARGET_DIR", target().join(self.suite.name));
        Ok(command)
    }

    fn storms(&self, seconds: u64) -> Result<Vec<Row>, String> {
        let build = ["build", "--release", "--package", "procession-stress"];
        run_command(cargo::cargo(&build), BUILD_LIMIT)?;
        let program = target().join("release").join("procession-stress");
        let limit = Duration::from_secs(seconds) + STRESS_SLACK;
        let by_method = |method| {
            let fixed = [&*program.to_string_lossy(), "--seconds", &seconds.to_string(), "--method", method];
            let command = self.userland.command(&cargo::root(), &fixed);
            self.run(&format!("stress {method}"), command, limit, results::summary_of_rust)
        };
        ["fork", "spawn", "forkserver"].into_iter().map(by_method).collect()
    }

    fn python_tests(&self, version: &str, arguments: &[&str]) -> Result<Row, String> {
        let programs = self.userland.environment(version, &wheel::build()?)?;
        let python = programs.join("python");
        let fixed = [&*python.to_string_lossy(), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/python"];
        let command = self.userland.command(&cargo::root(), &[&fixed[..], arguments].concat());
        self.run(&format!("python {version}"), command, PYTHON_LIMIT, results::summary_of_python)
    }

    fn conformance(&self, version: &str) -> Result<Row, String> {
        let programs = self.userland.environment(version, &wheel::build()?)?;
        let python = programs.join("python");
        let python = python.to_string_lossy();
        let folder = logs(self.suite).join("conformance");
        let folder = folder.to_string_lossy();
        let fixed = [&python, "tests/conformance/run.py", "--interpreter", &python, "--results", &folder];
        let command = self.userland.command(&cargo::root(), &fixed);
        self.run(&format!("conformance {version}"), command, CONFORMANCE_LIMIT, results::summary_of_python)
    }

    /// Measures our executor beside that of interpreters, which Python has from 3.14 on, and prints
    /// the table.
    fn bench(&self, version: &str) -> Outcome {
        let programs = self.userland.environment(version, &wheel::build()?)?;
        let python = programs.join("python");
        let out = target().join("bench");
        let (python, out) = (python.to_string_lossy(), out.to_string_lossy());
        let mut command = vec![&*python, "benches/python/bench.py", "--out", &out];
        for row in ["interpreters", "interpreters-in-flight"] {
            command.extend(["--row", row]);
        }
        run_command(self.userland.command(&cargo::root(), &command), PYTHON_LIMIT)
    }

    /// Runs a command inside; its output goes to a file.
    fn run(
        &self,
        program: &str,
        mut command: Command,
        limit: Duration,
        summary: fn(&str) -> String,
    ) -> Result<Row, String> {
        let folder = logs(self.suite);
        fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let path = folder.join(format!("{}.log", program.replace(' ', "-")));
        let unwritable = |error| format!("cannot write {}: {error}", path.display());
        let log = fs::File::create(&path).map_err(unwritable)?;
        command.stdout(log.try_clone().map_err(unwritable)?).stderr(log);
        let begun = Instant::now();
        let ended = run_command(command, limit);
        let printed = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let printed = String::from_utf8_lossy(&printed);
        let row = self.row(program, ended.is_ok(), summary(&printed), begun);
        row.announce(&printed);
        Ok(row)
    }

    fn row(&self, program: &str, is_good: bool, summary: String, begun: Instant) -> Row {
        Row { system: self.suite.name.into(), program: program.into(), is_good, summary, time: begun.elapsed() }
    }
}

fn logs(suite: &Suite) -> PathBuf {
    target().join("matrix").join(suite.name)
}

/// Returns rustc's name for this machine.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("cannot run rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what machine this is".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_runs_unless_something_is_named() {
        let request = Request::parse(&["--suite", "trixie"]).unwrap();
        assert_eq!(request.suites, ["trixie"]);
        assert!(request.is_rust && request.is_python && request.is_conformance);
        for (argument, is_python) in [("--python", true), ("--bench", false)] {
            let request = Request::parse(&[argument]).unwrap();
            assert!(!request.is_rust && request.is_python == is_python && !request.is_conformance);
        }
    }

    #[test]
    fn named_binaries_are_rust_tests() {
        let request = Request::parse(&["sync", "queue"]).unwrap();
        assert_eq!(request.binaries, ["sync", "queue"]);
        assert!(request.is_rust && !request.is_python);
    }

    #[test]
    fn unknown_arguments_are_errors() {
        assert!(Request::parse(&["--suite", "woody"]).unwrap_err().contains("no suite woody"));
        assert!(Request::parse(&["--suite"]).is_err() && Request::parse(&["--pyhton"]).is_err());
    }
}
