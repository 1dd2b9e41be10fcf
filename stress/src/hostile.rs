//! Tasks write at random into the shared memory of their pool, as stray pointers of native code
//! would. If they overwrite numbers with other possible ones, any task's result may be wrong. But
//! every call returns, the parent lives, and its processes end.

use std::time::{Duration, Instant};

use procession::pool::WorkerStats;
use procession::{AsyncResult, Bytes, Context, Error, Pool};
use procession_testing::{Random, Segment};

use crate::Tally;
use crate::weather::Weather;

/// A pool that is found overwritten ends within two seconds and a little.
const PATIENCE: Duration = Duration::from_secs(30);

fn square(x: u64) -> u64 {
    x * x
}

fn echo(bytes: Bytes) -> Bytes {
    Bytes::from(bytes.to_vec())
}

/// Writes at random. `pause`: microseconds between two stores.
fn rage((seed, millis, pause): (u64, u64, u64)) {
    let (mut random, segment) = (Random::new(seed), Segment::of_pool());
    // The numbers themselves may have been overwritten on their way.
    let end = Instant::now() + Duration::from_millis(millis.min(2000));
    while Instant::now() < end {
        segment.store_somewhere(&mut random);
        if pause > 0 {
            std::thread::sleep(Duration::from_micros(pause.min(50_000)));
        }
    }
}

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let mut tally = Tally::new();
    while Instant::now() < end {
        weather.clear();
        let pool = context.pool(1 + weather.choose(4)).expect("a pool is made");
        *tally.entry("pools").or_default() += 1;
        // From one store to as many as there is time for.
        let pause = [0, 100, 2000, 50_000][weather.choose(4)];
        let left = end.saturating_duration_since(Instant::now()).as_millis() as u64;
        let raging = pool.apply_async(rage, (weather.choose(1 << 30) as u64, left, pause));
        let mut goes_on = true;
        while Instant::now() < end && goes_on {
            goes_on = use_pool(&pool, weather, &mut tally);
        }
        if let Ok(raging) = raging {
            // It ends with its time or with its worker. If it was overwritten on its way, it may
            // never end.
            judge(&mut tally, raging.get_timeout(PATIENCE / 10).map(|()| true));
        }
        pool.stats().expect("this is its process");
        let is_broken = pool.map_async(square, 0..1).is_err_and(|error| error.is_broken());
        match weather.choose(3) {
            0 => drop(pool),
            1 => pool.terminate(),
            // A pool that is not broken may have a task that does not end.
            _ if !is_broken => pool.terminate(),
            _ => {
                pool.close();
                pool.join().expect("it is closed");
            }
        }
    }
    tally
}

/// Does one thing that a program does with its pool. Returns `false` if the pool is broken.
fn use_pool(pool: &Pool, weather: &mut Weather, tally: &mut Tally) -> bool {
    let count = 1 + weather.choose(300) as u64;
    let call = pool.chunk_size(1 + weather.choose(40));
    let as_should_be = |squares: Vec<u64>| squares.into_iter().eq((0..count).map(square));
    let given = match weather.choose(8) {
        0 => call.retries(3).map_async(square, 0..count).and_then(|job| get(&job)).map(as_should_be),
        1 => {
            let limited = call.timeout(Duration::from_millis(50)).map_async(square, 0..count);
            limited.and_then(|job| get(&job)).map(as_should_be)
        }
        2 => pool.imap(square, 0..count).collect::<Result<Vec<_>, _>>().map(as_should_be),
        3 => {
            let buffer = vec![count as u8; 20_000 + weather.choose(100_000)];
            let echo = pool.apply_async(echo, Bytes::from(buffer.clone()));
            echo.and_then(|echo| echo.get_timeout(PATIENCE)).map(|bytes| *bytes == buffer[..])
        }
        4 => call.map_async(square, 0..count).and_then(|job| job.cancel()),
        5 => pool.resize(1 + weather.choose(5)).map(|()| true),
        6 => {
            // The ring grows.
            let many = pool.map_async(|bytes: Vec<u8>| bytes.len(), vec![vec![1; 1000]; 300]);
            many.and_then(|many| many.get_timeout(PATIENCE)).map(|lens| lens == [1000; 300])
        }
        _ => {
            pool.stats().expect("this is its process");
            call.map_async(square, 0..count).and_then(|job| get(&job)).map(as_should_be)
        }
    };
    if given.as_ref().is_err_and(Error::is_timeout) {
        // Overwritten code or numbers may make a task run for ever. That is not the pool's fault,
        // and the pool can be ended.
        let stats = pool.stats().expect("this is its process");
        let is_endless =
            |worker: &WorkerStats| worker.running.is_some_and(|running| running.since.elapsed() > PATIENCE / 2);
        assert!(stats.workers.iter().any(is_endless), "nothing came within {PATIENCE:?}: {stats:?}");
        *tally.entry("pools with a task that does not end").or_default() += 1;
        return false;
    }
    let goes_on = !given.as_ref().is_err_and(Error::is_broken);
    judge(tally, given);
    goes_on
}

fn get(job: &AsyncResult<Vec<u64>>) -> Result<Vec<u64>, Error> {
    job.get_timeout(PATIENCE)
}

fn judge(tally: &mut Tally, given: Result<bool, Error>) {
    let what = match given {
        Ok(true) => "right results",
        Ok(false) => "wrong results",
        Err(error) if error.is_broken() => "calls that found the pool overwritten",
        Err(error) if error.is_worker_lost() => "lost workers",
        // The argument or result of a task is not what was sent, or a wait was short.
        Err(_) => "other errors",
    };
    *tally.entry(what).or_default() += 1;
}
