//! The Python package's tests. Many of them wait most of their time, so the gate runs them in
//! several processes side by side. A test looks what it leaves in /dev/shm, so each process has one
//! of its own, in a mount namespace; where that is refused, one process runs all.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::cargo::{self, run, target};
use crate::venv::Environment;
use crate::{Outcome, python};

const LIMIT: Duration = Duration::from_secs(25 * 60);
/// The processes that share the tests: on two processors, two leave them idle for half of the time.
const PROCESSES: usize = 3;
/// Runs its arguments with an empty /dev/shm.
const APART: &str = r#"mount -t tmpfs tmpfs /dev/shm && exec "$@""#;
const PYTEST: [&str; 5] = ["-m", "pytest", "--quiet", "--durations=10", "--durations-min=1"];

/// Runs the tests against the installed wheel. The arguments are a version, as in `3.12`, and
/// pytest's; without any, all tests run.
pub(crate) fn run_tests(arguments: &[&str]) -> Outcome {
    let (version, arguments) = match arguments {
        [version, arguments @ ..] if version.starts_with("3.") => (Some(*version), arguments),
        _ => (None, arguments),
    };
    let environment = python::environment(version)?;
    if !arguments.is_empty() || !can_be_apart() {
        return run(environment.command(&[&PYTEST[..], arguments].concat()), LIMIT);
    }
    let files = files()?;
    let share = |index: usize| files.iter().skip(index).step_by(PROCESSES).cloned().collect::<Vec<_>>();
    let mut others = Vec::new();
    for index in 1..PROCESSES {
        let path = target().join("python").join(format!("tests-{index}.txt"));
        let output = File::create(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let mut tests = apart(&environment, &share(index));
        tests.stdout(output.try_clone().map_err(|error| error.to_string())?).stderr(Stdio::from(output));
        others.push((path, thread::spawn(move || run(tests, LIMIT))));
    }
    let mut ended = run(apart(&environment, &share(0)), LIMIT);
    for (path, tests) in others {
        ended = ended.and(tests.join().map_err(|_| "a thread that awaits tests panicked".to_owned())?);
        println!("{}", fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    ended
}

/// Returns whether a process may have a /dev/shm of its own.
fn can_be_apart() -> bool {
    let tried =
        Command::new("unshare").args(["--mount", "sh", "-c", APART, "sh", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn apart(environment: &Environment, files: &[PathBuf]) -> Command {
    let pytest = environment.command(&PYTEST);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", APART, "sh"]).arg(pytest.get_program()).args(pytest.get_args()).args(files);
    command.current_dir(cargo::root()).env_remove("LD_LIBRARY_PATH").env_remove("PYTHONPATH");
    command
}

fn files() -> Result<Vec<PathBuf>, String> {
    let folder = cargo::root().join("tests").join("python");
    let entries = fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("test_") && name.ends_with(".py") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
