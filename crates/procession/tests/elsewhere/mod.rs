//! Tests of pools with their workers on other machines, whatever brings them there. Each function
//! is a test. The programs that have them name a context (`crate::context`) that has room for
//! `crate::WORKERS` workers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use procession::{Bytes, Pool, Queue};
use procession_testing::{Random, eventually, kill, runs, seed_of_now};

use crate::{WORKERS, context};

pub(crate) fn pool(workers: usize) -> Pool {
    context().pool(workers).unwrap()
}

/// Returns how many of its workers are at a task.
pub(crate) fn running(pool: &Pool) -> usize {
    pool.stats().unwrap().workers.iter().filter(|worker| worker.running.is_some()).count()
}

pub(crate) fn square(x: u64) -> u64 {
    x * x
}

pub(crate) fn every_method_gives_its_results_in_order() {
    let pool = pool(WORKERS);
    let squares: Vec<u64> = (0..500).map(square).collect();
    assert_eq!(pool.apply(square, 12).unwrap(), 144);
    assert_eq!(pool.call(|| 5_u8).unwrap(), 5);
    assert_eq!(pool.map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.chunk_size(1).map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.chunk_size(7).map(square, 0..500).unwrap(), squares);
    assert_eq!(pool.map_async(square, 0..500).unwrap().get().unwrap(), squares);
    assert_eq!(pool.imap(square, 0..500).collect::<procession::Result<Vec<_>>>().unwrap(), squares);
    let unordered: BTreeSet<u64> = pool.imap_unordered(square, 0..500).map(Result::unwrap).collect();
    assert_eq!(unordered, squares.iter().copied().collect());
    assert_eq!(pool.imap(square, 0..).take(3).map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 4]);
    let sums = pool.starmap(|a: u32, b: u32| a + b, (0..100).map(|number| (number, 1))).unwrap();
    assert_eq!(sums, (1..101).collect::<Vec<_>>());
    let handles: Vec<_> = (0..50).map(|number| pool.apply_async(square, number).unwrap()).collect();
    assert_eq!(handles.into_iter().map(|handle| handle.get().unwrap()).collect::<Vec<_>>(), squares[..50]);
    let words = pool.map(|word: String| word.len(), ["one".to_owned(), "three".to_owned()]).unwrap();
    assert_eq!(words, [3, 5]);
    pool.close();
    pool.join().unwrap();
}

pub(crate) fn ten_thousand_tasks_are_done_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done").display().to_string();
    let note = |path: &String, number: u32| {
        // One write, so that no two are mixed.
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
        number
    };
    let numbers = pool(WORKERS).map_with(&path, note, 0..10_000).unwrap();
    assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
    let text = fs::read_to_string(&path).unwrap();
    let mut done: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, numbers);
}

pub(crate) fn workers_are_processes_elsewhere() {
    let pool = pool(WORKERS);
    let pids: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
    assert_eq!(pids.len(), WORKERS);
    let own: BTreeSet<u32> = procession_testing::processes_below(std::process::id()).into_iter().collect();
    assert!(pids.is_disjoint(&own) && !pids.contains(&std::process::id()));
    let seen: BTreeSet<u32> =
        pool.chunk_size(1).map(|_: u32| std::process::id(), 0..200).unwrap().into_iter().collect();
    assert!(seen.is_subset(&pids), "{seen:?} {pids:?}");
    let stats = pool.stats().unwrap();
    assert_eq!((stats.done, stats.failed, stats.lost), (200, 0, 0));
}

pub(crate) fn state_is_shared_by_the_tasks_of_a_call() {
    let pool = pool(2);
    // More states than an agent keeps, each of them more than once; short ones and long ones.
    for round in 0..3 {
        for number in 0..7_usize {
            let table: Vec<usize> = (0..if number % 2 == 0 { 3 } else { 3000 }).map(|at| at * number).collect();
            let found = pool.map_with(&table, |table, at: usize| table[at], [2, 0, 1]).unwrap();
            assert_eq!(found, [2 * number, 0, number], "round {round}");
        }
    }
    let lazily = pool.imap_with(7, |factor, x: u64| x * factor, 0..).take(3);
    assert_eq!(lazily.map(Result::unwrap).collect::<Vec<_>>(), [0, 7, 14]);
}

fn abort_at_three(number: u32) -> u32 {
    if number == 3 {
        std::process::abort();
    }
    number
}

pub(crate) fn killed_child_fails_only_its_task() {
    let pool = pool(WORKERS);
    let results = pool.chunk_size(1).map_each(abort_at_three, 0..50).unwrap();
    for (number, result) in (0..50).zip(results) {
        match result {
            Ok(value) => assert!(value == number && number != 3),
            Err(error) => {
                assert!(number == 3 && error.is_worker_lost(), "{error}");
                assert_eq!((error.index(), error.signal()), (Some(3), Some(6)));
                let host = error.host().expect("it says where");
                assert!(error.to_string().contains(&format!(" on {host}")), "{error}");
            }
        }
    }
    eventually("the worker is replaced", || pool.worker_pids().len() == WORKERS);
    assert_eq!(pool.map(abort_at_three, 4..100).unwrap().len(), 96);
}

pub(crate) fn task_lost_inside_a_chunk_is_the_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done").display().to_string();
    let note = |path: &String, number: u32| {
        if number == 4 {
            std::process::exit(9);
        }
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{number}\n").as_bytes()).unwrap();
        number
    };
    let results = pool(1).chunk_size(10).map_each_with(&path, note, 0..30).unwrap();
    let lost: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].index(), lost[0].exit_code()), (Some(4), Some(9)));
    let text = fs::read_to_string(&path).unwrap();
    let mut done: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..30).filter(|number| *number != 4).collect::<Vec<_>>(), "each ran once");
}

pub(crate) fn idle_child_that_is_killed_is_replaced() {
    let pool = pool(2);
    let before = pool.worker_pids();
    kill(before[0]);
    eventually("another is in its place", || {
        let now = pool.worker_pids();
        now.len() == 2 && !now.contains(&before[0]) && now.contains(&before[1])
    });
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

pub(crate) fn tasks_behind_the_death_of_an_idle_child_are_not_lost() {
    let pool = pool(1);
    for round in 0..30 {
        let pid = pool.call(std::process::id).unwrap();
        kill(pid);
        eventually("it has ended", || !runs(pid));
        // The driver may know of it or not.
        let squares = pool.chunk_size(3).map(square, 0..10);
        assert!(squares.is_ok_and(|squares| squares.len() == 10), "round {round}");
    }
    assert_eq!(pool.stats().unwrap().lost, 0);
}

/// The first run of each number notes that and is killed.
fn killed_once(folder: &String, number: u32) -> u32 {
    let path = PathBuf::from(folder).join(number.to_string());
    if number.is_multiple_of(5) && !path.exists() {
        fs::write(path, "").unwrap();
        std::process::abort();
    }
    number
}

pub(crate) fn lost_task_is_run_again_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(WORKERS);
    let numbers = pool.retries(1).map_with(folder.path().display().to_string(), killed_once, 0..20).unwrap();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let error = pool.retries(2).apply(|()| -> () { std::process::abort() }, ()).unwrap_err();
    assert!(error.is_worker_lost());
}

pub(crate) fn exit_code_of_a_task_is_told() {
    let error = pool(1).apply(|code: i32| -> () { std::process::exit(code) }, 7).unwrap_err();
    assert_eq!((error.exit_code(), error.signal()), (Some(7), None));
}

pub(crate) fn sleep_for_ever_at_two(number: u32) -> u32 {
    if number == 2 {
        std::thread::sleep(Duration::from_secs(3600));
    }
    number
}

pub(crate) fn time_limit_ends_the_task_alone() {
    let pool = pool(2);
    let results = pool.timeout(Duration::from_millis(300)).map_each(sleep_for_ever_at_two, 0..10).unwrap();
    for (number, result) in (0..10).zip(results) {
        match result {
            Ok(value) => assert!(value == number && number != 2),
            Err(error) => assert!(number == 2 && error.is_task_timeout(), "{error}"),
        }
    }
    assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
}

pub(crate) fn cancelled_task_ends() {
    let pool = pool(1);
    let task = pool.apply_async(sleep_for_ever_at_two, 2).unwrap();
    eventually("it runs", || running(&pool) == 1);
    let pid = pool.worker_pids()[0];
    assert!(task.cancel().unwrap());
    assert!(task.get().unwrap_err().is_cancelled());
    eventually("its process has ended", || !runs(pid));
    assert_eq!(pool.apply(square, 3).unwrap(), 9);
}

pub(crate) fn panics_name_their_task() {
    let error = pool(WORKERS).chunk_size(8).map(|x: u32| assert!(x != 37, "not {x}"), 0..100).unwrap_err();
    assert_eq!((error.panic_message(), error.index()), (Some("not 37"), Some(37)));
}

static KEPT: std::sync::OnceLock<String> = std::sync::OnceLock::new();

pub(crate) fn initializer_runs_in_each_child() {
    let keep = |text: String| KEPT.set(text).unwrap();
    let pool = context().pool_builder(WORKERS).initializer(keep, "kept".to_owned()).start().unwrap();
    let kept = pool.chunk_size(1).map(|_: u32| KEPT.get().cloned(), 0..50).unwrap();
    assert!(kept.iter().all(|kept| kept.as_deref() == Some("kept")));
    assert!(pool.apply(|()| -> () { std::process::abort() }, ()).is_err());
    assert_eq!(pool.call(|| KEPT.get().cloned()).unwrap().as_deref(), Some("kept"), "in a replacement, too");
}

pub(crate) fn initializer_that_panics_breaks_the_pool() {
    let fail = |()| panic!("no licence");
    let pool = context().pool_builder(1).initializer(fail, ()).start().unwrap();
    let error = pool.apply(square, 1).unwrap_err();
    assert_eq!(error.panic_message(), Some("no licence"), "{error}");
}

pub(crate) fn child_makes_way_after_its_tasks() {
    let pool = context().pool_builder(1).max_tasks_per_worker(2).start().unwrap();
    let pids: BTreeSet<u32> = (0..6).map(|_| pool.call(std::process::id).unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(pool.stats().unwrap().lost, 0);
}

pub(crate) fn pool_grows_and_shrinks() {
    let pool = pool(1);
    pool.resize(WORKERS).unwrap();
    assert_eq!(pool.worker_pids().len(), WORKERS);
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    let error = pool.resize(WORKERS + 1).unwrap_err();
    assert!(error.to_string().contains(&format!("{WORKERS} of them")), "{error}");
    assert_eq!(pool.workers(), WORKERS);
    pool.resize(1).unwrap();
    eventually("two have left", || pool.worker_pids().len() == 1);
    assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
}

pub(crate) fn kills_at_random_cost_retries_and_no_result() {
    const KILLS: usize = 30;
    let pool = pool(WORKERS);
    let killer = std::thread::spawn({
        let pool = pool.clone();
        move || {
            let mut random = Random::new(seed_of_now());
            for _ in 0..KILLS {
                std::thread::sleep(Duration::from_millis(random.below(40)));
                let pids = pool.worker_pids();
                if !pids.is_empty() {
                    kill(pids[random.index(pids.len())]);
                }
            }
        }
    });
    let careful = pool.retries(u32::MAX);
    let expected: Vec<u64> = (0..3000).map(square).collect();
    let mut rounds = 0;
    while !killer.is_finished() || rounds == 0 {
        let round = careful.map_with(rounds, |_: &u32, x: u64| x * x, 0..3000).unwrap();
        assert!(round == expected, "round {rounds}");
        rounds += 1;
    }
    killer.join().unwrap();
    assert_eq!(careful.map(square, 0..3000).unwrap(), expected);
    assert_eq!(pool.stats().unwrap().lost, 0);
}

pub(crate) fn hundred_megabytes_go_and_come() {
    let pool = pool(1);
    let len = 100 << 20;
    let bytes = Bytes::from((0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let back = pool.apply(|bytes: Bytes| Bytes::from(bytes.iter().rev().copied().collect::<Vec<_>>()), bytes).unwrap();
    assert_eq!(back.len(), len);
    assert!(back.iter().rev().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
}

pub(crate) fn many_large_results_arrive_whole() {
    let pool = pool(WORKERS);
    // More than the results' streams hold, so that those who write them wait.
    let texts = pool.map(|number: usize| number.to_string().repeat(50_000), 0..200).unwrap();
    assert!(texts.iter().enumerate().all(|(number, text)| *text == number.to_string().repeat(50_000)));
}

pub(crate) fn terminated_pool_frees_its_agents() {
    for round in 0..5 {
        let pool = pool(WORKERS);
        let pids = pool.worker_pids();
        let slow = pool.map_async(|_: u32| std::thread::sleep(Duration::from_secs(3600)), 0..10).unwrap();
        let large = pool.map_async(|_: u32| vec![1_u8; 1 << 20], 0..100).unwrap();
        pool.terminate();
        assert!(slow.get().is_err() && large.get().is_err(), "round {round}");
        eventually("its processes have ended", || pids.iter().all(|pid| !runs(*pid)));
    }
}

pub(crate) fn handles_are_refused() {
    let pool = pool(1);
    let queue = Queue::<u32>::new().unwrap();
    let error = pool.apply(|queue: Queue<u32>| queue.put(1).is_ok(), queue.clone()).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("others"), "{error}");
    let error = pool.map_with(queue.clone(), |queue, x: u32| queue.put(x).is_ok(), 0..3).unwrap_err();
    assert!(error.to_string().contains("others"), "{error}");
    let keep = |_: Queue<u32>| ();
    assert!(context().pool_builder(1).initializer(keep, queue).start().unwrap_err().is_invalid());
    assert_eq!(pool.apply(square, 5).unwrap(), 25);
}

pub(crate) fn settings_for_this_machine_are_refused() {
    let refused = [
        context().pool_builder(1).max_memory_per_worker(1 << 30).start(),
        context().pool_builder(1).own_process_group().start(),
        context().pool_builder(1).sealed_results().start(),
        context().pool_builder(1).no_new_privs().start(),
        context().pool_builder(1).output(procession::Output::Null).start(),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(error.is_invalid() && error.to_string().contains("on this machine"), "{error}");
    }
}
