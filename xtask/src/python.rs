//! The package in a virtual environment, for tests and benchmarks, and its tests. A step whose
//! input has not changed is not repeated: each step writes a stamp of its input at its end, so that
//! an interrupted step is repeated.

use std::path::Path;
use std::time::Duration;

use crate::cargo::{run, target};
use crate::stamp::{read as read_stamp, write};
use crate::venv::{Environment, made, read};
use crate::{Outcome, cargo, interpreter, wheel};

const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// Returns the environment of the tests, with the current package. `version` is as in `3.12`;
/// without one it is that of the first `python3`.
pub(crate) fn environment(version: Option<&str>) -> Result<Environment, String> {
    let folder = cargo::root().join("tests").join("python");
    let (environment, is_new) = made(version, "", &folder.join("requirements.txt"))?;
    install_each(&environment, is_new, &folder.join("libraries.txt"))?;
    install_package(&environment)?;
    Ok(environment)
}

/// Installs the requirements in a file, one by one. A requirement that does not install on this
/// Python is left out.
fn install_each(environment: &Environment, is_new: bool, file: &Path) -> Outcome {
    let wanted = read(file)?;
    let stamp = environment.folder().join(file.with_extension("stamp").file_name().unwrap_or_default());
    if !is_new && read_stamp(&stamp) == wanted {
        return Ok(());
    }
    for line in wanted.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Err(problem) = run(environment.pip(&[line]), INSTALL_LIMIT) {
            println!("left out: {line} does not install here ({problem})");
        }
    }
    write(&stamp, &wanted)
}

/// Returns the environment of the benchmarks: the package, and the rivals that install on this
/// Python.
pub(crate) fn bench_environment(version: Option<&str>) -> Result<Environment, String> {
    let folder = cargo::root().join("benches").join("python");
    let (environment, is_new) = made(version, "bench-", &folder.join("requirements.txt"))?;
    install_each(&environment, is_new, &folder.join("rivals.txt"))?;
    install_package(&environment)?;
    Ok(environment)
}

/// Returns the environment of the tests of clusters, with the current package.
pub(crate) fn scale_environment() -> Result<Environment, String> {
    let requirements = cargo::root().join("tests").join("remote").join("requirements.txt");
    let (environment, _) = made(None, "scale-", &requirements)?;
    install_package(&environment)?;
    Ok(environment)
}

/// Returns an error that says what the Python steps lack, before anything long begins.
pub(crate) fn check() -> Outcome {
    let found = interpreter::find(None)?;
    println!("Python {}: {}", found.version, found.program.display());
    Ok(())
}

/// Checks that ruff has nothing to say of the Python sources and has formatted them.
pub(crate) fn lint() -> Outcome {
    const LIMIT: Duration = Duration::from_secs(60);
    let environment = environment(None)?;
    run(environment.command(&["-m", "ruff", "check", "--quiet", "--no-cache"]), LIMIT)?;
    run(environment.command(&["-m", "ruff", "format", "--check", "--quiet", "--no-cache"]), LIMIT)
}

/// Checks that the types of the package's sources, and the stub of its engine, describe the
/// installed package; and that mypy accepts those sources, and a program that uses the package.
pub(crate) fn types() -> Outcome {
    const LIMIT: Duration = Duration::from_secs(5 * 60);
    const STUBTEST: [&str; 7] = [
        "-m",
        "mypy.stubtest",
        "procession",
        "--allowlist",
        "tests/python/stubtest.txt",
        "--mypy-config-file",
        "pyproject.toml",
    ];
    let environment = environment(None)?;
    run(environment.command(&STUBTEST), LIMIT)?;
    // Each with a cache of its own: one is of the sources, the other of what is installed.
    for (name, checked) in
        [("types", "crates/procession-python/python/procession"), ("sample", "tests/python/typed_sample.py")]
    {
        let cache = format!("--cache-dir={}", target().join("python").join(name).display());
        run(environment.command(&["-m", "mypy", "--strict", &cache, checked]), LIMIT)?;
    }
    Ok(())
}

/// Builds the wheel and installs it, unless it is installed already.
fn install_package(environment: &Environment) -> Outcome {
    let (wheel, made_from) = wheel::build()?;
    let stamp = environment.folder().join("package.stamp");
    if read_stamp(&stamp) != made_from {
        run(environment.pip(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()]), INSTALL_LIMIT)?;
        write(&stamp, &made_from)?;
    }
    Ok(())
}
