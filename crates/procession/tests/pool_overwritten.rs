//! Native code of a task writes into the pool's shared memory. Results are right or errors, no call
//! of the parent's hangs, and no process is left.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use procession::{AsyncResult, Context, Error, Pool};
use procession_testing::{Random, Segment, Trial, eventually, long, run, runs, tests, trial};

/// The size of the words that parent and workers share. Behind them are the frames of the ring.
const FIXED: u64 = 128 * 1024;
/// The size of those of the header, the ring and the first slots, used or not.
const FIRST: u64 = 2048;
/// The size of those of the header and the ring.
const COPIED: u64 = 512;
/// Words that are looked at together.
const LINE: u64 = 64;

fn main() {
    procession::init();
    run(tests! {
        for_each_word_in_use: [word_over_another_is_survived],
        for_each_line: [store_is_survived],
        for_each_seed: [random_stores_are_survived],
    })
}

fn for_each_word_in_use(name: &str, body: fn(u64)) -> Vec<Trial> {
    let words = used_pool().apply(words_in_use, ()).unwrap();
    words.into_iter().map(|word| trial(&format!("{name}::{word:03x}"), move || body(word))).collect()
}

fn for_each_line(name: &str, body: fn(u64)) -> Vec<Trial> {
    let in_use = used_pool().apply(lines_in_use, ()).unwrap();
    let lines: BTreeSet<u64> = in_use.into_iter().chain((0..FIRST).step_by(LINE as usize)).collect();
    lines.into_iter().map(|line| trial(&format!("{name}::{line:05x}"), move || body(line))).collect()
}

fn for_each_seed(name: &str, body: fn(u64)) -> Vec<Trial> {
    (1..7).map(|seed| trial(&format!("{name}::{seed}"), move || body(seed))).collect()
}

/// A pool whose workers have both had tasks.
fn used_pool() -> Pool {
    let pool = Context::fork().pool(2).unwrap();
    (0..20).for_each(|_| drop(pool.map(square, 0..100).unwrap()));
    pool
}

fn word_over_another_is_survived(from: u64) {
    for to in (0..COPIED).step_by(8).filter(|to| *to != from) {
        survives(&format!("{from:#x} over {to:#x}"), |pool| pool.apply_async(copy, (from, to)));
    }
}

fn store_is_survived(line: u64) {
    for word in (line..line + LINE).step_by(8) {
        for value in [0, 1, u64::MAX, Random::new(word + 1).number()] {
            let what = format!("{value:#x} at {word:#x}");
            survives(&what, |pool| pool.apply_async(store, (word, value)));
        }
    }
}

fn random_stores_are_survived(seed: u64) {
    let pool = Context::fork().pool(3).unwrap();
    let raging = pool.apply_async(rage, (seed, 300)).unwrap();
    let end = Instant::now() + Duration::from_millis(400);
    while Instant::now() < end {
        judge_all(pool.map_async(square, 0..100), "a storm");
    }
    if let Err(error) = raging.get_timeout(long()) {
        judge(&error, "a storm");
    }
    goes_on(pool, "a storm");
}

fn square(x: u64) -> u64 {
    x * x
}

/// So slow that some are queued when a task overwrites something.
fn square_slowly(x: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(50));
    square(x)
}

/// Runs in a worker: one stray store.
fn store((offset, value): (u64, u64)) {
    Segment::of_pool().store(offset, &value.to_le_bytes());
}

/// Runs in a worker: one word over another, once there are tasks behind this one.
fn copy((from, to): (u64, u64)) {
    std::thread::sleep(Duration::from_millis(1));
    let segment = Segment::of_pool();
    segment.store(to, &segment.load(from, 8));
}

/// Runs in a worker: stores at random places, for a while.
fn rage((seed, millis): (u64, u64)) {
    let mut random = Random::new(seed);
    let segment = Segment::of_pool();
    let end = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < end {
        segment.store_somewhere(&mut random);
    }
}

/// Runs in a worker: the lines of shared words that are in use.
fn lines_in_use(_: ()) -> Vec<u64> {
    let bytes = Segment::of_pool().load(0, FIXED as usize);
    let lines = bytes.chunks(LINE as usize).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0));
    lines.map(|(line, _)| line as u64 * LINE).collect()
}

/// Runs in a worker: the first words that are not zero.
fn words_in_use(_: ()) -> Vec<u64> {
    let bytes = Segment::of_pool().load(0, COPIED as usize);
    let words = bytes.chunks(8).enumerate().filter(|(_, word)| word.iter().any(|byte| *byte != 0));
    words.map(|(word, _)| word as u64 * 8).collect()
}

/// Checks that an error is one that may come of a task beside its result.
fn judge(error: &Error, what: &str) {
    assert!(error.is_broken() || error.is_worker_lost(), "{what}: {error}");
    assert!(!error.to_string().is_empty());
}

fn judge_all(job: Result<AsyncResult<Vec<u64>>, Error>, what: &str) {
    judge_results(job, (0..100).map(square), what);
}

fn judge_results(job: Result<AsyncResult<Vec<u64>>, Error>, right: impl Iterator<Item = u64>, what: &str) {
    match job.and_then(|job| job.get_timeout(long())) {
        Ok(results) => assert!(results.into_iter().eq(right), "{what}: wrong results"),
        Err(error) => judge(&error, what),
    }
}

/// Everything that a program does with its pool comes to an end, and so do its processes.
fn goes_on(pool: Pool, what: &str) {
    let mut pids: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
    pool.stats().unwrap();
    judge_all(pool.map_async(square, 0..100), what);
    // Parent and workers ask for more shared memory.
    if let Err(error) = pool.resize(5) {
        judge(&error, what);
    }
    let long_ones = pool.map_async(|text: String| text.len() as u64, vec!["x".repeat(5000); 100]);
    judge_results(long_ones, std::iter::repeat_n(5000, 100), what);
    pids.extend(pool.worker_pids());
    pool.stats().unwrap();
    pool.terminate();
    drop(pool);
    eventually("no worker is left", || !pids.iter().any(|pid| runs(*pid)));
}

fn survives(what: &str, overwrite: impl FnOnce(&Pool) -> Result<AsyncResult<()>, Error>) {
    let pool = Context::fork().pool(2).unwrap();
    let before = pool.map_async(square, 0..100);
    let stored = overwrite(&pool);
    let after = pool.chunk_size(1).map_async(square_slowly, 0..100);
    judge_all(before, what);
    if let Err(error) = stored.and_then(|stored| stored.get_timeout(long())) {
        judge(&error, what);
    }
    judge_all(after, what);
    goes_on(pool, what);
}
