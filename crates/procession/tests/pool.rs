//! Pools, under each start method.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use procession::{Context, Pool, Queue};
use procession_testing::{OneWay, eventually, exists, for_each_context, in_time, once, run, tests};
use serde::{Deserialize, Deserializer, Serialize};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            map_keeps_order_for_any_chunk_size,
            integers_of_every_type_and_size_come_back,
            apply_returns_a_value_and_apply_async_a_result_to_wait_for,
            a_wait_ends_in_time_though_results_of_others_keep_coming,
            a_result_that_nobody_waits_for_becomes_ready,
            results_are_decoded_while_others_are_worked_on,
            a_panic_is_its_tasks_error_and_the_worker_lives,
            what_does_not_decode_is_its_tasks_error,
            large_arguments_and_results_arrive,
            close_lets_tasks_finish_and_join_waits,
            terminate_returns_with_tasks_running,
            a_dropped_pool_leaves_nothing,
            a_long_task_does_not_hold_back_what_its_worker_claimed,
        ],
        once: [
            a_pool_serves_many_threads,
            impossible_sizes_are_refused,
            pools_results_and_errors_cross_threads,
            two_pools_work_side_by_side,
        ],
    })
}

fn map_keeps_order_for_any_chunk_size(context: Context) {
    let pool = context.pool(2).unwrap();
    for count in [0u64, 1, 2, 7, 1000] {
        let expected: Vec<u64> = (0..count).map(|x| x * x).collect();
        assert_eq!(pool.map(|x: u64| x * x, 0..count).unwrap(), expected);
        for chunk in [1, 3, 5000] {
            assert_eq!(pool.chunk_size(chunk).map(|x: u64| x * x, 0..count).unwrap(), expected, "chunks of {chunk}");
        }
    }
}

fn integers_of_every_type_and_size_come_back(context: Context) {
    let pool = context.pool(2).unwrap();
    macro_rules! there_and_back {
        ($($integer:ident)*) => {$({
            let edges = (0..$integer::BITS).map(|shift| $integer::MAX >> shift);
            let all: Vec<$integer> = edges.flat_map(|edge| [edge, edge / 3, !edge]).chain([0, 1]).collect();
            assert_eq!(pool.map(|x: $integer| x, all.clone()).unwrap(), all);
            assert_eq!(pool.starmap(|x: $integer, y: u8| (x, y), all.iter().map(|x| (*x, 7))).unwrap().len(), all.len());
            for one in all {
                assert_eq!(pool.apply(|x: $integer| x, one).unwrap(), one);
            }
        })*};
    }
    there_and_back!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
    // Beside others in one job, and in place of a value that is none.
    let odd = pool.map(|x: i64| (x % 2 != 0).then_some(x), -3..3).unwrap();
    assert_eq!(odd, [Some(-3), None, Some(-1), None, Some(1), None]);
    assert_eq!(pool.map(|text: String| text.len(), ["", "a"].map(String::from)).unwrap(), [0, 1]);
    assert_eq!(pool.map(|len: usize| "x".repeat(len), [0, 300, 2]).unwrap().concat().len(), 302);
}

fn apply_returns_a_value_and_apply_async_a_result_to_wait_for(context: Context) {
    let pool = context.pool(2).unwrap();
    assert_eq!(pool.apply(|word: String| word.len(), "seven!!".to_owned()).unwrap(), 7);
    let gate = Queue::new().unwrap();
    let slow = pool.apply_async(|gate: Queue<u64>| gate.get().unwrap(), gate.clone()).unwrap();
    assert!(!slow.ready());
    assert_eq!(slow.successful(), None);
    assert!(slow.get_timeout(Duration::from_millis(10)).unwrap_err().is_timeout());
    assert!(!slow.wait_timeout(Duration::from_millis(10)).unwrap());
    gate.put(300).unwrap();
    slow.wait().unwrap();
    assert!(slow.ready());
    assert_eq!(slow.successful(), Some(true));
    assert_eq!((slow.get().unwrap(), slow.get().unwrap()), (300, 300));
}

fn a_wait_ends_in_time_though_results_of_others_keep_coming(context: Context) {
    let pool = context.pool(4).unwrap();
    let slow = pool.apply_async(|s: u64| std::thread::sleep(Duration::from_secs(s)), 3600).unwrap();
    eventually("it runs", || pool.stats().unwrap().workers.iter().any(|worker| worker.running.is_some()));
    let flood = pool.chunk_size(100_000).map_async(|x: u64| x, 0..10_000_000).unwrap();
    assert!(slow.get_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
    // It is this thread that took the results, and it did not take them all first.
    let done = pool.stats().unwrap().done;
    assert!(!flood.ready() && done < 6_000_000, "{done} were taken meanwhile");
    pool.terminate();
}

fn a_result_that_nobody_waits_for_becomes_ready(context: Context) {
    let pool = context.pool(1).unwrap();
    let result = pool.map_async(|x: u32| vec![x; 1000], 0..1000).unwrap();
    eventually("the pool's thread drains it", || result.ready());
    assert_eq!(result.get().unwrap().len(), 1000);
}

fn results_are_decoded_while_others_are_worked_on(context: Context) {
    // The last task waits until the parent has decoded a result.
    let pool = context.pool(2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoded").to_str().unwrap().to_owned();
    let task = |(index, path): (u32, String)| {
        let end = in_time();
        let is_decoded = || std::fs::exists(&path).unwrap();
        while index == 99 && !is_decoded() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        Decoded { was_told: is_decoded(), path }
    };
    let results = pool.chunk_size(1).map(task, (0..100).map(|index| (index, path.clone()))).unwrap();
    assert!(results.len() == 100 && results[99].was_told);
}

fn a_panic_is_its_tasks_error_and_the_worker_lives(context: Context) {
    let pool = context.pool(2).unwrap();
    let before: HashSet<u32> = pool.worker_pids().into_iter().collect();
    let odd = |x: u32| -> u32 {
        assert!(x.is_multiple_of(2), "{x} is odd");
        x
    };
    let error = pool.map(odd, 0..10).unwrap_err();
    assert!(error.is_panic(), "{error}");
    assert_eq!(error.panic_message(), Some("1 is odd"), "the first in order");
    assert!(error.task().unwrap().starts_with("task 1 of"), "{error}");
    assert!(error.panic_backtrace().is_none_or(|stack| stack.contains("pool")), "the stack is the worker's");
    let result = pool.apply_async(odd, 3).unwrap();
    result.wait().unwrap();
    assert_eq!(result.successful(), Some(false));
    assert_eq!(pool.map(odd, [2, 4]).unwrap(), [2, 4]);
    assert_eq!(pool.worker_pids().into_iter().collect::<HashSet<_>>(), before);
}

fn what_does_not_decode_is_its_tasks_error(context: Context) {
    let pool = context.pool(2).unwrap();
    let error = pool.apply(|_: OneWay| 1u8, OneWay).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("argument"), "{error}");
    let error = pool.apply(|_: u8| OneWay, 1).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("result"), "{error}");
    assert_eq!(pool.apply(|x: u8| x, 5).unwrap(), 5);
}

fn large_arguments_and_results_arrive(context: Context) {
    let pool = context.pool(2).unwrap();
    let blocks: Vec<Vec<u8>> = (0..6u8).map(|i| vec![i; 3_000_000]).collect();
    let back = pool
        .map(
            |mut block: Vec<u8>| {
                block.push(255);
                block
            },
            blocks.clone(),
        )
        .unwrap();
    for (block, mut original) in back.into_iter().zip(blocks) {
        original.push(255);
        assert!(block == original);
    }
}

fn close_lets_tasks_finish_and_join_waits(context: Context) {
    let pool = context.pool(2).unwrap();
    let pids = pool.worker_pids();
    let result = pool
        .map_async(
            |x: u64| {
                std::thread::sleep(Duration::from_millis(2));
                x
            },
            0..50,
        )
        .unwrap();
    let error = pool.join().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("close()"), "{error}");
    pool.close();
    let error = pool.map(|x: u64| x, 0..3).unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("new Pool"), "{error}");
    pool.join().unwrap();
    assert_eq!(result.get().unwrap().len(), 50);
    assert!(pids.into_iter().all(|pid| !exists(pid)), "workers are reaped");
    pool.join().unwrap();
}

fn terminate_returns_with_tasks_running(context: Context) {
    let pool = context.pool(2).unwrap();
    let pids = pool.worker_pids();
    let result = pool.map_async(|()| std::thread::sleep(Duration::from_secs(3600)), [(); 8]).unwrap();
    pool.terminate();
    assert!(result.get().unwrap_err().is_closed());
    assert!(pids.into_iter().all(|pid| !exists(pid)));
    pool.join().unwrap();
    assert!(pool.apply(|x: u8| x, 1).unwrap_err().is_closed());
}

fn a_dropped_pool_leaves_nothing(context: Context) {
    let pool = context.pool(3).unwrap();
    let pids = pool.worker_pids();
    let result = pool.apply_async(|()| std::thread::sleep(Duration::from_secs(3600)), ()).unwrap();
    drop(pool);
    assert_eq!(pids.len(), 3);
    assert!(pids.into_iter().all(|pid| !exists(pid)), "no process and no zombie");
    assert!(result.get().unwrap_err().is_closed());
}

fn a_long_task_does_not_hold_back_what_its_worker_claimed(context: Context) {
    let pool = context.pool(2).unwrap();
    // Quick tasks teach the workers to claim many at once; then one of such a claim is very long.
    pool.chunk_size(1).map(|x: u32| x, 0..20_000).unwrap();
    let long = |x: u32| {
        if x == 0 {
            std::thread::sleep(Duration::from_secs(3600));
        }
        x
    };
    let results: Vec<_> = (0..200).map(|x| pool.apply_async(long, x).unwrap()).collect();
    for (x, result) in results.iter().enumerate().skip(1) {
        assert_eq!(result.get().unwrap(), x as u32);
    }
    assert!(!results[0].ready());
}

fn a_pool_serves_many_threads() {
    let pool = Context::forkserver().pool(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let pool = &pool;
            scope.spawn(move || {
                for x in 0..200 {
                    assert_eq!(pool.apply(|(a, b): (u64, u64)| a * 1000 + b, (thread, x)).unwrap(), thread * 1000 + x);
                }
                assert_eq!(pool.map(|x: u64| x + 1, 0..1000).unwrap().len(), 1000);
            });
        }
    });
}

fn impossible_sizes_are_refused() {
    for workers in [0, 1025] {
        let error = Pool::new(workers).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains("available_parallelism()"), "{error}");
    }
    let pool = Context::fork().pool(1).unwrap();
    assert!(pool.chunk_size(0).map(|x: u8| x, [1]).unwrap_err().is_invalid());
}

fn pools_results_and_errors_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Pool>();
    crosses::<procession::AsyncResult<u8>>();
    crosses::<procession::Process<u8>>();
    crosses::<procession::Error>();
}

fn two_pools_work_side_by_side() {
    let (one, two) = (Context::fork().pool(1).unwrap(), Context::forkserver().pool(1).unwrap());
    let first = one.map_async(|x: u8| x, 0..100).unwrap();
    assert_eq!(two.map(|x: u8| x, 0..100).unwrap(), first.get().unwrap());
}

/// Tells by a file that it is decoded.
#[derive(Serialize, Clone)]
#[serde(into = "(String, bool)")]
struct Decoded {
    path: String,
    was_told: bool,
}

impl From<Decoded> for (String, bool) {
    fn from(Decoded { path, was_told }: Decoded) -> (String, bool) {
        (path, was_told)
    }
}

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (path, was_told) = Deserialize::deserialize(deserializer)?;
        std::fs::write(&path, "").map_err(serde::de::Error::custom)?;
        Ok(Decoded { path, was_told })
    }
}
