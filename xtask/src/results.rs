//! The outcomes of programs that ran elsewhere: a line for each as it ends, and a table of all at
//! the end. Called by `matrix` and `vm`.

use std::time::Duration;

use crate::Outcome;

const SHOWN_LINES: usize = 40;

/// The outcome of one program.
pub(crate) struct Row {
    /// The system in which it ran.
    pub(crate) system: String,
    pub(crate) program: String,
    pub(crate) is_good: bool,
    pub(crate) summary: String,
    pub(crate) time: Duration,
}

impl Row {
    /// Prints the outcome; if it failed, also the last lines of its output.
    pub(crate) fn announce(&self, printed: &str) {
        println!("{}", self.line());
        if !self.is_good {
            let lines: Vec<&str> = printed.trim_end().lines().collect();
            lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().for_each(|line| println!("    {line}"));
        }
    }

    fn line(&self) -> String {
        let Self { system, program, is_good, summary, time } = self;
        let verdict = if *is_good { "ok" } else { "FAILED" };
        format!("{system:<10} {program:<28} {verdict:<7} {:>6.1} s  {summary}", time.as_secs_f64())
    }
}

/// Prints the table. Returns an error if anything failed.
pub(crate) fn conclude(rows: &[Row]) -> Outcome {
    println!();
    rows.iter().for_each(|row| println!("{}", row.line()));
    let failed = rows.iter().filter(|row| !row.is_good).count();
    println!("{} ok, {failed} failed", rows.len() - failed);
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} of {} did not end as they should; see above", rows.len())),
    }
}

/// Sums up the output of a Rust test binary: the line at its end, or how many tests came to their
/// end before it broke off.
pub(crate) fn summary_of_rust(printed: &str) -> String {
    let lines = || printed.lines().map(str::trim);
    if let Some(result) = lines().find_map(|line| line.strip_prefix("test result: ")) {
        let counts = result.split([';', '.']).map(str::trim);
        let counts = counts.filter(|count| count.ends_with(" passed") || count.ends_with(" failed"));
        return counts.filter(|count| *count != "0 failed").collect::<Vec<_>>().join(", ");
    }
    let hangs = lines().find(|line| line.starts_with("test ") && line.contains(" hangs: "));
    let passed = lines().filter(|line| line.starts_with("test ") && line.ends_with(" ok")).count();
    match (hangs, passed) {
        (Some(hangs), _) => format!("{passed} passed; {}", hangs.rsplit(" ... ").next().unwrap_or(hangs)),
        // Some binaries are one test.
        (None, 0) => lines().rfind(|line| !line.is_empty()).unwrap_or_default().to_owned(),
        (None, _) => format!("{passed} passed"),
    }
}

/// Returns the last line that is printed by pytest, or by the runner of the standard library's
/// tests.
pub(crate) fn summary_of_python(printed: &str) -> String {
    let last = printed.lines().rev().find(|line| line.contains(" passed") || line.contains(" failed"));
    let hangs = printed.lines().find(|line| line.starts_with("HANGS: "));
    hangs.or(last).unwrap_or("no result").trim_matches([' ', '=']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_results_are_counted() {
        let printed = "\ntest one ... ok\r\ntest two ... FAILED\ntest result: FAILED. 1 passed; 1 failed;\n";
        assert_eq!(summary_of_rust(printed), "1 passed, 1 failed");
        let printed =
            "test one          ... ok\ntest a_lock::forkserver ... test a_lock::forkserver hangs: nothing for 60s\n";
        assert_eq!(summary_of_rust(printed), "1 passed; test a_lock::forkserver hangs: nothing for 60s");
        assert_eq!(summary_of_rust("test one ... ok\nnot a line of a test\n"), "1 passed");
        assert_eq!(summary_of_rust("seed 7, 2 s\n"), "seed 7, 2 s");
    }

    #[test]
    fn python_results_are_the_last_line() {
        let printed = "....\n==== 12 passed, 1 skipped in 3.21s ====\n\n";
        assert_eq!(summary_of_python(printed), "12 passed, 1 skipped in 3.21s");
        assert_eq!(summary_of_python("..\n\nHANGS: test_pool.py::test_map\n"), "HANGS: test_pool.py::test_map");
        assert_eq!(summary_of_python(""), "no result");
    }

    #[test]
    fn one_failure_fails_all() {
        let row = |is_good| Row {
            system: "sid".into(),
            program: "sync".into(),
            is_good,
            summary: String::new(),
            time: Duration::ZERO,
        };
        assert!(conclude(&[row(true), row(true)]).is_ok());
        assert_eq!(conclude(&[row(true), row(false)]).unwrap_err(), "1 of 2 did not end as they should; see above");
    }
}
