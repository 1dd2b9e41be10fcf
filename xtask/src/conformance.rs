//! `cargo xtask conformance`: runs the standard library's own tests on procession. Python programs
//! in `tests/conformance/` do the running; this finds the interpreters and the package for them.

use std::path::PathBuf;
use std::process::Command;

use crate::{Outcome, cargo, python};

const VERSIONS: [&str; 3] = ["3.11", "3.12", "3.13"];
const METHODS: [&str; 3] = ["fork", "spawn", "forkserver"];

const USAGE: &str = "it takes [--python 3.11] [--method fork|spawn|forkserver] [-k PATTERN] [--main] [--futures] [--executor] [--all] \
                     [--stdlib] [--break Pool.METHOD] [--jobs N] [--limit SECONDS]";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let request = Request::parse(arguments)?;
    let interpreters: Vec<PathBuf> = if request.versions.is_empty() {
        vec![interpreter(None)?]
    } else {
        request.versions.iter().map(|version| interpreter(Some(version))).collect::<Result<_, _>>()?
    };
    let runner = cargo::root().join("tests").join("conformance").join("run.py");
    let mut command = Command::new(&interpreters[0]);
    command.arg(runner).current_dir(cargo::root()).env_remove("LD_LIBRARY_PATH").env_remove("PYTHONPATH");
    for interpreter in &interpreters {
        command.arg("--interpreter").arg(interpreter);
    }
    command.args(&request.terms);
    // Each test has its own limit, so this ends. If it were ended from here, it would leave its
    // processes.
    let status = command.status().map_err(|error| format!("cannot run the tests: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the standard library's tests did not end as they should; see above".into())
    }
}

/// Runs them as a step of the gate: every start method, on the Python of the other tests, if that
/// has the standard library's tests.
pub(crate) fn test() -> Outcome {
    run(&["--if-there"])
}

/// The command line, as `run.py` gets it.
#[derive(Debug, PartialEq)]
struct Request<'a> {
    versions: Vec<&'a str>,
    terms: Vec<&'a str>,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self, String> {
        let mut request = Self { versions: Vec::new(), terms: Vec::new() };
        let mut arguments = arguments.iter().copied();
        while let Some(name) = arguments.next() {
            match name {
                "--all" => {
                    request.versions.extend(VERSIONS);
                    request.terms.extend(METHODS.iter().flat_map(|method| ["--method", method]));
                    request.terms.extend(["--main", "--futures"]);
                }
                "--stdlib" | "--main" | "--futures" | "--executor" | "--if-there" => request.terms.push(name),
                "--python" => request.versions.push(arguments.next().ok_or(USAGE)?),
                "--method" | "-k" | "--break" | "--jobs" | "--limit" => {
                    request.terms.extend([name, arguments.next().ok_or(USAGE)?]);
                }
                _ => return Err(format!("{name} is not known: {USAGE}")),
            }
        }
        Ok(request)
    }
}

/// Returns the Python of this version, as in `3.12`, with the current package installed.
fn interpreter(version: Option<&str>) -> Result<PathBuf, String> {
    Ok(python::environment(version)?.python())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_handed_on() {
        let request = Request::parse(&["--method", "spawn", "--python", "3.12", "-k", "Pool"]).unwrap();
        assert_eq!(request, Request { versions: vec!["3.12"], terms: vec!["--method", "spawn", "-k", "Pool"] });
    }

    #[test]
    fn all_is_every_version_and_kind() {
        let request = Request::parse(&["--all"]).unwrap();
        assert_eq!(request.versions, VERSIONS);
        assert!(request.terms.ends_with(&["--method", "forkserver", "--main", "--futures"]), "{:?}", request.terms);
    }

    #[test]
    fn unknown_or_incomplete_argument_is_an_error() {
        assert!(Request::parse(&["--pyhton", "3.12"]).unwrap_err().contains("--pyhton is not known"));
        assert!(Request::parse(&["--method"]).is_err());
    }
}
