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

/// Returns an error that says what the Python steps lack, before anything long begins.
pub(crate) fn check() -> Outcome {
    let found = interpreter::find(None)?;
    println!("Python {}: {}", found.version, found.program.display());
    Ok(())
}

/// Runs the tests below tests/python, against the installed wheel. The arguments are a version, as
/// in `3.12`, and pytest's.
pub(crate) fn test(arguments: &[&str]) -> Outcome {
    const LIMIT: Duration = Duration::from_secs(15 * 60);
    let (version, arguments) = match arguments {
        [version, arguments @ ..] if version.starts_with("3.") => (Some(*version), arguments),
        _ => (None, arguments),
    };
    let environment = environment(version)?;
    let fixed = ["-m", "pytest", "--quiet", "--durations=10", "--durations-min=1"];
    run(environment.command(&[&fixed[..], arguments].concat()), LIMIT)
}

/// Checks that the stubs describe the installed package, and that mypy accepts a program that uses
/// them.
pub(crate) fn stubtest() -> Outcome {
    const LIMIT: Duration = Duration::from_secs(5 * 60);
    let environment = environment(None)?;
    run(
        environment.command(&["-m", "mypy.stubtest", "procession", "--allowlist", "tests/python/stubtest.txt"]),
        LIMIT,
    )?;
    let cache = format!("--cache-dir={}", target().join("python").join("mypy").display());
    run(environment.command(&["-m", "mypy", "--strict", &cache, "tests/python/typed_sample.py"]), LIMIT)
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
