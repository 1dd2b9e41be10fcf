//! Rows of processes: starting one that does nothing, and joining it.

use std::time::Instant;

use procession::Context;

use crate::report::{Must, Row};

/// Processes of one run.
const RUN: u32 = 20;

pub(crate) fn forkserver(pairs: usize) -> Row {
    let pairs = paired(pairs, || started(Context::forkserver()), || started(Context::spawn()));
    Row::new("forkserver: no-op process and join", "us", "our spawn", Must::AtMost(0.3), pairs)
}

pub(crate) fn fork(pairs: usize) -> Row {
    let pairs = paired(pairs, || started(Context::fork()), || started(Context::spawn()));
    Row::new("fork: no-op process and join", "us", "our spawn", Must::AtMost(0.2), pairs)
}

pub(crate) fn spawn(pairs: usize) -> Row {
    let theirs = || micros(|| procspawn::spawn(1u64, |x| x).join().map_err(|error| error.to_string()).map(drop));
    let pairs = paired(pairs, || started(Context::spawn()), theirs);
    Row::new("spawn: no-op process and join", "us", "procspawn::spawn", Must::AtMost(1.0), pairs)
}

/// From a parent with 1 GiB of touched memory, beside the same parent without.
pub(crate) fn large_parent(pairs: usize) -> Row {
    started(Context::spawn());
    let pairs = (0..pairs).map(|_| {
        let small = started(Context::spawn());
        let memory = vec![1u8; 1 << 30];
        let large = started(Context::spawn());
        assert_eq!(std::hint::black_box(&memory)[memory.len() - 1], 1);
        (large, small)
    });
    Row::new("spawn from a parent with 1 GiB touched", "us", "small parent", Must::AtMost(1.3), pairs.collect())
}

fn started(context: Context) -> f64 {
    micros(|| {
        let joined = context.process(|x: u64| x, 1).start().and_then(|mut process| process.join());
        joined.map(drop).map_err(|error| error.to_string())
    })
}

/// Returns the microseconds of one process, as the mean of a run.
fn micros(mut once: impl FnMut() -> Result<(), String>) -> f64 {
    let begun = Instant::now();
    for _ in 0..RUN {
        once().expect("a process that does nothing can be started and joined");
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(RUN)
}

fn paired(pairs: usize, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) -> Vec<(f64, f64)> {
    // Neither side pays for the first of its kind: the fork server's own start, lazily bound
    // symbols.
    ours();
    theirs();
    (0..pairs).map(|_| (ours(), theirs())).collect()
}
