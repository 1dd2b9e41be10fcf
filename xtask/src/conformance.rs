//! `cargo xtask conformance`: the standard library's own tests, run on procession. The running itself is Python's, in
//! `tests/conformance/`; this finds the interpreters and the package for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, cargo};

const VERSIONS: [&str; 3] = ["3.11", "3.12", "3.13"];
const METHODS: [&str; 3] = ["fork", "spawn", "forkserver"];

/// Of a whole build of the extension module.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What may be said on the command line; what follows a name is handed to `run.py`.
const USAGE: &str = "it takes [--python 3.11] [--method fork|spawn|forkserver] [-k PATTERN] [--main] [--futures] [--all] \
                     [--stdlib] [--break Pool.METHOD] [--jobs N] [--limit SECONDS]";

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let request = Request::parse(arguments)?;
    let interpreters: Vec<Interpreter> =
        request.versions.iter().map(|version| interpreter(version)).collect::<Result<_, _>>()?;
    let runner = cargo::root().join("tests").join("conformance").join("run.py");
    let mut command = Command::new(&interpreters[0].program);
    command.arg(runner).arg("--package").arg(&interpreters[0].package).current_dir(cargo::root());
    for interpreter in &interpreters {
        command.arg("--interpreter").arg(&interpreter.program);
    }
    command.args(&request.terms);
    // Each test has its limit there, so this ends; ended from here it would leave its processes.
    let status = command.status().map_err(|error| format!("cannot run the tests: {error}"))?;
    if status.success() { Ok(()) } else { Err("not as tests/conformance/expected.toml says; see above".into()) }
}

/// The command line, as told to `run.py`.
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
                "--stdlib" | "--main" | "--futures" => request.terms.push(name),
                "--python" => request.versions.push(arguments.next().ok_or(USAGE)?),
                "--method" | "-k" | "--break" | "--jobs" | "--limit" => {
                    request.terms.extend([name, arguments.next().ok_or(USAGE)?]);
                }
                _ => return Err(format!("{name} is not known: {USAGE}")),
            }
        }
        if request.versions.is_empty() {
            request.versions.push(VERSIONS[0]);
        }
        Ok(request)
    }
}

/// A Python, and the folder where it finds the package.
struct Interpreter {
    program: PathBuf,
    package: PathBuf,
}

/// The Python of this version, as in `3.12`, with the package as it is now.
fn interpreter(version: &str) -> Result<Interpreter, String> {
    let mut build = cargo::cargo(&["build", "--quiet", "--release", "--package", "procession-python"]);
    build.env("PYO3_BUILD_EXTENSION_MODULE", "1");
    cargo::run(build, BUILD_LIMIT)?;
    let package = cargo::root().join("crates").join("procession-python").join("python");
    let module = package.join("procession").join("_engine.abi3.so");
    if !module.exists() {
        let built = cargo::root().join("target").join("release").join("lib_engine.so");
        std::os::unix::fs::symlink(&built, &module)
            .map_err(|error| format!("cannot link {}: {error}", module.display()))?;
    }
    let program = programs(version).into_iter().find(|program| is_version(program, version));
    let program = program.ok_or_else(|| format!("Python {version} is neither in PATH nor among pyenv's"))?;
    Ok(Interpreter { program, package })
}

fn programs(version: &str) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let versions = pyenv.and_then(|pyenv| std::fs::read_dir(pyenv.join("versions")).ok());
    let mut programs: Vec<_> =
        versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin").join("python3")).collect();
    programs.sort();
    programs.insert(0, format!("python{version}").into());
    programs
}

fn is_version(program: &Path, version: &str) -> bool {
    let question = "import sys; print('%d.%d' % sys.version_info[:2])";
    let answer = Command::new(program).args(["-I", "-c", question]).output();
    answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_handed_on_and_the_oldest_version_is_the_default() {
        let request = Request::parse(&["--method", "spawn", "-k", "Pool"]).unwrap();
        assert_eq!(request, Request { versions: vec!["3.11"], terms: vec!["--method", "spawn", "-k", "Pool"] });
    }

    #[test]
    fn all_is_every_version_and_kind() {
        let request = Request::parse(&["--all"]).unwrap();
        assert_eq!(request.versions, VERSIONS);
        assert!(request.terms.ends_with(&["--method", "forkserver", "--main", "--futures"]), "{:?}", request.terms);
    }

    #[test]
    fn what_is_not_known_or_not_complete_is_an_error() {
        assert!(Request::parse(&["--pyhton", "3.12"]).unwrap_err().contains("--pyhton is not known"));
        assert!(Request::parse(&["--method"]).is_err());
    }
}
