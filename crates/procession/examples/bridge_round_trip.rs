//! The cost of a task on a Ray or Dask cluster, beside that of a bare call of the engine's own
//! actor. `cargo xtask scale bridge-rust --measure` runs it beside a cluster of each, which
//! `PROCESSION_TEST_BRIDGE` names. It answers by the time of a call when `bare` is printed, which
//! `PROCESSION_TEST_BARE` says.

use std::time::{Duration, Instant};

use procession::{Bytes, Context};

/// Measurements of `apply`, in turn with those of the bare call, and calls in each.
const ROUNDS: usize = 5;
const TIMES: usize = 200;

fn main() -> procession::Result<()> {
    let named = std::env::var("PROCESSION_TEST_BRIDGE").unwrap_or_else(|_| "ray ".into());
    let (engine, address) = named.split_once(' ').unwrap_or((&named, ""));
    let ctx = Context::bridge(engine, address)?;
    let begun = Instant::now();
    let pool = ctx.pool(ctx.pool_size()?)?;
    println!("the start of {} workers          {:8.2} s", pool.workers(), begun.elapsed().as_secs_f64());
    for _ in 0..TIMES / 2 {
        // Until the pool knows how long tasks take.
        pool.apply(|()| (), ())?;
    }
    let mut ratios = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (middle, slow) = measure_apply(&pool)?;
        let bare = bare_call();
        print!("apply of a no-op                 {:8.2} ms, 99 % {:8.2} ms", millis(middle), millis(slow));
        match bare {
            None => println!(),
            Some(bare) => {
                let ratio = middle.as_secs_f64() / bare.as_secs_f64();
                println!(", the engine's own call {:8.2} ms, ratio {ratio:.2}", millis(bare));
                ratios.push(ratio);
            }
        }
    }
    ratios.sort_unstable_by(f64::total_cmp);
    if let Some(ratio) = ratios.get(ratios.len() / 2) {
        println!("apply, median of the ratios      {ratio:8.2}");
    }
    let singly = rate(3000, || pool.chunk_size(1).map(|x: u64| x, 0..3000).map(drop))?;
    println!("map, one item at a time          {singly:8.0} tasks/s");
    for _ in 0..3 {
        let chunks = rate(1_000_000, || pool.map(|x: u64| x, 0..1_000_000).map(drop))?;
        println!("map, the pool's chunks           {chunks:8.0} tasks/s");
    }
    let bytes = Bytes::from(vec![1; 100 << 20]);
    for _ in 0..3 {
        let begun = Instant::now();
        let there = pool.apply(|bytes: Bytes| bytes.len(), bytes.clone())?;
        println!("100 MiB as an argument           {:8.2} s", begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let back = pool.apply(|bytes: Bytes| bytes, bytes.clone())?;
        println!("100 MiB there and back           {:8.2} s", begun.elapsed().as_secs_f64());
        assert!(there == bytes.len() && back.len() == there, "they have arrived whole");
    }
    Ok(())
}

/// Returns the median and the 99th percentile of the times of `apply`.
fn measure_apply(pool: &procession::Pool) -> procession::Result<(Duration, Duration)> {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        pool.apply(|()| (), ())?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok((times[TIMES / 2], times[TIMES / 100 * 99]))
}

/// Returns the time of a call of the engine's own actor, if whoever has started this program knows
/// it.
fn bare_call() -> Option<Duration> {
    std::env::var_os("PROCESSION_TEST_BARE")?;
    println!("bare");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok()?;
    line.trim().parse().ok().map(Duration::from_micros)
}

fn rate(tasks: u32, run: impl FnOnce() -> procession::Result<()>) -> procession::Result<f64> {
    let begun = Instant::now();
    run()?;
    Ok(f64::from(tasks) / begun.elapsed().as_secs_f64())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
