//! Programs and tests that cargo builds in other ways than this one: optimised, with shared objects
//! of Rust's own kind, under another test runner. They are no step of the gate, because each
//! compiles everything again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use procession_testing::{once, run, skip, tests, watchdog};

fn main() {
    run(tests! {
        once: [
            optimised_programs_keep_their_entry,
            functions_of_two_shared_objects_run_in_children,
            tests_under_nextest_start_processes,
        ],
    })
}

/// The time that cargo may take to build a program from cold.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The linker drops what nothing refers to, and link-time optimisation even more.
fn optimised_programs_keep_their_entry() {
    watchdog::extend_limit(BUILD_LIMIT);
    let folder = tempfile::tempdir().unwrap();
    for (lto, units) in [("fat", 1), ("off", 16)] {
        let mut build = cargo();
        build.args(["build", "--release", "--package", "procession-test-library", "--bin", "plain"]);
        build.arg("--config").arg(format!("profile.release.lto={lto:?}"));
        build.arg("--config").arg(format!("profile.release.codegen-units={units}"));
        build.args(["--config", "profile.release.debug=false", "--config", "profile.release.opt-level=1"]);
        output_of(build.arg("--target-dir").arg(target().join("libraries")));
        let program = folder.path().join(lto);
        std::fs::copy(target().join("libraries/release/plain"), &program).unwrap();
        assert_eq!(output_of(&mut Command::new(program)), "spawn: 328350\nforkserver: 328350\n", "{lto}");
    }
}

/// The engine is in a `dylib` of Rust's, and the functions are there and in the program.
fn functions_of_two_shared_objects_run_in_children() {
    watchdog::extend_limit(BUILD_LIMIT);
    let mut run = cargo();
    run.env("RUSTFLAGS", "-C prefer-dynamic").args(["run", "--quiet", "--manifest-path", "testing/dylib/Cargo.toml"]);
    let said = output_of(run.arg("--target-dir").arg(target().join("dylib")));
    let expected = ["fork", "spawn", "forkserver"].map(|method| format!("{method}: 328350 [0, 1, 8, 27] 5\n"));
    assert_eq!(said, expected.concat());
}

fn tests_under_nextest_start_processes() {
    if !cargo().args(["nextest", "--version"]).output().unwrap().status.success() {
        skip("cargo-nextest is not installed");
    }
    watchdog::extend_limit(BUILD_LIMIT);
    let mut tests = cargo();
    tests.args(["nextest", "run", "--package", "procession", "--test", "startup_in_tests", "--no-fail-fast"]);
    output_of(tests.arg("--target-dir").arg(target()));
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // Of the cargo that runs this test.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CARGO_") || name == "RUSTFLAGS" {
            cargo.env_remove(name);
        }
    }
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        cargo.env("CARGO_HOME", home);
    }
    cargo
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_plain")).ancestors().nth(2).unwrap().to_owned()
}

fn output_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
