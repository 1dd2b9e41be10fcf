//! procession beside its rivals: procspawn (processes) and rayon (threads, the limit). Every figure
//! is the median of runs in pairs, ours and the rival's one after the other in the same process, so
//! that other work on the machine slows both. The ratio counts.
//!
//! `cargo xtask bench [--pairs N] [ROW...]`; each row's `must` is the project's promise. A ratio
//! near its bound needs more pairs: rayon against itself, by medians of 20 on a machine with other
//! work, came out between 0.95 and 1.06.

mod bulk;
mod codec;
mod connection;
mod futures;
mod lock;
mod pool;
mod queue;
mod report;
mod start;

use std::process::ExitCode;

use report::{Report, Row};

/// A row: its name, its default number of pairs, and the function that measures it.
type Bench = (&'static str, usize, fn(usize) -> Row);

// Fork wants no other threads, and rivals start some, so rows of processes come first.
const ROWS: [Bench; 29] = [
    ("forkserver", 15, start::forkserver),
    ("fork", 15, start::fork),
    ("large-parent", 9, start::large_parent),
    ("spawn", 15, start::spawn),
    ("connection", 15, connection::round_trip),
    ("lock-uncontended", 15, lock::uncontended),
    ("lock-contended", 15, lock::contended),
    ("queue-64", 9, queue::of_64_bytes),
    ("queue-1k", 9, queue::of_1_kib),
    ("queue-socket", 9, queue::beside_a_socket),
    ("value-records", 9, codec::records),
    ("value-enums", 9, codec::enums),
    ("value-map", 9, codec::map),
    ("bulk-pipe", 9, bulk::beside_a_pipe),
    ("bulk-to", 15, bulk::to_a_worker),
    ("bulk-back", 15, bulk::from_a_worker),
    ("in-flight", 9, pool::in_flight),
    ("burst", 9, pool::burst),
    ("round-trip", 9, pool::round_trip),
    ("callback", 9, pool::callback),
    ("futures", 9, futures::in_flight),
    ("tasks-1ms", 9, pool::tasks_of_1_ms),
    ("tasks-10us", 9, pool::tasks_of_10_us),
    ("map-u64", 15, pool::map_of_u64),
    ("map-with-vector", 15, pool::map_with_a_vector),
    ("map-with-slice", 15, pool::map_with_a_slice),
    ("stragglers", 9, pool::stragglers),
    ("idle", 1, pool::idle),
    ("idle-memory", 5, pool::idle_memory),
];

/// The measurements to make.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    /// The number of pairs of every row, in place of its own number.
    pairs: Option<usize>,
    /// Parts of names; none means every row.
    rows: Vec<String>,
}

fn main() -> ExitCode {
    procspawn::init();
    match choice(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(Choice { pairs, rows }: Choice) -> Result<(), String> {
    let is_chosen = |name: &str| rows.is_empty() || rows.iter().any(|part| name.contains(part.as_str()));
    let mut report = Report::default();
    for (name, usual, bench) in ROWS.into_iter().filter(|(name, ..)| is_chosen(name)) {
        eprintln!("measuring {name} ...");
        report.add(name, bench(pairs.unwrap_or(usual)));
    }
    report.print();
    if rows.is_empty() {
        let path = report.write().map_err(|error| format!("cannot write the report: {error}"))?;
        println!("\nwritten to {}", path.display());
    }
    Ok(())
}

fn choice(mut arguments: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut choice = Choice { pairs: None, rows: Vec::new() };
    while let Some(argument) = arguments.next() {
        if argument == "--pairs" {
            let pairs = arguments.next().and_then(|number| number.parse().ok()).filter(|pairs| *pairs > 0);
            choice.pairs = Some(pairs.ok_or("--pairs wants a number, 1 or more")?);
        } else if ROWS.iter().any(|(name, ..)| name.contains(&argument)) {
            choice.rows.push(argument);
        } else {
            let names = ROWS.map(|(name, ..)| name).join(", ");
            return Err(format!("no row's name contains {argument:?}; the rows are {names}"));
        }
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(line: &str) -> Result<Choice, String> {
        choice(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn rows_and_pairs_are_chosen_in_any_order() {
        let both = Choice { pairs: Some(3), rows: vec!["idle".into(), "tasks".into()] };
        assert_eq!(chosen("idle --pairs 3 tasks"), Ok(both));
        assert_eq!(chosen(""), Ok(Choice { pairs: None, rows: Vec::new() }));
    }

    #[test]
    fn what_names_no_row_is_refused() {
        assert!(chosen("idel").is_err_and(|problem| problem.contains("\"idel\"") && problem.contains("round-trip")));
        for line in ["--pairs", "--pairs 0", "--pairs many", "--pears 3"] {
            assert!(chosen(line).is_err(), "{line}");
        }
    }
}
