//! The cost of a task on a Ray or Dask cluster. `cargo xtask scale bridge-rust --measure` runs it
//! beside a cluster of each, which `PROCESSION_TEST_BRIDGE` names.

use std::time::{Duration, Instant};

use procession::{Bytes, Context};

const TIMES: usize = 500;

fn main() -> procession::Result<()> {
    let named = std::env::var("PROCESSION_TEST_BRIDGE").unwrap_or_else(|_| "ray ".into());
    let (engine, address) = named.split_once(' ').unwrap_or((&named, ""));
    let ctx = Context::bridge(engine, address)?;
    let begun = Instant::now();
    let pool = ctx.pool(ctx.pool_size()?)?;
    println!("the start of {} workers          {:8.2} s", pool.workers(), begun.elapsed().as_secs_f64());
    for _ in 0..TIMES / 5 {
        // Until the pool knows how long tasks take.
        pool.apply(|()| (), ())?;
    }
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        pool.apply(|()| (), ())?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "no-op                            {:8.2} ms, 99 % {:8.2} ms",
        millis(times[TIMES / 2]),
        millis(times[TIMES / 100 * 99])
    );
    let singly = rate(3000, || pool.chunk_size(1).map(|x: u64| x, 0..3000).map(drop))?;
    println!("map, one item at a time          {singly:8.0} tasks/s");
    let chunks = rate(1_000_000, || pool.map(|x: u64| x, 0..1_000_000).map(drop))?;
    println!("map, the pool's chunks           {chunks:8.0} tasks/s");
    let bytes = Bytes::from(vec![1; 100 << 20]);
    let begun = Instant::now();
    pool.apply(|bytes: Bytes| bytes.len(), bytes)?;
    println!("100 MiB as an argument           {:8.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn rate(tasks: u32, run: impl FnOnce() -> procession::Result<()>) -> procession::Result<f64> {
    let begun = Instant::now();
    run()?;
    Ok(f64::from(tasks) / begun.elapsed().as_secs_f64())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
