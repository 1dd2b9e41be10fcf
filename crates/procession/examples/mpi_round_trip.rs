//! The cost of a task on another rank, beside a task in a local pool in the same run. Each task
//! runs in a process of its rank's, and not in the rank itself.
//!
//! ```console
//! $ mpiexec -n 2 target/release/examples/mpi_round_trip
//! ```

use std::time::{Duration, Instant};

use procession::{Bytes, Context, Pool};

const TIMES: usize = 20_000;

fn main() -> procession::Result<()> {
    let ctx = Context::mpi()?;
    let local = Context::forkserver().pool(1)?;
    let remote = ctx.pool(1)?;
    for pool in [&local, &remote] {
        // Until both know how long tasks take.
        round_trips(pool)?;
    }
    let mut rounds = Vec::new();
    for _ in 0..3 {
        rounds.push((round_trips(&local)?, round_trips(&remote)?));
    }
    rounds.sort_unstable_by_key(|(_, remote)| remote.0);
    let (local_times, remote_times) = rounds[1];
    println!(
        "no-op, local pool                   {:8.2} us, 99 % {:8.2} us",
        micros(local_times.0),
        micros(local_times.1)
    );
    println!(
        "no-op, on a rank                    {:8.2} us, 99 % {:8.2} us",
        micros(remote_times.0),
        micros(remote_times.1)
    );
    let singly = rate(100_000, || remote.chunk_size(1).map(|x: u64| x, 0..100_000).map(drop))?;
    println!("map, one item at a time             {singly:8.0} tasks/s");
    let chunks = rate(1_000_000, || remote.map(|x: u64| x, 0..1_000_000).map(drop))?;
    println!("map, the pool's chunks              {chunks:8.0} tasks/s");
    let bytes = Bytes::from(vec![1; 100 << 20]);
    let begun = Instant::now();
    remote.apply(|bytes: Bytes| bytes.len(), bytes)?;
    println!("100 MiB as an argument              {:8.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The median and the 99th percentile of the round trip of a no-op.
fn round_trips(pool: &Pool) -> procession::Result<(Duration, Duration)> {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        pool.apply(|()| (), ())?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok((times[TIMES / 2], times[TIMES / 100 * 99]))
}

fn rate(tasks: u32, run: impl FnOnce() -> procession::Result<()>) -> procession::Result<f64> {
    let begun = Instant::now();
    run()?;
    Ok(f64::from(tasks) / begun.elapsed().as_secs_f64())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
