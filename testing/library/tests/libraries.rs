//! Libraries that start processes, in programs that know nothing of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use procession_testing::{Trial, once, run, skip, tests, trial};

fn main() {
    run(tests! {
        once: [
            plain_program_starts_processes_by_its_library,
            program_of_c_starts_processes_by_a_static_library,
            python_names_the_program_that_is_executed,
            program_that_does_not_load_the_library_is_named_at_the_start,
            library_that_was_replaced_is_named_at_the_start,
        ],
        for_each_method: [
            python_starts_processes_by_a_library_it_loads,
            library_of_any_path_can_be_loaded,
            crash_of_a_child_of_python_is_reported,
        ],
    })
}

fn for_each_method(name: &str, body: fn(&'static str)) -> Vec<Trial> {
    ["fork", "spawn", "forkserver"].map(|method| trial(&format!("{name}::{method}"), move || body(method))).into()
}

const SUMS: &str = "spawn: 328350\nforkserver: 328350\n";

fn plain_program_starts_processes_by_its_library() {
    assert_eq!(output_of(&mut Command::new(env!("CARGO_BIN_EXE_plain"))), SUMS);
}

fn program_of_c_starts_processes_by_a_static_library() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(
        &source,
        "#include <stdio.h>
         char *procession_test_report(const char *);
         int main(void) {
             puts(procession_test_report(\"spawn\"));
             puts(procession_test_report(\"forkserver\"));
             return 0;
         }",
    )
    .unwrap();
    let library = built("libprocession_test_library.a");
    let mut compile = Command::new("cc");
    compile.arg(&source).arg(&library).args(["-lpthread", "-ldl", "-lm", "-lgcc_s", "-o"]).arg(&program);
    output_of(&mut compile);
    let said = output_of(&mut Command::new(program));
    assert!(said.lines().count() == 2 && said.lines().all(is_well), "{said}");
}

fn is_well(report: &str) -> bool {
    report.trim_end() == "sum 328350; nested 285; has a parent: true; LD_PRELOAD \"\"; a thread loads an object: true"
}

/// Runs a program of Python's with `library` loaded.
fn python(library: &Path, program: &str) -> String {
    let loaded = format!(
        "import ctypes, os, sys\n\
         library = ctypes.CDLL(sys.argv[1])\n\
         def text(function, argument):\n    \
             function.restype = ctypes.c_char_p\n    \
             return function(argument.encode()).decode()\n\
         {program}"
    );
    output_of(python_command().arg("-c").arg(loaded).arg(library))
}

fn python_command() -> Command {
    if Command::new("python3").arg("--version").output().is_err() {
        skip("there is no python3");
    }
    Command::new("python3")
}

fn python_starts_processes_by_a_library_it_loads(method: &'static str) {
    let said = python(
        &built("libprocession_test_library.so"),
        &format!("print(text(library.procession_test_report, {method:?}))"),
    );
    assert!(is_well(&said), "{said}");
}

fn library_of_any_path_can_be_loaded(method: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("a folder: of mine");
    std::fs::create_dir(&folder).unwrap();
    let library = folder.join("library.so");
    std::fs::copy(built("libprocession_test_library.so"), &library).unwrap();
    let said = python(&library, &format!("print(text(library.procession_test_report, {method:?}))"));
    assert!(is_well(&said), "{said}");
}

fn crash_of_a_child_of_python_is_reported(method: &'static str) {
    let said = python(
        &built("libprocession_test_library.so"),
        &format!("print(text(library.procession_test_crash, {method:?}))"),
    );
    assert!(said.starts_with("error: ") && said.contains("signal 6"), "{said}");
}

fn python_names_the_program_that_is_executed() {
    let said = python(
        &built("libprocession_test_library.so"),
        "library.procession_test_set_executable(b'/bin/true')\n\
         print(text(library.procession_test_report, 'spawn'))\n\
         print(text(library.procession_test_report, 'forkserver'))",
    );
    assert!(said.lines().count() == 2 && said.lines().all(is_well), "{said}");
}

fn program_that_does_not_load_the_library_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("static.c"), folder.path().join("static program"));
    std::fs::write(&source, "int main(void) { return 3; }").unwrap();
    let compiled = Command::new("cc").arg("-static").arg(&source).arg("-o").arg(&program).output();
    if !compiled.is_ok_and(|compiled| compiled.status.success()) {
        skip("no static C library is installed");
    }
    let said = python(
        &built("libprocession_test_library.so"),
        &format!(
            "library.procession_test_set_executable({:?}.encode())\n\
             print(text(library.procession_test_report, 'spawn'))\n\
             print(text(library.procession_test_report, 'forkserver'))",
            program.to_str().unwrap()
        ),
    );
    for line in said.lines() {
        assert!(line.contains("exit code 3") && line.contains("static program was executed with"), "{said}");
        assert!(line.contains("set_executable()"), "{said}");
    }
    assert_eq!(said.lines().count(), 2, "{said}");
}

fn library_that_was_replaced_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("library.so");
    std::fs::copy(built("libprocession_test_library.so"), &library).unwrap();
    let said = python(
        &library,
        "os.rename(sys.argv[1], sys.argv[1] + '.old'); os.unlink(sys.argv[1] + '.old')\n\
         print(text(library.procession_test_report, 'spawn'))",
    );
    assert!(said.contains("library.so") && said.contains("was replaced or removed"), "{said}");
}

/// Returns the path of what cargo has built for this test, in the test's folder.
fn built(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(name);
    assert!(path.exists(), "{} is not built", path.display());
    path
}

fn output_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
