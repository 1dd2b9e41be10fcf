//! `cargo xtask check-targets`: type-checks `procession` for platforms that it does not support,
//! where it promises to compile and to refuse at run time. It needs no linker and no machine of
//! these platforms, but it needs the standard library, built for the target, or its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Outcome, cargo};

const TARGETS: [&str; 3] = ["aarch64-apple-darwin", "x86_64-unknown-freebsd", "x86_64-unknown-linux-musl"];

/// The limit for one target, with the standard library built before it.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The folder of a distribution's toolchain, which rustup's hides in PATH.
const SYSTEM: &str = "/usr/bin";

pub(crate) fn run() -> Outcome {
    let toolchains: Vec<Toolchain> =
        [Toolchain::in_path(), Toolchain::in_folder(SYSTEM)].into_iter().flatten().collect();
    for target in TARGETS {
        let chosen = toolchains.iter().find_map(|toolchain| Some((toolchain, toolchain.standard_library(target)?)));
        let (toolchain, library) = chosen.ok_or_else(|| missing(target))?;
        println!("== {target}, by {}", toolchain.rustc.display());
        cargo::run(toolchain.check(target, library), LIMIT).map_err(|problem| format!("{target}: {problem}"))?;
    }
    Ok(())
}

fn missing(target: &str) -> String {
    format!(
        "no Rust toolchain here has the standard library for {target}: rustup target add {}, or on Debian and Ubuntu \
         apt install rustc-web cargo-web rust-web-src",
        TARGETS.join(" ")
    )
}

/// A compiler and its sysroot.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// The folder that alone is searched for programs; without one, PATH as it is.
    folder: Option<PathBuf>,
    sysroot: PathBuf,
}

/// In which form a toolchain has the standard library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StandardLibrary {
    Built,
    Sources,
}

impl Toolchain {
    fn in_path() -> Option<Toolchain> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        Some(Toolchain { cargo, sysroot: sysroot(Path::new("rustc"))?, rustc: "rustc".into(), folder: None })
    }

    fn in_folder(folder: &str) -> Option<Toolchain> {
        let folder = PathBuf::from(folder);
        let (cargo, rustc) = (folder.join("cargo"), folder.join("rustc"));
        if !cargo.exists() {
            return None;
        }
        Some(Toolchain { cargo, sysroot: sysroot(&rustc)?, rustc, folder: Some(folder) })
    }

    fn standard_library(&self, target: &str) -> Option<StandardLibrary> {
        let rustlib = self.sysroot.join("lib").join("rustlib");
        if rustlib.join(target).join("lib").is_dir() {
            return Some(StandardLibrary::Built);
        }
        let sources = rustlib.join("src").join("rust").join("library").join("std");
        sources.is_dir().then_some(StandardLibrary::Sources)
    }

    fn check(&self, target: &str, library: StandardLibrary) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(["check", "--locked", "--package", "procession", "--target", target]).current_dir(cargo::root());
        command.env("RUSTC", &self.rustc).env("CARGO_TARGET_DIR", cargo::target().join("check-targets"));
        if let Some(folder) = &self.folder {
            command.env("PATH", folder);
        }
        if library == StandardLibrary::Sources {
            // A released compiler refuses -Z without the variable.
            command.arg("-Zbuild-std").env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Returns the compiler's sysroot; `None` if the program is no compiler.
fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;

    #[test]
    fn built_library_is_preferred_to_sources() {
        let sysroot = tempfile::tempdir().unwrap();
        let rustlib = sysroot.path().join("lib/rustlib");
        let toolchain =
            Toolchain { cargo: "cargo".into(), rustc: "rustc".into(), folder: None, sysroot: sysroot.path().into() };
        assert_eq!(toolchain.standard_library(TARGETS[0]), None);
        create_dir_all(rustlib.join("src/rust/library/std")).unwrap();
        assert_eq!(toolchain.standard_library(TARGETS[0]), Some(StandardLibrary::Sources));
        create_dir_all(rustlib.join(TARGETS[0]).join("lib")).unwrap();
        assert_eq!(toolchain.standard_library(TARGETS[0]), Some(StandardLibrary::Built));
        assert_eq!(toolchain.standard_library(TARGETS[1]), Some(StandardLibrary::Sources));
    }

    #[test]
    fn folder_without_a_toolchain_is_passed_over() {
        assert!(Toolchain::in_folder("/nonexistent").is_none());
    }
}
