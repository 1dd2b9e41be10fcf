//! `cargo xtask policy`: what a user of the crates takes on with them. It counts the crates that
//! `procession` brings, packages all crates as for crates.io, and has cargo-deny and
//! cargo-semver-checks look at dependencies and interfaces.
//!
//! The last two are programs that take minutes to compile. They run where they are installed:
//! `cargo install --locked cargo-deny cargo-semver-checks`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io};

use crate::{Outcome, cargo};

/// The most crates that `procession` may bring by default, itself and the crates of this project
/// included, and the most of these that may be others'.
const MAX_CRATES: usize = 20;
const MAX_THIRD_PARTY: usize = 15;

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// The crates of which an interface is promised.
const PROMISED: [&str; 1] = ["procession"];

pub(crate) fn run() -> Outcome {
    count_crates()?;
    let folder = cargo::target().join("publish");
    forget_packages(&folder)?;
    let mut publish = cargo::cargo(&["publish", "--workspace", "--dry-run", "--allow-dirty"]);
    publish.env("CARGO_TARGET_DIR", folder);
    cargo::run(publish, LIMIT)?;
    check_dependencies()?;
    check_interfaces()
}

/// Removes what an earlier run has compiled and unpacked of our packages: cargo takes both for all
/// that this version will ever be.
fn forget_packages(compiled: &Path) -> Outcome {
    let cannot = |path: &Path, error: io::Error| format!("cannot remove {}: {error}", path.display());
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).unwrap_or_default();
    let within = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut old = vec![compiled.to_owned()];
    // The registry that cargo makes for a dry run has no host in its name.
    for registry in within(&home.join("registry").join("src")).filter(|path| name_of(path).starts_with('-')) {
        old.extend(within(&registry).filter(|path| name_of(path).starts_with("procession")));
    }
    for path in old.iter().filter(|path| path.exists()) {
        fs::remove_dir_all(path).map_err(|error| cannot(path, error))?;
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Prints the processor time of a first `cargo check` of a program that depends on `procession`
/// alone. It is the compiler's for all crates, and hardly depends on how many cores there are.
pub(crate) fn time() -> Outcome {
    let folder = cargo::target().join("policy");
    let cannot = |what: &str| format!("cannot {what} below {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", cannot("remove what is left")))?;
    }
    fs::create_dir_all(folder.join("src")).map_err(|error| format!("{}: {error}", cannot("make a package")))?;
    let manifest = format!(
        "[package]\nname = \"alone\"\nedition = \"2024\"\n[dependencies]\nprocession.path = {:?}\n[workspace]\n",
        cargo::root().join("crates").join("procession")
    );
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| format!("{}: {error}", cannot("make a package")))
    };
    write("Cargo.toml", &manifest)?;
    write("src/main.rs", "fn main() {\n    procession::init();\n}\n")?;
    fs::copy(cargo::root().join("Cargo.lock"), folder.join("Cargo.lock"))
        .map_err(|error| format!("{}: {error}", cannot("copy Cargo.lock")))?;
    let mut check = cargo::cargo(&["check"]);
    check.current_dir(&folder).env("CARGO_TARGET_DIR", folder.join("target"));
    let before = children_time()?;
    cargo::run(check, LIMIT)?;
    println!("cargo check of a program that depends on procession alone: {:.1} CPU seconds", children_time()? - before);
    Ok(())
}

fn count_crates() -> Outcome {
    let text =
        output(cargo::cargo(&["tree", "--package", "procession", "--edges", "normal,build", "--prefix", "none"]))?;
    let (all, third_party) = counted(&text);
    println!("procession brings {all} crates by default, {third_party} of them of others");
    if all > MAX_CRATES || third_party > MAX_THIRD_PARTY {
        return Err(format!(
            "a program that depends on procession alone compiles {all} crates, {third_party} of them of others; {MAX_CRATES} \
             and {MAX_THIRD_PARTY} are allowed: do without a dependency, or put it behind a feature (xtask/src/policy.rs)"
        ));
    }
    Ok(())
}

/// Returns the number of crates in a tree of cargo's, and how many of them do not lie in this
/// repository.
fn counted(tree: &str) -> (usize, usize) {
    // `name v1.0.0`, then the path or what kind of crate it is; `(*)` if it came before.
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let crates = crates.into_iter().filter(|line| !line.is_empty());
    let (own, others): (Vec<_>, Vec<_>) = crates.partition(|line| line.contains(" (/"));
    (own.len() + others.len(), others.len())
}

fn check_dependencies() -> Outcome {
    if !is_installed("deny")? {
        println!("cargo-deny is not installed; the licences and sources of dependencies are not checked");
        return Ok(());
    }
    // Known vulnerabilities (`advisories`) come from a repository on the network: a job of their
    // own in continuous integration looks at them.
    cargo::run(cargo::cargo(&["deny", "check", "bans", "licenses", "sources"]), LIMIT)
}

fn check_interfaces() -> Outcome {
    if !is_installed("semver-checks")? {
        println!("cargo-semver-checks is not installed; interfaces are not compared with the last release's");
        return Ok(());
    }
    let mut tags = Command::new("git");
    tags.args(["tag", "--list", "v*", "--merged", "HEAD", "--sort=-version:refname"]).current_dir(cargo::root());
    let tags = output(tags)?;
    let Some(last) = tags.lines().next() else {
        println!("there is no release (a tag v*) yet whose interfaces could be compared");
        return Ok(());
    };
    for package in PROMISED {
        let arguments = ["semver-checks", "--package", package, "--baseline-rev", last];
        cargo::run(cargo::cargo(&arguments), LIMIT)?;
    }
    Ok(())
}

fn is_installed(command: &str) -> Result<bool, String> {
    let list = output(cargo::cargo(&["--list"]))?;
    Ok(list.lines().any(|line| line.split_whitespace().next() == Some(command)))
}

fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{command:?} wrote what is no text"))
}

/// The processor time of this process's children that have ended, in seconds.
fn children_time() -> Result<f64, String> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat =
        fs::read_to_string("/proc/self/stat").map_err(|error| format!("cannot read /proc/self/stat: {error}"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    // cutime and cstime, behind the name in parentheses.
    ticks(13)
        .zip(ticks(14))
        .map(|(user, system)| (user + system) / TICKS_PER_SECOND)
        .ok_or("/proc/self/stat is odd".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_a_tree_are_counted_once() {
        let tree = "procession v0.1.0 (/r/crates/procession)\nbytemuck v1.25.2\nserde_derive v1.0.229 (proc-macro)\n\
                    procession-core v0.1.0 (/r/crates/procession-core)\nbytemuck v1.25.2 (*)\n\n";
        assert_eq!(counted(tree), (4, 2));
    }
}
