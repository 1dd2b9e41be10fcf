//! The ends of tests that hang, fail or are skipped. The test runs this program again, as one that
//! has such a test; an environment variable says which.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use procession_testing::{once, run, skip, tests, trial};

const ROLE: &str = "PROCESSION_TESTING_ROLE";

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("hangs") => run(tests! { once: [waits_for_ever] }),
        Ok("fails") => run(tests! { once: [fails, passes_after_all] }),
        Ok("is skipped") => run(tests! { once: [has_no_python] }),
        Ok("is listed") => run(vec![trial("works_without_proc::fork", has_no_python)]),
        _ => run(tests! {
            once: [
                test_that_hangs_is_named_and_ended,
                test_that_fails_is_told_from_those_that_do_not,
                skipped_test_passes_on_a_developers_machine,
                skipped_test_fails_in_continuous_integration_unless_it_is_listed,
            ],
        }),
    }
}

fn waits_for_ever() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // It ends with this process.
    let _held = child.stdin.take();
    child.wait().unwrap();
}

fn fails() {
    assert_eq!(6 * 9, 42, "the question");
}

fn passes_after_all() {}

fn has_no_python() {
    skip("there is no Python")
}

fn program_whose_test(role: &str, variables: &[(&str, &str)]) -> Output {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.env(ROLE, role).env_remove("CI").envs(variables.iter().copied()).output().unwrap()
}

fn test_that_hangs_is_named_and_ended() {
    let ended = program_whose_test("hangs", &[("PROCESSION_TEST_TIME_SCALE", "0.005")]);
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.signal(), Some(6), "{errors}");
    assert!(errors.contains("test waits_for_ever hangs: no end after 300ms"), "{errors}");
    assert!(errors.contains(" cat: State:"), "{errors}");
}

fn test_that_fails_is_told_from_those_that_do_not() {
    let ended = program_whose_test("fails", &[]);
    let told = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(101), "{told}");
    assert!(told.contains("1 passed; 1 failed") && told.contains("the question"), "{told}");
}

fn skipped_test_passes_on_a_developers_machine() {
    for variables in [&[][..], &[("CI", "")]] {
        let ended = program_whose_test("is skipped", variables);
        let told = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success() && told.contains("1 ignored"), "{told}");
    }
}

fn skipped_test_fails_in_continuous_integration_unless_it_is_listed() {
    let ended = program_whose_test("is skipped", &[("CI", "true")]);
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.code() == Some(101) && told.contains("there is no Python"), "{told}");
    let ended = program_whose_test("is listed", &[("CI", "true")]);
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success() && told.contains("1 ignored"), "{told}");
}
