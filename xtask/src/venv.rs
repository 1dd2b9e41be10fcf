//! Virtual environments below `target/python`, each made of a file of requirements. Called by every
//! command that runs Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cargo::{run, target};
use crate::stamp::{read as read_stamp, write};
use crate::{cargo, interpreter};

const VENV_LIMIT: Duration = Duration::from_secs(3 * 60);
const INSTALL_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A virtual environment.
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// Returns its interpreter.
    pub(crate) fn python(&self) -> PathBuf {
        self.program("python")
    }

    /// Returns a command that runs its interpreter with these arguments, in the workspace's root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.python());
        // These variables of cargo are for the programs that it runs, and not for these.
        command.args(arguments).current_dir(cargo::root()).env_remove("LD_LIBRARY_PATH").env_remove("PYTHONPATH");
        command
    }

    /// Returns its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a program that is installed in it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    pub(crate) fn pip(&self, arguments: &[&str]) -> Command {
        let fixed = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--prefer-binary"];
        self.command(&[&fixed[..], arguments].concat())
    }
}

/// Returns the environment `target/python/<prefix><version>` with the requirements of a file, and
/// whether it was made anew.
pub(crate) fn made(version: Option<&str>, prefix: &str, requirements: &Path) -> Result<(Environment, bool), String> {
    let found = interpreter::find(version)?;
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

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
