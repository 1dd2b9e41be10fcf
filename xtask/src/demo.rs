//! `cargo xtask demo`: builds and runs the demo, a program of examples/demo, and then the Python
//! one, examples/python/demo.py, over the same files. Cargo shows the progress of its builds.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, cargo, venv};

/// The number of files of a larger tree that are counted, unless all are asked for.
const MAX_FILES: &str = "3000";
const LIMIT: Duration = Duration::from_secs(60 * 60);

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (is_full, path) = match arguments {
        [] => (false, None),
        ["--full"] => (true, None),
        ["--full", path] | [path, "--full"] => (true, Some(path)),
        [path] => (false, Some(path)),
        _ => return Err("it takes [--full] [PATH]".into()),
    };
    let path = path.map_or_else(default_tree, |path| Ok(PathBuf::from(path)))?;
    let max_files = (!is_full).then_some(MAX_FILES);

    println!("building the demo");
    cargo::run(cargo::cargo(&["build", "--release", "--package", "procession-demo"]), LIMIT)?;
    println!("building the Python package\n");
    cargo::run(cargo::cargo(&["build", "--release", "--package", "procession-python"]), LIMIT)?;

    println!("Rust\n");
    let mut command = Command::new(cargo::target().join("release").join("procession-demo"));
    command.arg(&path).args(max_files);
    cargo::run(command, LIMIT)?;

    println!("Python\n");
    let folder = cargo::root().join("examples").join("python");
    let (environment, _) = venv::made(None, "demo-", &folder.join("requirements.txt"))
        .map_err(|problem| format!("the Python half of the demo did not run: {problem}"))?;
    let mut command = environment.command(&[]);
    command.arg(folder.join("demo.py")).arg(&path).args(max_files);
    command.env("PYTHONPATH", package()?);
    cargo::run(command, LIMIT)
}

/// Returns a folder in which Python finds the package as it lies in the sources, with the engine
/// that was built last.
fn package() -> Result<PathBuf, String> {
    let folder = cargo::target().join("python").join("demo");
    let package = folder.join("procession");
    let failed = |error| format!("cannot make {}: {error}", package.display());
    if package.exists() {
        std::fs::remove_dir_all(&package).map_err(failed)?;
    }
    std::fs::create_dir_all(&package).map_err(failed)?;
    let sources = cargo::root().join("crates/procession-python/python/procession");
    for entry in std::fs::read_dir(&sources).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != "__pycache__" {
            symlink(entry.path(), package.join(entry.file_name())).map_err(failed)?;
        }
    }
    let engine = package.join("_engine.abi3.so");
    if !engine.exists() {
        symlink(cargo::target().join("release").join("lib_engine.so"), engine).map_err(failed)?;
    }
    Ok(folder)
}

/// Returns a tree that every toolchain has: its documentation, or else the sources of the registry.
fn default_tree() -> Result<PathBuf, String> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let docs = sysroot.map(|sysroot| Path::new(sysroot.trim()).join("share").join("doc"));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = cargo_home.map(|home| home.join("registry").join("src"));
    let tree = [docs, sources].into_iter().flatten().find(|path| path.is_dir());
    tree.ok_or_else(|| "neither the toolchain's documentation nor registry sources are here: pass a PATH".into())
}
