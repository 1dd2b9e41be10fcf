//! Rows of pools: two workers, tasks of every length.

use std::collections::VecDeque;
use std::fs;
use std::hint::black_box;
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use procession::pool::StateFn;
use procession::{AsyncResult, Message, Pool, Slice};
use rayon::prelude::*;

use crate::report::{Must, Row};

const WORKERS: usize = 2;
/// Tasks in flight: submitted and not yet waited for.
const WINDOW: usize = 100;

pub(crate) fn in_flight(pairs: usize) -> Row {
    let (ours, theirs) = (our_pool(), their_pool());
    let pairs = (0..pairs).map(|_| (our_rate(&ours, 100_000, WINDOW), their_rate(&theirs, 5_000, WINDOW)));
    Row::new("no-op tasks, 100 in flight", "tasks/s", "procspawn::Pool", Must::AtLeast(50.0), pairs.collect())
}

/// All of ours are submitted before the first is waited for. The rival opens descriptors for each
/// task that is outstanding, and cannot hold as many: it has its 100 in flight here too.
pub(crate) fn burst(pairs: usize) -> Row {
    const TASKS: usize = 20_000;
    let (ours, theirs) = (our_pool(), their_pool());
    let pairs = (0..pairs).map(|_| (our_rate(&ours, TASKS, TASKS), their_rate(&theirs, 5_000, WINDOW)));
    Row::new("no-op tasks, 20,000 at once", "tasks/s", "procspawn, 100 only", Must::AtLeast(50.0), pairs.collect())
}

pub(crate) fn round_trip(pairs: usize) -> Row {
    let (ours, theirs) = (our_pool(), their_pool());
    let our_trip = || {
        median_micros(5_000, || {
            black_box(ours.apply(|x: u64| x, 1).expect("a no-op task is done"));
        })
    };
    let their_trip = || {
        median_micros(1_000, || {
            black_box(theirs.spawn(1u64, |x| x).join().expect("a no-op task is done"));
        })
    };
    let pairs = (0..pairs).map(|_| (our_trip(), their_trip()));
    Row::new("one no-op round trip, p50", "us", "procspawn::Pool", Must::AtMost(0.1), pairs.collect())
}

/// Measures from the submission to the callback's first instruction, beside the round trip of a
/// caller that waits itself. The submitting thread sleeps meanwhile; its own wake is not counted.
/// It sleeps at once: a channel's receiver first keeps a core from those who bring the result.
pub(crate) fn callback(pairs: usize) -> Row {
    let pool = our_pool();
    let submitter = thread::current();
    let by_callback = || {
        let trips = (0..5_000).map(|_| {
            let (called, submitter) = (Arc::new(OnceLock::new()), submitter.clone());
            let (tell, begun) = (called.clone(), Instant::now());
            let result = pool.apply_async(|x: u64| x, 1).expect("a task is taken");
            let on_complete = result.on_complete(move |_| {
                tell.set(begun.elapsed()).expect("it is called once");
                submitter.unpark();
            });
            on_complete.expect("a callback is taken");
            loop {
                match called.get() {
                    Some(elapsed) => break *elapsed,
                    None => thread::park(),
                }
            }
        });
        micros_of_median(trips.collect())
    };
    let by_apply = || {
        median_micros(5_000, || {
            black_box(pool.apply(|x: u64| x, 1).expect("a no-op task is done"));
        })
    };
    let pairs = (0..pairs).map(|_| (by_callback(), by_apply()));
    Row::new("callback on a no-op task, p50", "us", "our apply", Must::AtMost(2.0), pairs.collect())
}

pub(crate) fn tasks_of_1_ms(pairs: usize) -> Row {
    compute(pairs, "1 ms compute tasks, 600 by map", Duration::from_millis(1), 600, 1.03)
}

pub(crate) fn tasks_of_10_us(pairs: usize) -> Row {
    compute(pairs, "10 us compute tasks, 60,000 by map", Duration::from_micros(10), 60_000, 1.15)
}

/// The task's argument and result are as small as possible, so that the pool's own work is left.
/// Beside one thread that encodes the arguments once and decodes them once, by the codec of the
/// face.
pub(crate) fn map_of_u64(pairs: usize) -> Row {
    const ITEMS: u64 = 1_000_000;
    let pool = our_pool();
    let our_time = || {
        let begun = Instant::now();
        let results = pool.map(|x: u64| x, 0..ITEMS).expect("no-op tasks are done");
        assert_eq!(black_box(results).len() as u64, ITEMS);
        begun.elapsed().as_secs_f64() * 1e3
    };
    let their_time = || {
        let begun = Instant::now();
        let mut bytes = Vec::new();
        for x in 0..ITEMS {
            bytes = postcard::to_extend(&black_box(x), bytes).expect("a number encodes");
        }
        let mut rest = black_box(&bytes[..]);
        let mut results: Vec<u64> = Vec::new();
        while !rest.is_empty() {
            let (x, behind) = postcard::take_from_bytes(rest).expect("a number decodes");
            results.push(x);
            rest = behind;
        }
        assert_eq!(black_box(results).len() as u64, ITEMS);
        begun.elapsed().as_secs_f64() * 1e3
    };
    let pairs = (0..pairs).map(|_| (our_time(), their_time()));
    Row::new("map of 1,000,000 u64", "ms", "encode and decode", Must::AtMost(1.5), pairs.collect())
}

/// Each task reads 500 places of a table of 1 MiB. Ours is the call's state, encoded and decoded
/// anew with each call; the other workers have the table already, in a static.
pub(crate) fn map_with_a_vector(pairs: usize) -> Row {
    map_with(pairs, "Vec<u64>", table(), |table: &Vec<u64>, item: u64| read(table, item))
}

/// The same, with a state that is copied and not encoded number by number.
pub(crate) fn map_with_a_slice(pairs: usize) -> Row {
    map_with(pairs, "Slice<u64>", Slice::from(table()), |table: &Slice<u64>, item: u64| read(table, item))
}

const TABLE_LEN: u64 = 128 * 1024;

fn table() -> Vec<u64> {
    (0..TABLE_LEN).map(|x| x.wrapping_mul(6_364_136_223_846_793_005)).collect()
}

fn read(table: &[u64], item: u64) -> u64 {
    const READS: u64 = 500;
    (0..READS).fold(item, |place, _| table[(place % TABLE_LEN) as usize] ^ place.rotate_left(7))
}

fn map_with<S, F>(pairs: usize, of: &str, state: S, read_state: F) -> Row
where
    S: Message,
    F: StateFn<S, u64, u64> + Copy,
{
    const ITEMS: u64 = 10_000;
    static TABLE: LazyLock<Vec<u64>> = LazyLock::new(table);
    let pool = our_pool();
    let time = |call: &dyn Fn() -> Vec<u64>| {
        let begun = Instant::now();
        assert_eq!(black_box(call()).len() as u64, ITEMS);
        begun.elapsed().as_secs_f64() * 1e3
    };
    let with = || pool.map_with(&state, read_state, 0..ITEMS);
    let without = || pool.map(|item: u64| read(&TABLE, item), 0..ITEMS);
    assert_eq!(with().expect("tasks are done"), without().expect("tasks are done"));
    let pairs =
        (0..pairs).map(|_| (time(&|| with().expect("tasks are done")), time(&|| without().expect("tasks are done"))));
    let what = format!("map_with a {of} of 1 MiB, 10,000 items");
    Row::new(what, "ms", "map over a static", Must::AtMost(1.05), pairs.collect())
}

/// One task of a hundred takes a hundred times as long, and the pool does not know which. Beside
/// threads of which each got its fair share of both kinds beforehand: no schedule is better.
pub(crate) fn stragglers(pairs: usize) -> Row {
    const TASKS: usize = 4_000;
    const EVERY: usize = 100;
    let turns = (turns_per_second() * 50e-6) as u64;
    let length = |task: usize| if is_straggler(task) { turns * EVERY as u64 } else { turns };
    fn is_straggler(task: usize) -> bool {
        // Scattered: one in each hundred, at no fixed place.
        task % EVERY == (task / EVERY).wrapping_mul(2_654_435_761) % EVERY
    }
    let pool = our_pool();
    let our_time = || {
        let begun = Instant::now();
        black_box(pool.map(burn, (0..TASKS).map(length)).expect("tasks that compute are done"));
        begun.elapsed().as_secs_f64()
    };
    let (long, short): (Vec<usize>, Vec<usize>) = (0..TASKS).partition(|task| is_straggler(*task));
    let share_of = |worker: usize| -> Vec<u64> {
        let of =
            |tasks: &[usize]| tasks.iter().skip(worker).step_by(WORKERS).map(|task| length(*task)).collect::<Vec<_>>();
        [of(&long), of(&short)].concat()
    };
    let shares: Vec<Vec<u64>> = (0..WORKERS).map(share_of).collect();
    let their_time = || {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for share in &shares {
                scope.spawn(move || black_box(share.iter().map(|turns| burn(*turns)).fold(0, u64::wrapping_add)));
            }
        });
        begun.elapsed().as_secs_f64()
    };
    let pairs = (0..pairs).map(|_| (our_time(), their_time()));
    Row::new("map, 1 % of tasks 100 times as long", "s", "best static schedule", Must::AtMost(1.05), pairs.collect())
}

/// Measures the memory of a worker that has run a little and is idle, with its part of shared
/// memory.
pub(crate) fn idle_memory(pairs: usize) -> Row {
    let (ours, theirs) = (our_pool(), their_pool());
    let their_pid = || theirs.spawn((), |()| std::process::id()).join().expect("a no-op task is done");
    let our_pid = || ours.apply(|()| std::process::id(), ()).expect("a no-op task is done");
    std::thread::sleep(Duration::from_millis(500));
    let pairs = (0..pairs).map(|_| (proportional_kib(our_pid()), proportional_kib(their_pid())));
    Row::new("idle worker, proportional set size", "KiB", "procspawn::Pool", Must::AtMost(1.2), pairs.collect())
}

/// Measures the CPU time of the parent and two idle workers, as a share of the time that passes.
pub(crate) fn idle(pairs: usize) -> Row {
    const LENGTH: Duration = Duration::from_secs(5);
    let pool = our_pool();
    let mut pids = pool.worker_pids();
    pids.push(std::process::id());
    // Its earlier work has ended by now.
    std::thread::sleep(Duration::from_secs(2));
    let percent = || {
        let before: f64 = pids.iter().map(|pid| cpu_seconds(*pid)).sum();
        std::thread::sleep(LENGTH);
        let used = pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>() - before;
        100.0 * used / LENGTH.as_secs_f64()
    };
    let pairs = (0..pairs).map(|_| (percent(), 1.0));
    Row::new("idle pool over 5 s, parent and workers", "% CPU", "1 % CPU", Must::AtMost(0.05), pairs.collect())
}

fn our_pool() -> Pool {
    let pool = Pool::new(WORKERS).expect("a pool starts");
    pool.map(|x: u64| x, 0..1000).expect("it serves");
    pool
}

fn their_pool() -> procspawn::Pool {
    let pool = procspawn::Pool::new(WORKERS).expect("a pool starts");
    for x in 0..100u64 {
        pool.spawn(x, |x| x).join().expect("it serves");
    }
    pool
}

fn our_rate(pool: &Pool, tasks: usize, window: usize) -> f64 {
    let begun = Instant::now();
    let mut flying: VecDeque<AsyncResult<u64>> = VecDeque::with_capacity(window);
    for x in 0..tasks as u64 {
        if flying.len() == window
            && let Some(oldest) = flying.pop_front()
        {
            black_box(oldest.get().expect("a no-op task is done"));
        }
        flying.push_back(pool.apply_async(|x: u64| x, x).expect("the pool is open"));
    }
    for result in flying {
        black_box(result.get().expect("a no-op task is done"));
    }
    tasks as f64 / begun.elapsed().as_secs_f64()
}

fn their_rate(pool: &procspawn::Pool, tasks: usize, window: usize) -> f64 {
    let begun = Instant::now();
    let mut flying = VecDeque::with_capacity(window);
    for x in 0..tasks as u64 {
        if flying.len() == window
            && let Some(oldest) = flying.pop_front()
        {
            black_box(procspawn::JoinHandle::join(oldest).expect("a no-op task is done"));
        }
        flying.push_back(pool.spawn(x, |x| x));
    }
    for result in flying {
        black_box(result.join().expect("a no-op task is done"));
    }
    tasks as f64 / begun.elapsed().as_secs_f64()
}

/// Beside rayon at its finest splitting. By default rayon leaves 600 tasks in a few large pieces,
/// which cannot be stolen from a thread that lost its core. On a machine with other work that is
/// slower, and no limit.
fn compute(pairs: usize, what: &str, length: Duration, tasks: usize, most: f64) -> Row {
    let turns = (turns_per_second() * length.as_secs_f64()) as u64;
    let ours = our_pool();
    let theirs = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().expect("a thread pool starts");
    let our_time = || {
        let begun = Instant::now();
        black_box(ours.map(burn, std::iter::repeat_n(turns, tasks)).expect("tasks that compute are done"));
        begun.elapsed().as_secs_f64()
    };
    let their_time = || {
        let begun = Instant::now();
        let results: Vec<u64> =
            theirs.install(|| (0..tasks).into_par_iter().with_max_len(1).map(|_| burn(black_box(turns))).collect());
        black_box(results);
        begun.elapsed().as_secs_f64()
    };
    let pairs = (0..pairs).map(|_| (our_time(), their_time()));
    Row::new(what, "s", "rayon, max_len(1)", Must::AtMost(most), pairs.collect())
}

/// Does work that takes the same time wherever it runs.
fn burn(turns: u64) -> u64 {
    (0..turns).fold(1, |x: u64, turn| black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn)))
}

/// Measures an undisturbed moment.
fn turns_per_second() -> f64 {
    const TURNS: u64 = 1_000_000;
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let quickest = (0..20).map(|_| {
            let begun = Instant::now();
            black_box(burn(black_box(TURNS)));
            begun.elapsed()
        });
        TURNS as f64 / quickest.min().expect("twenty runs").as_secs_f64()
    })
}

pub(crate) fn median_micros(times: usize, mut once: impl FnMut()) -> f64 {
    let trips = (0..times).map(|_| {
        let begun = Instant::now();
        once();
        begun.elapsed()
    });
    micros_of_median(trips.collect())
}

fn micros_of_median(mut durations: Vec<Duration>) -> f64 {
    durations.sort();
    durations[durations.len() / 2].as_secs_f64() * 1e6
}

/// Returns how much RAM a process has, with its part of shared pages.
///
/// # Panics
///
/// If the file cannot be read.
fn proportional_kib(pid: u32) -> f64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or_else(|| panic!("{path}: no set size in {text:?}"))
}

/// Returns the CPU time that all threads of a process have had so far.
///
/// # Panics
///
/// If a time cannot be read: an unreadable figure must not count as 0.
fn cpu_seconds(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let nanos = threads.map(|thread| {
        let path = thread.expect("the process lives").path().join("schedstat");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let first = text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
        first.unwrap_or_else(|| panic!("{}: no time in {text:?}", path.display()))
    });
    nanos.sum::<u64>() as f64 / 1e9
}
