//! Kills and stops workers of a pool while jobs of every kind run. Each result is right, or says
//! that its worker was lost, that its time was up, or that it was cancelled.

use std::time::{Duration, Instant};

use procession::{AsyncResult, Bytes, Context, Error};

use crate::Tally;
use crate::weather::Weather;

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_JOBS: usize = 12;

fn square(x: u64) -> u64 {
    if x.is_multiple_of(50) {
        std::thread::sleep(Duration::from_micros(300));
    }
    x * x
}

fn echo(bytes: Bytes) -> Bytes {
    Bytes::from(bytes.to_vec())
}

pub(crate) fn storm(context: Context, weather: &mut Weather, end: Instant) -> Tally {
    let mut tally = Tally::new();
    let pool = context.pool(2).expect("a pool is made");
    let mut jobs: Vec<(AsyncResult<Vec<u64>>, u64)> = Vec::new();
    while Instant::now() < end {
        weather.pass();
        if jobs.len() < MAX_JOBS {
            let (first, count) = (weather.choose(1 << 20) as u64, 1 + weather.choose(400) as u64);
            let items = first..first + count;
            let call = pool.chunk_size(1 + weather.choose(40));
            let job = match weather.choose(4) {
                0 => call.retries(100).map_async(square, items),
                1 => call.timeout(Duration::from_millis(20)).map_async(square, items),
                _ => call.map_async(square, items),
            };
            jobs.push((job.expect("the pool is open"), first));
        }
        let workers = pool.worker_pids();
        let victim = workers.get(weather.choose(4)).copied();
        match (weather.choose(6), victim) {
            (0, Some(victim)) => drop(weather.kill(victim)),
            (1, Some(victim)) => weather.stop(victim),
            (2, _) if weather.once_in(8) => pool.resize(1 + weather.choose(4)).expect("there is room"),
            (3, _) if weather.once_in(4) && !jobs.is_empty() => {
                let (job, first) = jobs.swap_remove(weather.choose(jobs.len()));
                job.cancel().expect("the pool is there");
                judge(&mut tally, &job, first);
            }
            (4, _) if weather.once_in(8) => {
                weather.clear();
                let mut all = pool.imap(square, 0..200);
                all.by_ref().enumerate().for_each(|(x, result)| match result {
                    Ok(y) => assert_eq!(y, (x * x) as u64),
                    Err(error) => judge_error(&mut tally, &error),
                });
            }
            (5, Some(victim)) if weather.once_in(4) => {
                let tags: Vec<u8> = (0..8).map(|_| weather.choose(256) as u8).collect();
                let buffer = |tag: &u8| Bytes::from(vec![*tag; 100_000]);
                let echoes = tags.iter().map(|tag| pool.apply_async(echo, buffer(tag)).expect("the pool is open"));
                let echoes: Vec<_> = echoes.collect();
                weather.pass();
                weather.kill(victim);
                weather.clear();
                for (tag, echo) in tags.iter().zip(echoes) {
                    match echo.get_timeout(PATIENCE) {
                        Ok(bytes) => {
                            assert!(
                                bytes.len() == 100_000 && bytes.iter().all(|byte| byte == tag),
                                "a buffer is whole"
                            );
                            *tally.entry("buffers").or_default() += 1;
                        }
                        Err(error) => judge_error(&mut tally, &error),
                    }
                }
            }
            _ => {}
        }
        let (ready, waiting) = jobs.into_iter().partition(|(job, _)| job.ready());
        jobs = waiting;
        let ready: Vec<_> = ready;
        ready.iter().for_each(|(job, first)| judge(&mut tally, job, *first));
    }
    weather.clear();
    jobs.iter().for_each(|(job, first)| judge(&mut tally, job, *first));
    pool.close();
    pool.join().expect("the pool is closed");
    tally
}

fn judge(tally: &mut Tally, job: &AsyncResult<Vec<u64>>, first: u64) {
    match job.get_timeout(PATIENCE) {
        Ok(squares) => {
            for (x, square) in (first..).zip(&squares) {
                assert_eq!(*square, x * x);
            }
            *tally.entry("results").or_default() += squares.len() as u64;
        }
        Err(error) => judge_error(tally, &error),
    }
}

fn judge_error(tally: &mut Tally, error: &Error) {
    let what = match error {
        error if error.is_worker_lost() => "jobs that lost a worker",
        error if error.is_task_timeout() => "jobs out of time",
        error if error.is_cancelled() => "jobs cancelled",
        error => panic!("{error}"),
    };
    *tally.entry(what).or_default() += 1;
}
