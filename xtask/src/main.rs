//! The project's own commands, `cargo xtask COMMAND`. Each command is a file.

mod bench;
mod binaries;
mod cargo;
mod check_targets;
mod conformance;
mod debian;
mod demo;
mod initramfs;
mod interpreter;
mod machine;
mod matrix;
mod namespaces;
mod policy;
mod python;
mod python_tests;
mod results;
mod scale;
mod scale_bridge;
mod scale_rust;
mod soak;
mod stamp;
mod stress;
mod test;
mod tidy;
mod userland;
mod venv;
mod vm;
mod wheel;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  demo [--full] [PATH]
                  what procession does, in Rust and in Python, in half a minute: a worker is killed, an array crosses, a slow
                  task is ended, and the words of the files below PATH are counted (of the Rust toolchain's documentation, if
                  no PATH is said); --full counts all files, and not 3000 of them
  tidy            rules of the source that need no compiler: layers, import circles, prose, commit subjects; part of test
  policy          how many crates a user of procession compiles; whether the crates can be published; licences and sources of
                  dependencies (cargo-deny) and broken interfaces since the last release (cargo-semver-checks), where these are
                  installed; part of test
  policy --time   the processor time of `cargo check` for a program that depends on procession alone
  test            formatting, lints, docs and every test, Rust's and Python's: what continuous integration runs
  test --python [3.12] [ARGUMENT...]
                  those of the Python package alone, on another version if one is said; the arguments are pytest's
  bench [--pairs N] [ROW...]
                  measure beside procspawn and rayon, print a table, write target/bench/rust.json; ROW chooses rows by
                  a part of their name, and then nothing is written; N pairs of runs for each row
  bench --python [--pairs N] [--row NAME]...
                  the Python package beside multiprocessing, ProcessPoolExecutor, loky, billiard, mpire and pebble; writes
                  target/bench/python.json and python.png; --row chooses a row, and then nothing is written
  conformance [--python 3.12] [--method fork|spawn|forkserver] [-k PATTERN] [--main] [--futures] [--all] [--stdlib]
                  the standard library's own tests of multiprocessing, run on procession: by all methods unless said
                  otherwise; --main and --futures: main modules, and executors; --all: everything on each version;
                  --stdlib: on the standard library, to compare
  wheel           build the Python package's wheel and check that it works from glibc 2.28 on; prints where it is
  check-targets   type-check procession for macOS, FreeBSD and Linux with musl, where it compiles and refuses at run time;
                  needs a toolchain with their standard libraries or its sources
  matrix [--suite sid|trixie|bullseye]... [--rust] [--python] [--conformance] [--stress N] [--bench] [BINARY...]
                  the tests with another libc and other Pythons, in userlands of Debian's suites that are made below
                  target/userlands (as root): Rust's, the Python package's and the standard library's, unless some are
                  chosen; BINARY chooses Rust test binaries by name; --stress: storms of N seconds by each start method;
                  --bench: the executor beside that of interpreters
  vm aarch64|5.10|6.1 [BINARY...]
                  the Rust tests on another processor or kernel, which qemu emulates
  stress --seconds N [--method fork|spawn|forkserver] [--seed S] [--only STORM]
                  storms of SIGKILL, SIGSTOP and SIGCONT over everything; a storm that fails says its seed
  scale [ray|dask|mpi|mpi-rust|bridge-rust]... [--slice] [--measure] [--hosts] [--slurm] [ARGUMENT...]
                  the tests of clusters on real ones, which are installed below target/python and started for them, as root;
                  mpi-rust: the Rust face's, on the system's MPI library; bridge-rust: those on Ray and Dask; their arguments
                  choose tests by their names;
                  --slice: those of the gate; --measure: figures beside the clusters' own; --hosts: of three virtual hosts one
                  loses its power, its cable, or is stopped under 10,000 tasks, or the program is killed; --slurm: the recipes
                  for Slurm; the arguments are pytest's
  soak [--calls N]
                  each public call of both faces N times (10000), and a look whether anything grows

What needs Python (the demo's second half, test, bench --python) takes the first python3 of 3.11 or later in PATH and makes
its own virtual environment below target/python.
";

/// A command's outcome; the text says what to do.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["demo", ref arguments @ ..] => demo::run(arguments),
        ["tidy"] => tidy::run(),
        ["policy"] => policy::run(),
        ["policy", "--time"] => policy::time(),
        ["test"] => test::run(),
        ["test", "--python", ref arguments @ ..] => python_tests::run_tests(arguments),
        ["bench", ref arguments @ ..] => bench::run(arguments),
        ["conformance", ref arguments @ ..] => conformance::run(arguments),
        ["wheel"] => wheel::check(),
        ["check-targets"] => check_targets::run(),
        ["matrix", ref arguments @ ..] => matrix::run(arguments),
        ["vm", ref arguments @ ..] => vm::run(arguments),
        ["stress", ref arguments @ ..] => stress::run(arguments),
        ["scale", ref arguments @ ..] => scale::run_scale(arguments),
        ["soak", ref arguments @ ..] => soak::run(arguments),
        ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(format!("no such command: {}\n\n{HELP}", arguments.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
