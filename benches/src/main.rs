//! procession beside its rivals: procspawn (processes) and rayon (threads, the limit). Every figure is the median of runs
//! in pairs, ours and the rival's one after the other in the same process, so that the machine's weather meets both.
//! What counts is the ratio.
//!
//! `cargo xtask bench [ROW...]`; each row's `must` is what the project promises.

mod pool;
mod report;
mod start;

use report::{Report, Row};

/// A row: its name, and what measures it.
type Bench = (&'static str, fn() -> Row);

// Fork wants no other threads, and rivals start some: rows of processes come first.
const ROWS: [Bench; 9] = [
    ("forkserver", start::forkserver),
    ("fork", start::fork),
    ("large-parent", start::large_parent),
    ("spawn", start::spawn),
    ("in-flight", pool::in_flight),
    ("round-trip", pool::round_trip),
    ("tasks-1ms", pool::tasks_of_1_ms),
    ("tasks-10us", pool::tasks_of_10_us),
    ("idle", pool::idle),
];

fn main() -> std::io::Result<()> {
    procession::init();
    procspawn::init();
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()));
    let mut report = Report::default();
    for (name, bench) in ROWS.into_iter().filter(|(name, _)| is_chosen(name)) {
        eprintln!("measuring {name} ...");
        report.add(name, bench());
    }
    report.print();
    if chosen.is_empty() {
        println!("\nwritten to {}", report.write()?.display());
    }
    Ok(())
}
