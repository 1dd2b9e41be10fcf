//! Time limits, cancelling, retries, initializers, short-lived workers and lazy maps, under each
//! start method.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use procession::{Context, Queue, Result};
use procession_testing::{eventually, for_each_context, kill, run, scaled, tests};

const HOUR: u64 = 3_600_000;

fn sleep(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_task_that_takes_too_long_is_ended_and_no_other,
            task_that_panics_in_time_has_panicked,
            cancel_reaches_running_and_queued_tasks,
            a_lost_task_is_run_again_where_that_was_asked,
            an_initializer_runs_in_every_worker_first,
            an_initializer_that_fails_is_said_and_not_repeated_for_ever,
            workers_that_die_before_they_are_ready_break_the_pool,
            workers_make_way_after_so_many_chunks,
            imap_is_lazy_and_in_order,
            imap_goes_on_behind_an_error,
            imap_unordered_gives_what_is_ready,
            workers_that_ignore_an_interrupt_go_on,
        ],
    })
}

fn a_task_that_takes_too_long_is_ended_and_no_other(context: Context) {
    let pool = context.pool(2).unwrap();
    let limited = pool.timeout(scaled(Duration::from_millis(200)));
    let results: Vec<_> = (0..40).map(|x| limited.apply_async(sleep, if x == 7 { HOUR } else { 1 }).unwrap()).collect();
    for (x, result) in results.iter().enumerate() {
        match result.get() {
            Ok(_) => assert_ne!(x, 7),
            Err(error) => {
                assert!(x == 7 && error.is_task_timeout() && !error.is_worker_lost(), "{x}: {error}");
                assert!(error.pid().is_some() && error.task().unwrap().contains("sleep"), "{error}");
            }
        }
    }
    let error = limited.chunk_size(4).map(sleep, [1, HOUR, 1, 1, 1]).unwrap_err();
    assert!(error.is_task_timeout() && error.task().unwrap().starts_with("task 1 of"), "{error}");
    assert_eq!(pool.apply(sleep, 300).unwrap(), 300, "no limit without one");
}

fn task_that_panics_in_time_has_panicked(context: Context) {
    // In each worker the first backtrace takes longer to write than a task has time.
    for number in 0..5 {
        let pool = context.pool(1).unwrap();
        pool.apply(sleep, 0).unwrap();
        let limited = pool.timeout(scaled(Duration::from_millis(100)));
        let error = limited.apply(|number: u64| -> u64 { panic!("panic {number}") }, number).unwrap_err();
        assert_eq!(error.panic_message(), Some(format!("panic {number}").as_str()), "{error}");
        assert!(error.to_string().contains("pool_terms.rs"), "{error}");
        assert!(limited.apply(sleep, HOUR).unwrap_err().is_task_timeout(), "the next has its limit");
    }
}

fn cancel_reaches_running_and_queued_tasks(context: Context) {
    let pool = context.pool(2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ran").to_str().unwrap().to_owned();
    let running = pool.map_async(sleep, [HOUR, HOUR]).unwrap();
    let queued = pool.map_async(|path: String| std::fs::write(path, "").unwrap(), vec![path.clone(); 50]).unwrap();
    let kept = pool.map_async(sleep, [1; 20]).unwrap();
    assert!(queued.cancel().unwrap());
    assert!(queued.get().unwrap_err().is_cancelled());
    assert!(running.cancel().unwrap());
    assert!(running.get().unwrap_err().is_cancelled());
    assert_eq!(kept.get().unwrap().len(), 20, "others are not touched");
    assert!(!kept.cancel().unwrap(), "what is done stays done");
    assert_eq!(kept.get().unwrap().len(), 20);
    pool.close();
    pool.join().unwrap();
    assert!(!std::path::Path::new(&path).exists(), "a queued task that is cancelled never runs");
}

fn a_lost_task_is_run_again_where_that_was_asked(context: Context) {
    fn dies_twice(dir: String) -> usize {
        let attempts = std::fs::read_dir(&dir).unwrap().count();
        std::fs::File::create_new(format!("{dir}/{attempts}")).unwrap();
        if attempts < 2 {
            std::process::abort();
        }
        attempts + 1
    }
    let pool = context.pool(2).unwrap();
    let dir = || tempfile::tempdir().unwrap();
    let (enough, short) = (dir(), dir());
    let name = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
    assert_eq!(pool.retries(2).apply(dies_twice, name(&enough)).unwrap(), 3);
    assert!(pool.retries(1).apply(dies_twice, name(&short)).unwrap_err().is_worker_lost());
    // In a chunk: those before are not run again, those behind run once.
    let (counted, chunked) = (dir(), dir());
    let items: Vec<_> = (0..5).map(|x| (x, name(&counted), name(&chunked))).collect();
    let task = |(x, counted, chunked): (u32, String, String)| {
        if x == 2 {
            return dies_twice(chunked);
        }
        std::fs::File::create_new(format!("{counted}/{x}")).unwrap();
        0
    };
    assert_eq!(pool.retries(5).chunk_size(5).map(task, items).unwrap(), [0, 0, 3, 0, 0]);
}

fn an_initializer_runs_in_every_worker_first(context: Context) {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let pool = context.pool_builder(2).initializer(|x: u64| STATE.store(x, Ordering::SeqCst), 42).start().unwrap();
    let read = |_: u64| STATE.load(Ordering::SeqCst);
    assert_eq!(pool.map(read, 0..20).unwrap(), [42; 20]);
    for pid in pool.worker_pids() {
        assert!(kill(pid));
    }
    assert_eq!(pool.map(read, 0..20).unwrap(), [42; 20], "in replacements too");
    assert_eq!(STATE.load(Ordering::SeqCst), 0, "not here");
}

fn an_initializer_that_fails_is_said_and_not_repeated_for_ever(context: Context) {
    let pool = context.pool_builder(2).initializer(|what: String| panic!("no {what}"), "model".into()).start();
    let pool = pool.unwrap();
    let error = pool.apply(|x: u64| x, 1).unwrap_err();
    assert!(error.is_panic() && error.is_broken(), "{error}");
    assert_eq!(error.panic_message(), Some("no model"));
    assert!(error.to_string().contains("initializer"), "{error}");
    assert!(pool.apply(|x: u64| x, 1).unwrap_err().is_broken());
    eventually("no further worker is started", || pool.worker_pids().is_empty());
}

fn workers_that_die_before_they_are_ready_break_the_pool(context: Context) {
    let pool = context.pool_builder(1).initializer(|()| std::process::abort(), ()).start().unwrap();
    let error = pool.apply(|x: u64| x, 1).unwrap_err();
    assert!(error.is_broken() && !error.is_invalid() && error.pid().is_some(), "{error}");
    assert!(error.to_string().contains("before it was ready"), "{error}");
}

fn workers_make_way_after_so_many_chunks(context: Context) {
    let pool = context.pool_builder(2).max_tasks_per_worker(5).start().unwrap();
    let pids = pool.chunk_size(1).map(|_: u64| std::process::id(), 0..100).unwrap();
    let mut runs = std::collections::HashMap::<u32, u32>::new();
    pids.iter().for_each(|pid| *runs.entry(*pid).or_default() += 1);
    assert!(runs.len() >= 20 && runs.values().all(|runs| *runs <= 5), "{runs:?}");
}

fn imap_is_lazy_and_in_order(context: Context) {
    let pool = context.pool(2).unwrap();
    let pulled = Arc::new(AtomicU64::new(0));
    let items = {
        let pulled = pulled.clone();
        (0u64..).inspect(move |x| pulled.store(*x, Ordering::SeqCst))
    };
    let mut results = pool.imap(|x: u64| x * 2, items);
    for x in 0..500 {
        assert_eq!(results.next().unwrap().unwrap(), x * 2);
    }
    let pulled = pulled.load(Ordering::SeqCst);
    assert!(pulled < 520, "{pulled} items were pulled for 500 results");
    drop(results);
    let chunked: Result<Vec<u64>> = pool.chunk_size(7).imap(|x: u64| x, 0..100).collect();
    assert_eq!(chunked.unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(pool.imap(|x: u64| x, 0..0).count(), 0);
}

fn imap_goes_on_behind_an_error(context: Context) {
    let pool = context.pool(2).unwrap();
    let odd = |x: u64| {
        assert!(x != 3, "three");
        x
    };
    let results: Vec<Result<u64>> = pool.imap(odd, 0..6).collect();
    assert!(results[3].as_ref().is_err_and(|error| error.is_panic()));
    let values: Vec<u64> = results.into_iter().flatten().collect();
    assert_eq!(values, [0, 1, 2, 4, 5]);
    pool.close();
    let mut closed = pool.imap(odd, 0..6);
    assert!(closed.next().unwrap().unwrap_err().is_closed());
    assert!(closed.next().is_none(), "said once");
    assert!(pool.chunk_size(0).imap(odd, 0..6).next().unwrap().unwrap_err().is_invalid());
}

fn imap_unordered_gives_what_is_ready(context: Context) {
    let pool = context.pool(2).unwrap();
    let gate = Queue::new().unwrap();
    let wait_at = |(number, gate): (u64, Option<Queue<u64>>)| number + gate.map_or(0, |gate| gate.get().unwrap());
    let items = [(400, Some(gate.clone())), (1, None), (2, None), (3, None), (4, None)];
    let mut results = pool.imap_unordered(wait_at, items);
    let mut quick: Vec<u64> = results.by_ref().take(4).map(|result| result.unwrap()).collect();
    quick.sort_unstable();
    assert_eq!(quick, [1, 2, 3, 4], "the quick ones do not wait for the slow one");
    gate.put(50).unwrap();
    assert_eq!(results.map(|result| result.unwrap()).collect::<Vec<_>>(), [450]);
    let all: HashSet<u64> = pool.imap_unordered(|x: u64| x, 0..1000).map(|result| result.unwrap()).collect();
    assert_eq!(all.len(), 1000);
}

fn workers_that_ignore_an_interrupt_go_on(context: Context) {
    use rustix::process::{Pid, Signal, kill_process};

    let interrupt_workers = |pool: &procession::Pool| {
        for pid in pool.worker_pids() {
            kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::INT).unwrap();
        }
    };
    let wait_for = |(begun, go_on): (Queue<u32>, Queue<u32>)| {
        begun.put(std::process::id()).unwrap();
        go_on.get().unwrap()
    };
    let (begun, go_on) = (Queue::new().unwrap(), Queue::new().unwrap());
    let patient = context.pool_builder(2).ignore_interrupt().start().unwrap();
    let results = [1, 2].map(|_| patient.apply_async(wait_for, (begun.clone(), go_on.clone())).unwrap());
    let pids: HashSet<u32> = (0..2).map(|_| begun.get().unwrap()).collect();
    interrupt_workers(&patient);
    (1..=2).for_each(|number| go_on.put(number).unwrap());
    assert_eq!(results.iter().map(|result| result.get().unwrap()).sum::<u32>(), 3);
    assert_eq!(patient.worker_pids().into_iter().collect::<HashSet<_>>(), pids);
    let usual = context.pool(1).unwrap();
    let result = usual.apply_async(wait_for, (begun.clone(), go_on.clone())).unwrap();
    begun.get().unwrap();
    interrupt_workers(&usual);
    assert_eq!(result.get().unwrap_err().signal(), Some(2));
}
