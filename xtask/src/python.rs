//! Python for the project's commands: finds a Python, makes a virtual environment of it below `target/python`, and installs
//! the package there. Called by `test`, `bench` and `demo`. What has not changed is not done again: each step
//! leaves a stamp that says from what it was made, written last, so that one cut short is repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cargo::{run, target};
use crate::stamp::{read as read_stamp, write};
use crate::{Outcome, cargo, wheel};

/// The oldest minor version of Python 3 that the package is for.
const OLDEST: u32 = 11;
const NEWEST_NAMED: u32 = 16;

const VENV_LIMIT: Duration = Duration::from_secs(3 * 60);
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A virtual environment.
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Its interpreter.
    pub(crate) fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// A command that runs its interpreter with these arguments, in the workspace's root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.python());
        // What cargo says to the programs that it runs is not meant for these.
        command.args(arguments).current_dir(cargo::root()).env_remove("LD_LIBRARY_PATH").env_remove("PYTHONPATH");
        command
    }

    /// A program that is installed in it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn pip(&self, arguments: &[&str]) -> Command {
        let fixed = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--prefer-binary"];
        self.command(&[&fixed[..], arguments].concat())
    }
}

/// The environment of the tests, with the package as it is now. `version` is as in `3.12`; none is that of the
/// `python3` that is found first.
pub(crate) fn environment(version: Option<&str>) -> Result<Environment, String> {
    let folder = cargo::root().join("tests").join("python");
    let (environment, is_new) = made(version, "", &folder.join("requirements.txt"))?;
    install_each(&environment, is_new, &folder.join("libraries.txt"))?;
    install_package(&environment)?;
    Ok(environment)
}

/// Installs what the lines of a file name, one by one: what does not install on this Python is left out.
fn install_each(environment: &Environment, is_new: bool, file: &Path) -> Outcome {
    let wanted = read(file)?;
    let stamp = environment.folder.join(file.with_extension("stamp").file_name().unwrap_or_default());
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

/// The environment of the benchmarks: the package, and those rivals that install on this Python.
pub(crate) fn bench_environment(version: Option<&str>) -> Result<Environment, String> {
    let folder = cargo::root().join("benches").join("python");
    let (environment, is_new) = made(version, "bench-", &folder.join("requirements.txt"))?;
    install_each(&environment, is_new, &folder.join("rivals.txt"))?;
    install_package(&environment)?;
    Ok(environment)
}

/// Says at once what is missing for the Python steps, before anything long begins.
pub(crate) fn check() -> Outcome {
    let found = find(None)?;
    println!("Python {}: {}", found.version, found.program.display());
    Ok(())
}

/// The tests below tests/python, against the installed wheel. The arguments are a version, as in `3.12`, and pytest's.
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

/// Whether the stubs say what the installed package is, and mypy accepts a program that uses them.
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

/// An interpreter that can make environments.
struct Found {
    program: PathBuf,
    /// As in 3.12.1.
    version: String,
}

impl Found {
    /// As in 3.12.
    fn minor(&self) -> &str {
        self.version.rsplit_once('.').map_or(&self.version, |(minor, _)| minor)
    }
}

/// What an interpreter says of itself when asked.
enum Answer {
    Python {
        found: Found,
        minor: u32,
        is_free_threaded: bool,
        has_venv: bool,
    },
    /// There is none of this name, or it does not run: a shim of a version manager, for instance.
    Nothing,
}

fn find(version: Option<&str>) -> Result<Found, String> {
    let mut others = Vec::new();
    for candidate in candidates(version) {
        let Answer::Python { found, minor, is_free_threaded, has_venv } = ask(&candidate) else { continue };
        let shown = format!("{} is {}", found.program.display(), found.version);
        if version.is_some_and(|version| version != found.minor()) || minor < OLDEST {
            others.push(shown);
        } else if is_free_threaded {
            others.push(format!("{shown} without the global lock, for which an abi3 wheel cannot be built"));
        } else if !has_venv {
            others.push(format!("{shown} without `venv` and `ensurepip`: apt install python{}-venv", found.minor()));
        } else {
            return Ok(found);
        }
    }
    let wanted = version.map_or(format!("3.{OLDEST} or later"), str::to_owned);
    others.dedup();
    let others = if others.is_empty() { "no `python3` is in PATH".into() } else { others.join(", ") };
    Err(format!(
        "Python {wanted} with its venv module is missing ({others}). Install one (Debian and Ubuntu: apt install python3 \
         python3-venv) and put it in PATH"
    ))
}

/// Programs that may be what is wanted, the likeliest first: `python3`, then those that name their version, in PATH and
/// among pyenv's.
fn candidates(version: Option<&str>) -> Vec<PathBuf> {
    let minors: Vec<String> = match version {
        Some(version) => vec![version.to_owned()],
        None => (OLDEST..=NEWEST_NAMED).rev().map(|minor| format!("3.{minor}")).collect(),
    };
    let mut candidates = vec![PathBuf::from("python3")];
    candidates.extend(minors.iter().map(|minor| PathBuf::from(format!("python{minor}"))));
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or_else(home);
    let versions = pyenv.and_then(|pyenv| fs::read_dir(pyenv.join("versions")).ok());
    let mut installed: Vec<_> = versions.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    installed.sort();
    for minor in &minors {
        let is_of = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{minor}.")))
        };
        candidates.extend(installed.iter().filter(is_of).map(|path| path.join("bin").join("python3")));
    }
    candidates
}

fn ask(program: &Path) -> Answer {
    const QUESTION: &str = "\
import sys, sysconfig, importlib.util as util
print(sys.executable)
print('%d.%d.%d' % sys.version_info[:3])
print(int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))
print(int(all(util.find_spec(name) for name in ('venv', 'ensurepip'))))
";
    let Ok(output) = Command::new(program).args(["-I", "-c", QUESTION]).output() else { return Answer::Nothing };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [program, version, is_free_threaded, has_venv] = lines[..] else { return Answer::Nothing };
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let minor = if major == 3 { minor } else { 0 };
    Answer::Python {
        found: Found { program: program.into(), version: version.to_owned() },
        minor,
        is_free_threaded: is_free_threaded == "1",
        has_venv: has_venv == "1",
    }
}

/// The environment `target/python/<prefix><version>` with the requirements of a file, and whether it was made anew.
pub(crate) fn made(version: Option<&str>, prefix: &str, requirements: &Path) -> Result<(Environment, bool), String> {
    let found = find(version)?;
    let folder = target().join("python").join(format!("{prefix}{}", found.minor()));
    let environment = Environment { folder: folder.clone() };
    let made_from = format!("{}\n{}\n{}", found.program.display(), found.version, read(requirements)?);
    let stamp = folder.join("environment.stamp");
    if read_stamp(&stamp) == made_from {
        return Ok((environment, false));
    }
    println!("making the environment {} of Python {}", folder.display(), found.version);
    let mut venv = Command::new(&found.program);
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    run(venv, VENV_LIMIT).map_err(|problem| {
        format!("{problem}\nthe virtual environment was not made: does this Python have its venv module (Debian and Ubuntu: \
                 python{}-venv), and is there room on the disk?", found.minor())
    })?;
    run(environment.pip(&["--requirement", &requirements.to_string_lossy()]), INSTALL_LIMIT).map_err(|problem| {
        format!(
            "{problem}\npip installed nothing: it wants to reach a package index, the public one unless pip's \
                 configuration (PIP_INDEX_URL, PIP_FIND_LINKS) names another"
        )
    })?;
    write(&stamp, &made_from)?;
    Ok((environment, true))
}

/// Builds the wheel and installs it, if it is another than the one installed.
fn install_package(environment: &Environment) -> Outcome {
    let (wheel, made_from) = wheel::build()?;
    let stamp = environment.folder.join("package.stamp");
    if read_stamp(&stamp) != made_from {
        run(environment.pip(&["--force-reinstall", "--no-deps", &wheel.to_string_lossy()]), INSTALL_LIMIT)?;
        write(&stamp, &made_from)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_python_is_asked_first() {
        assert_eq!(candidates(None)[0], Path::new("python3"));
        assert_eq!(candidates(Some("3.12"))[..2], [Path::new("python3"), Path::new("python3.12")]);
    }

    #[test]
    fn what_is_no_python_answers_nothing() {
        for program in ["/nonexistent/python3", "true", "false"] {
            assert!(matches!(ask(Path::new(program)), Answer::Nothing), "{program}");
        }
    }

    #[test]
    fn a_missing_version_is_named() {
        let problem = find(Some("3.999")).err().expect("there is no such Python");
        assert!(problem.contains("Python 3.999 with its venv module is missing"), "{problem}");
    }
}
