//! Tests that a machine cannot run. Where the environment variable `CI` is set, such a test fails
//! unless it is listed here.

use std::any::Any;
use std::panic::resume_unwind;
use std::process::Command;

use libtest_mimic::Failed;

const NO_MOUNTS: &str = "a runner of continuous integration is not root, and may not mount anything";

const NO_TOOL: &str = "a runner need not have it; a developer's machine does";

/// Tests that may be skipped in continuous integration, and why. A name stands for itself and all
/// that begin with it and `::`.
const LISTED: [(&str, &str); 8] = [
    ("works_with_a_dev_shm_of_1_mib", NO_MOUNTS),
    ("works_without_dev_shm", NO_MOUNTS),
    ("works_without_proc", NO_MOUNTS),
    ("four_hundred_tasks_run_without_dev_shm", NO_MOUNTS),
    ("four_hundred_tasks_run_with_a_dev_shm_of_1_mib", NO_MOUNTS),
    ("four_hundred_tasks_run_without_proc", NO_MOUNTS),
    ("program_that_does_not_load_the_library_is_named_at_the_start", NO_TOOL),
    ("tests_under_nextest_start_processes", NO_TOOL),
];

struct Skip(String);

/// Ends the running test as one that this machine cannot run.
///
/// It unwinds, so only the thread that runs the test may call it.
pub fn skip(reason: &str) -> ! {
    resume_unwind(Box::new(Skip(reason.to_owned())))
}

/// Skips the test if this process may not make a mount namespace.
pub fn needs_mounts() {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success()) {
        skip("`unshare -m` is not permitted here");
    }
}

/// Returns why a test was skipped, if that is how it ended.
pub(crate) fn reason_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<Skip>().map(|Skip(reason)| reason.as_str())
}

/// Fails a test that must not be skipped where this runs.
pub(crate) fn judge(name: &str, reason: &str) -> Result<(), Failed> {
    let is_strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    if is_strict && !is_listed(name) {
        return Err(format!("skipped: {reason}. Where `CI` is set only tests in testing/src/skip.rs may be").into());
    }
    Ok(())
}

fn is_listed(name: &str) -> bool {
    LISTED
        .iter()
        .any(|(listed, _)| name.strip_prefix(listed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_name_stands_for_each_of_its_cases() {
        assert!(is_listed("works_without_proc") && is_listed("four_hundred_tasks_run_without_proc::fork"));
        assert!(!is_listed("works_without_process") && !is_listed("works"));
    }

    #[test]
    fn each_listed_name_is_a_test() {
        let files = ["/../crates/procession/tests", "/library/tests"].into_iter().flat_map(|folder| {
            let folder = format!("{}{folder}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        });
        let tests: String = files.collect();
        for (name, _) in LISTED {
            assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }

    #[test]
    fn skip_is_told_from_a_panic() {
        let skipped = std::panic::catch_unwind(|| skip("no Python")).unwrap_err();
        assert_eq!(reason_of(&*skipped), Some("no Python"));
        let panicked = std::panic::catch_unwind(|| resume_unwind(Box::new("no Python"))).unwrap_err();
        assert_eq!(reason_of(&*panicked), None);
    }
}
