//! Runs cargo and other programs, with a time limit, so that a program that hangs is named and
//! ended.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The features that are off by default, but for those that need a library of the system.
pub(crate) const OPTIONAL: &str =
    "procession/auth,procession/futures,procession/landlock,procession/log,procession/seccomp,procession/tracing";

/// The arguments that run the Rust tests. Faults and models have commands of their own.
pub(crate) const TESTS: [&str; 8] =
    ["test", "--workspace", "--exclude", "procession-faults", "--exclude", "procession-models", "--features", OPTIONAL];

/// Returns the workspace's root.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the workspace").to_owned()
}

/// Returns the folder for everything that is built.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Returns a cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end. The error names it if it fails or takes longer than `limit`.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<(), String> {
    let shown = shown(&command);
    let mut child = command.spawn().map_err(|error| format!("cannot run {shown}: {error}"))?;
    match wait(&mut child, limit).map_err(|error| format!("cannot wait for {shown}: {error}"))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{shown}: {status}")),
        None => Err(format!("{shown}: not done after {limit:?}, and ended")),
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn shown(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    format!("{} {}", program.to_string_lossy(), arguments.join(" "))
}
