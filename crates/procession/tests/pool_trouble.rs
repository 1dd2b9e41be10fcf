//! Workers that die, under each start method: what the caller gets.

use std::collections::HashSet;
use std::time::Duration;

use procession::{AsyncResult, Context, Pool, Result};
use procession_sys::Signal;
use procession_sys::pidfd::PidFd;
use procession_testing::{eventually, for_each_context, kill, run, tests};

/// The ways in which a task ends its worker, with the worker's exit code.
const DEATHS: [(&str, i32); 4] = [("kill", -9), ("abort", -6), ("exit", 3), ("segfault", -11)];

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_worker_that_dies_in_a_task_loses_that_task_alone,
            in_a_map_one_item_is_lost_and_its_neighbours_are_not,
            each_task_of_a_map_has_its_own_result,
            what_short_tasks_of_a_chunk_finished_before_a_death_counts,
            a_chunk_goes_on_behind_whatever_a_task_of_it_ended_with,
            a_panic_that_a_task_caught_is_not_the_next_ones,
            killed_idle_workers_are_replaced_for_the_next_job,
            killing_all_workers_loses_only_running_tasks,
            each_kill_fails_at_most_one_map,
            a_pool_closed_while_workers_die_still_finishes,
        ],
    })
}

fn a_worker_that_dies_in_a_task_loses_that_task_alone(context: Context) {
    let pool = context.pool(2).unwrap();
    for (death, code) in DEATHS {
        let results = submit(&pool, 100, |x| if x == 42 { death } else { "" });
        for (x, result) in results.iter().enumerate() {
            if x == 42 {
                let error = result.get().unwrap_err();
                assert!(error.is_worker_lost(), "{death}: {error}");
                assert_eq!(error.exit_code(), Some(code), "{death}");
                assert_eq!(error.signal(), (code < 0).then_some(-code), "{death}");
                assert_ne!(error.is_oom_kill(), Some(true), "{death}");
                assert!(code == -9 || error.is_oom_kill() == Some(false), "{death}");
                assert!(error.pid().is_some() && error.task().unwrap().contains("task 0 of"), "{error}");
            } else {
                assert_eq!(result.get().unwrap(), x as u64, "{death}");
            }
        }
        let serving: HashSet<u32> = pool
            .map(
                |_: u8| {
                    std::thread::sleep(Duration::from_millis(20));
                    std::process::id()
                },
                0..8,
            )
            .unwrap()
            .into_iter()
            .collect();
        eventually("a replacement serves", || pool.worker_pids().len() == 2);
        assert!(!serving.is_empty());
    }
}

fn each_task_of_a_map_has_its_own_result(context: Context) {
    let pool = context.pool(2).unwrap();
    let work = |x: u32| match x {
        13 => std::process::abort(),
        7 | 90 => panic!("{x} is refused"),
        _ => x * 2,
    };
    for chunk in [1, 10, 100] {
        let each = pool.chunk_size(chunk).map_each(work, 0..100).unwrap();
        assert_eq!(each.len(), 100);
        for (x, result) in each.iter().enumerate() {
            match (x, result) {
                (13, Err(error)) => assert!(error.is_worker_lost(), "{error}"),
                (7 | 90, Err(error)) => assert!(error.is_panic(), "{error}"),
                (_, Ok(value)) => assert_eq!(*value as usize, x * 2),
                (_, Err(error)) => panic!("chunks of {chunk}: task {x}: {error}"),
            }
            assert!(result.as_ref().err().is_none_or(|error| error.index() == Some(x)));
        }
    }
    let cancelled = pool.map_async(|_: u32| std::thread::sleep(Duration::from_secs(3600)), 0..10).unwrap();
    assert!(cancelled.cancel().unwrap());
    assert!(cancelled.get_each().unwrap_err().is_cancelled());
    assert!(pool.map_each(|x: u32| x, Vec::<u32>::new()).unwrap().is_empty());
}

fn in_a_map_one_item_is_lost_and_its_neighbours_are_not(context: Context) {
    let pool = context.pool(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mark = |x: u64| dir.path().join(x.to_string()).to_str().unwrap().to_owned();
    let items: Vec<(u64, String, String)> =
        (0..100).map(|x| (x, if x == 50 { "kill".into() } else { String::new() }, mark(x))).collect();
    fn marked((x, death, path): (u64, String, String)) -> u64 {
        // Created once: a task that ran twice would fail here.
        std::fs::File::create_new(path).unwrap();
        die(&death);
        x
    }
    let result = pool.chunk_size(25).map_async(marked, items).unwrap();
    let error = result.get().unwrap_err();
    assert!(error.is_worker_lost() && error.task().unwrap().starts_with("task 50 of"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 100, "every task ran, the lost one too");
}

fn what_short_tasks_of_a_chunk_finished_before_a_death_counts(context: Context) {
    let pool = context.pool(2).unwrap();
    let deadly = |x: u64| if x == 4321 { std::process::abort() } else { x };
    let result = pool.chunk_size(5000).map_async(deadly, 0..10_000).unwrap();
    let error = result.get().unwrap_err();
    assert!(error.is_worker_lost() && error.task().unwrap().starts_with("task 4321 of"), "{error}");
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.lost, stats.failed), (9_999, 1, 0), "each of the others ran once");
}

fn a_chunk_goes_on_behind_whatever_a_task_of_it_ended_with(context: Context) {
    let pool = context.pool(2).unwrap();
    let unlucky = |x: u64| if x % 7 == 3 { panic!("unlucky {x}") } else { "x".repeat(x as usize % 600) };
    let result = pool.chunk_size(150).map_async(unlucky, 0..1_000).unwrap();
    let error = result.get().unwrap_err();
    assert_eq!(error.panic_message(), Some("unlucky 3"));
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.failed, stats.lost), (857, 143, 0));
    assert_eq!(stats.workers.iter().map(|worker| worker.done).sum::<u64>(), 1_000);
    // Values around the longest short one, and far more than a stream holds.
    let lengths = pool.chunk_size(4_000).map(|x: u64| vec![x as u8; x as usize % 600], 0..8_000).unwrap();
    assert!(lengths.iter().enumerate().all(|(x, value)| *value == vec![x as u8; x % 600]));
}

fn a_panic_that_a_task_caught_is_not_the_next_ones(context: Context) {
    let pool = context.pool(1).unwrap();
    let quiet = |x: u64| {
        if x == 5 {
            std::panic::resume_unwind(Box::new("quiet"));
        }
        assert!(std::panic::catch_unwind(|| panic!("caught")).is_err());
    };
    let error = pool.chunk_size(10).map(quiet, 0..10).unwrap_err();
    assert_eq!((error.panic_message(), error.task().map(|task| &task[..6])), (Some("quiet"), Some("task 5")));
}

fn killed_idle_workers_are_replaced_for_the_next_job(context: Context) {
    let pool = context.pool(3).unwrap();
    pool.map(|x: u64| x, 0..10).unwrap();
    let before = pool.worker_pids();
    before.iter().for_each(|pid| assert!(kill(*pid)));
    assert_eq!(pool.map(|x: u64| x + 1, 0..100).unwrap(), (1..101).collect::<Vec<_>>());
    eventually("all three are replaced", || {
        let now = pool.worker_pids();
        now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
    });
}

fn killing_all_workers_loses_only_running_tasks(context: Context) {
    const WORKERS: usize = 4;
    let pool = context.pool(WORKERS).unwrap();
    let task = |x: u64| {
        std::thread::sleep(Duration::from_micros(20));
        x
    };
    let results: Vec<AsyncResult<u64>> = (0..10_000).map(|x| pool.apply_async(task, x).unwrap()).collect();
    results[500].wait().unwrap();
    pool.worker_pids().iter().for_each(|pid| assert!(kill(*pid)));
    let mut lost = 0;
    for (x, result) in results.iter().enumerate() {
        match result.get() {
            Ok(value) => assert_eq!(value, x as u64),
            Err(error) => {
                assert!(error.is_worker_lost() && error.signal() == Some(9), "{error}");
                lost += 1;
            }
        }
    }
    assert!(lost <= WORKERS, "{lost} tasks lost by {WORKERS} workers");
}

fn each_kill_fails_at_most_one_map(context: Context) {
    const WORKERS: usize = 2;
    let pool = context.pool(WORKERS).unwrap();
    let (mut lost, mut kills) = (0, 0);
    for round in 0..30u64 {
        let result = pool.chunk_size(7).map_async(|x: u64| x * 3, 0..2000).unwrap();
        if let Some(pid) = pool.worker_pids().get(round as usize % WORKERS) {
            kills += usize::from(kill(*pid));
        }
        match result.get() {
            Ok(values) => assert!(values.iter().enumerate().all(|(x, value)| *value == x as u64 * 3)),
            Err(error) => {
                assert!(error.is_worker_lost(), "{error}");
                lost += 1;
            }
        }
    }
    assert!(kills > 10 && lost <= kills, "{lost} lost in {kills} kills");
    pool.close();
    pool.join().unwrap();
}

fn a_pool_closed_while_workers_die_still_finishes(context: Context) {
    let pool = context.pool(2).unwrap();
    let results = submit(&pool, 200, |x| if x % 50 == 7 { "kill" } else { "" });
    pool.close();
    pool.join().unwrap();
    assert_eq!(results.iter().filter(|result| result.get().is_err_and(|error| error.is_worker_lost())).count(), 4);
}

fn submit(pool: &Pool, count: u64, death: impl Fn(u64) -> &'static str) -> Vec<AsyncResult<u64>> {
    fn task((x, death): (u64, String)) -> u64 {
        die(&death);
        x
    }
    let results: Result<_> = (0..count).map(|x| pool.apply_async(task, (x, death(x).to_owned()))).collect();
    results.unwrap()
}

fn die(how: &str) {
    match how {
        "" => {}
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "kill" => assert!(!kill(std::process::id()), "it goes on behind its end"),
        // Rust's own handler lets the first pass, to restore the default action.
        "segfault" => (0..2).for_each(|_| {
            PidFd::of_self().unwrap().signal(Signal::SEGV).unwrap();
        }),
        other => panic!("no such death: {other}"),
    }
}
