//! Commands that run in namespaces of their own, as root: nothing that they start listens outside,
//! and nothing of it is left. Called by `scale` and `scale_rust`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{self, target};

/// Returns a command that runs what is appended to it in namespaces of its own. `name` is that of
/// the folder for its temporary files.
pub(crate) fn in_namespaces(name: &str) -> Result<Command, String> {
    let folder = target().join("scale").join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let mut command = Command::new("unshare");
    command.args(["-n", "-p", "-f", "-m", "-i", "--mount-proc", "--kill-child", "sh"]);
    command.arg(folder_of_tests().join("isolated.sh")).arg(&folder).current_dir(cargo::root());
    Ok(command)
}

/// Returns the folder of the tests of clusters.
pub(crate) fn folder_of_tests() -> PathBuf {
    cargo::root().join("tests").join("remote")
}
