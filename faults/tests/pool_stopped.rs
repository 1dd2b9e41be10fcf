//! A worker is stopped while it holds a lock of the task ring, as a debugger or a control group's
//! freezer may stop it. Nothing in the parent waits for it without a bound. See
//! `procession_core::fault`.

use std::time::Duration;

use procession::{Context, Pool};
use procession_core::fault::{Step, arm_to_stop};
use procession_testing::{eventually, for_each_context, has_stopped, kill, long, run, tests};

/// Runs in a worker, which stops at its next claim, with the ring's head locked.
fn stop_at_next_claim(_: ()) {
    arm_to_stop(Step::HeadLocked, 1);
}

/// A pool of two of whose workers one holds the ring and is stopped. Its pid, and the other's.
fn stopped(context: Context) -> (Pool, u32, u32) {
    let pool = context.pool(2).unwrap();
    pool.apply(stop_at_next_claim, ()).unwrap();
    let mut stopped = None;
    eventually("a worker stops", || {
        // Whoever claims stops or is the other one.
        drop(pool.apply_async(|x: u32| x, 1).unwrap());
        stopped = pool.worker_pids().into_iter().find(|pid| has_stopped(*pid));
        stopped.is_some()
    });
    let stopped = stopped.unwrap();
    let other = pool.worker_pids().into_iter().find(|pid| *pid != stopped).unwrap();
    (pool, stopped, other)
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            tasks_run_beside_a_worker_that_was_stopped_while_it_looked_for_work,
            waits_end_and_the_ring_is_freed,
            terminate_ends_the_stopped_worker,
            time_limits_hold_beside_a_stopped_worker,
        ],
    })
}

fn tasks_run_beside_a_worker_that_was_stopped_while_it_looked_for_work(context: Context) {
    let pool = context.pool(2).unwrap();
    pool.apply(|_: ()| arm_to_stop(Step::SearchBegun, 1), ()).unwrap();
    eventually("a worker stops", || {
        drop(pool.apply_async(|x: u32| x, 1).unwrap());
        pool.worker_pids().into_iter().any(has_stopped)
    });
    for x in 0..100 {
        assert_eq!(pool.apply(|x: u32| x + 1, x).unwrap(), x + 1);
    }
    assert_eq!(pool.map(|x: u32| x, 0..1000).unwrap().len(), 1000);
    let stopped = pool.worker_pids().into_iter().find(|pid| has_stopped(*pid)).unwrap();
    assert!(kill(stopped));
    eventually("it is replaced", || !pool.worker_pids().contains(&stopped) && pool.worker_pids().len() == 2);
    assert_eq!(pool.map(|x: u32| x, 0..1000).unwrap().len(), 1000);
}

fn waits_end_and_the_ring_is_freed(context: Context) {
    let (pool, stopped, other) = stopped(context);
    let result = pool.apply_async(|x: u32| x + 1, 1).unwrap();
    assert!(result.get_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
    assert!(kill(other));
    assert!(result.get_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
    pool.stats().unwrap();
    assert!(result.cancel().unwrap());
    assert!(result.get().unwrap_err().is_cancelled());
    // The ring must grow for these, for which its other end is needed.
    let many = pool.map_async(|bytes: Vec<u8>| bytes.len(), vec![vec![1; 1000]; 1000]).unwrap();
    assert_eq!(many.get_timeout(long()).unwrap(), [1000; 1000]);
    assert!(!pool.worker_pids().contains(&stopped), "it held up all the others");
}

fn terminate_ends_the_stopped_worker(context: Context) {
    let (pool, _, other) = stopped(context);
    let result = pool.apply_async(|x: u32| x + 1, 1).unwrap();
    assert!(kill(other));
    pool.terminate();
    assert!(result.get().unwrap_err().is_closed());
    pool.join().unwrap();
}

fn time_limits_hold_beside_a_stopped_worker(context: Context) {
    let pool = context.pool(3).unwrap();
    let limited = pool.timeout(Duration::from_secs(2));
    let slow = limited.apply_async(|_: ()| std::thread::sleep(Duration::from_secs(600)), ()).unwrap();
    eventually("it runs", || pool.stats().unwrap().workers.iter().any(|worker| worker.running.is_some()));
    pool.apply(stop_at_next_claim, ()).unwrap();
    eventually("a worker stops", || {
        drop(pool.apply_async(|x: u32| x, 1).unwrap());
        pool.worker_pids().into_iter().any(has_stopped)
    });
    assert!(slow.get_timeout(long()).unwrap_err().is_task_timeout());
}
