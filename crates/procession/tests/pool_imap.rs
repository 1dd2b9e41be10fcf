//! Lazy maps that outlive the taking of tasks, and functions of several arguments, under each start
//! method.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use procession::{Context, Result};
use procession_testing::{eventually, for_each_context, run, runs, tests};

/// Items that count how many of them were pulled.
fn counted(count: u64) -> (Arc<AtomicU64>, impl Iterator<Item = u64> + Send + 'static) {
    let pulled = Arc::new(AtomicU64::new(0));
    let its = pulled.clone();
    (
        pulled,
        (0..count).inspect(move |_| {
            its.fetch_add(1, Ordering::SeqCst);
        }),
    )
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            an_unconsumed_imap_runs_all_its_tasks_before_join_returns,
            failed_task_is_told_by_its_index_in_the_call,
            a_step_after_close_lifts_the_bound,
            a_dropped_imap_does_not_keep_a_pool,
            a_leaked_imap_is_pulled_by_join,
            a_live_imap_keeps_the_workers_of_a_closed_pool,
            terminate_ends_an_imap,
            items_that_panic_end_the_map_where_they_are_pulled,
            starmap_takes_tuples_apart,
        ],
    })
}

fn an_unconsumed_imap_runs_all_its_tasks_before_join_returns(context: Context) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    let pool = context.pool(2).unwrap();
    let items = (0..300u64).map(move |x| (x, path.clone()));
    let task = |(x, path): (u64, String)| {
        std::fs::File::create_new(format!("{path}/{x}")).unwrap();
        x
    };
    let results = pool.imap(task, items);
    pool.close();
    pool.join().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 300);
    assert!(pool.worker_pids().is_empty());
    let values: Result<Vec<u64>> = results.collect();
    assert_eq!(values.unwrap(), (0..300).collect::<Vec<_>>(), "and the results are there");
}

fn failed_task_is_told_by_its_index_in_the_call(context: Context) {
    let pool = context.pool(2).unwrap();
    let odd = |x: usize| {
        assert!(x % 7 != 3, "{x} will not do");
        if x == 11 {
            std::process::abort();
        }
        x
    };
    let failed = |errors: &mut dyn Iterator<Item = procession::Error>| {
        let mut told: Vec<_> = errors
            .map(|error| {
                let index = error.index().unwrap();
                assert!(error.task().unwrap().starts_with(&format!("task {index} of ")), "{error}");
                index
            })
            .collect();
        told.sort_unstable();
        told
    };
    assert_eq!(failed(&mut pool.imap(odd, 0..20).filter_map(Result::err)), [3, 10, 11, 17]);
    assert_eq!(failed(&mut pool.imap_unordered(odd, 0..20).filter_map(Result::err)), [3, 10, 11, 17]);
    let call = pool.chunk_size(4);
    assert_eq!(failed(&mut call.imap(odd, 0..20).filter_map(Result::err)), [3, 10, 11, 17], "each of a chunk");
    assert_eq!(pool.map(odd, 0..20).unwrap_err().index(), Some(3));
    assert_eq!(pool.map(odd, [0, 11]).unwrap_err().index(), Some(1));
}

fn a_step_after_close_lifts_the_bound(context: Context) {
    let pool = context.pool(2).unwrap();
    let (pulled, items) = counted(1000);
    let mut results = pool.imap_unordered(|x: u64| x, items);
    let first = results.next().unwrap().unwrap();
    assert!(pulled.load(Ordering::SeqCst) < 50);
    pool.close();
    let second = results.next().unwrap().unwrap();
    assert_eq!(pulled.load(Ordering::SeqCst), 1000);
    assert!(pool.imap(|x: u64| x, 0..3).next().unwrap().unwrap_err().is_closed(), "a new one is refused");
    let rest: u64 = results.map(|result| result.unwrap()).sum();
    assert_eq!(first + second + rest, 499_500);
    pool.join().unwrap();
}

fn a_dropped_imap_does_not_keep_a_pool(context: Context) {
    let pool = context.pool(2).unwrap();
    let (pulled, items) = counted(u64::MAX);
    let mut results = pool.imap(|x: u64| x, items);
    assert_eq!(results.next().unwrap().unwrap(), 0);
    drop(results);
    pool.close();
    pool.join().unwrap();
    assert!(pulled.load(Ordering::SeqCst) < 50);
}

fn a_leaked_imap_is_pulled_by_join(context: Context) {
    let pool = context.pool(2).unwrap();
    let (pulled, items) = counted(500);
    std::mem::forget(pool.imap(|x: u64| x, items));
    pool.close();
    pool.join().unwrap();
    assert_eq!(pulled.load(Ordering::SeqCst), 500);
}

fn a_live_imap_keeps_the_workers_of_a_closed_pool(context: Context) {
    let pool = context.pool(2).unwrap();
    let pids = pool.worker_pids();
    let mut results = pool.imap(|x: u64| (x, std::process::id()), 0..200u64);
    assert_eq!(results.next().unwrap().unwrap().0, 0);
    pool.close();
    eventually("the workers have nothing to do", || {
        let stats = pool.stats().unwrap();
        stats.queued == 0 && stats.workers.iter().all(|worker| worker.running.is_none())
    });
    assert!(pids.iter().all(|pid| runs(*pid)), "there is more to come");
    let (values, served): (Vec<u64>, Vec<u32>) = results.map(|result| result.unwrap()).unzip();
    assert_eq!(values.iter().sum::<u64>(), 19_900);
    assert!(served.iter().all(|pid| pids.contains(pid)), "and they serve it");
    eventually("the workers end with the last task", || pids.iter().all(|pid| !runs(*pid)));
}

fn terminate_ends_an_imap(context: Context) {
    let pool = context.pool(2).unwrap();
    let mut results = pool.imap(|x: u64| x, 0..);
    assert_eq!(results.next().unwrap().unwrap(), 0);
    pool.terminate();
    assert!(results.find(|result| result.is_err()).unwrap().unwrap_err().is_closed());
    assert!(results.by_ref().take(100).count() < 100, "it comes to an end");
    pool.join().unwrap();
}

fn items_that_panic_end_the_map_where_they_are_pulled(context: Context) {
    let pool = context.pool(2).unwrap();
    let items = (0..100u64).inspect(|x| assert!(*x < 20, "twenty"));
    let results = pool.imap(|x: u64| x, items);
    pool.close();
    let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.join()));
    assert!(joined.is_err(), "join pulled them");
    pool.join().unwrap();
    assert_eq!(results.map(|result| result.unwrap()).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

fn starmap_takes_tuples_apart(context: Context) {
    fn volume(a: u32, b: u32, c: u32) -> u32 {
        a * b * c
    }
    let pool = context.pool(2).unwrap();
    let labelled = pool.starmap(|a: u32, b: String| format!("{a}{b}"), [(1, "x".to_owned()), (2, "y".to_owned())]);
    assert_eq!(labelled.unwrap(), ["1x", "2y"]);
    assert_eq!(pool.starmap(volume, (1..50).map(|x| (x, 2, 3))).unwrap()[..3], [6, 12, 18]);
    let sums = pool.chunk_size(7).starmap_async(
        |a: u8, b: u16, c: u32, d: u64, e: Option<u8>, f: (u8, u8)| {
            u64::from(a) + u64::from(b) + u64::from(c) + d + u64::from(e.unwrap_or(0)) + u64::from(f.0 + f.1)
        },
        (0..100u64).map(|x| (1, 2, 3, x, Some(4), (5, 6))),
    );
    assert_eq!(sums.unwrap().get().unwrap()[99], 120);
    let error = pool.starmap(|a: u32, b: u32| a / b, [(4, 2), (1, 0)]).unwrap_err();
    assert!(error.is_panic() && error.task().unwrap().starts_with("task 1 of"), "{error}");
    assert!(pool.starmap(volume, []).unwrap().is_empty());
}
