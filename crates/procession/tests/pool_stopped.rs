//! A worker is stopped while it holds a lock of the task ring, as a debugger or a control group's freezer may stop it.
//! Nothing in the parent waits for it without a bound. See `procession_core::fault`.

mod harness;

use std::time::Duration;

use harness::{eventually, for_each_context, long, run};
use procession::{Context, Pool};
use procession_core::fault::{Step, arm_to_stop};

/// Runs in a worker, which stops at its next claim, with the ring's head locked.
fn stop_at_next_claim(_: ()) {
    arm_to_stop(Step::HeadLocked, 1);
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// A pool of two of whose workers one holds the ring and is stopped. Its pid, and the other's.
fn stopped(context: Context) -> (Pool, u32, u32) {
    let pool = context.pool(2).unwrap();
    pool.apply(stop_at_next_claim, ()).unwrap();
    let mut stopped = None;
    eventually("a worker stops", || {
        // Whoever claims stops or is the other one.
        drop(pool.apply_async(|x: u32| x, 1).unwrap());
        stopped = pool.worker_pids().into_iter().find(|pid| is_stopped(*pid));
        stopped.is_some()
    });
    let stopped = stopped.unwrap();
    let other = pool.worker_pids().into_iter().find(|pid| *pid != stopped).unwrap();
    (pool, stopped, other)
}

fn kill(pid: u32) {
    use procession_sys::{Signal, pidfd::PidFd};
    PidFd::open(pid).unwrap().signal(Signal::KILL).unwrap();
}

fn main() {
    procession::init();
    let mut trials = Vec::new();
    trials.extend(for_each_context("waits_end_and_the_ring_is_freed", |context| {
        let (pool, stopped, other) = stopped(context);
        let result = pool.apply_async(|x: u32| x + 1, 1).unwrap();
        assert!(result.get_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
        kill(other);
        assert!(result.get_timeout(Duration::from_millis(50)).unwrap_err().is_timeout());
        pool.stats().unwrap();
        assert!(result.cancel().unwrap());
        assert!(result.get().unwrap_err().is_cancelled());
        // The ring must grow for these, for which its other end is needed.
        let many = pool.map_async(|bytes: Vec<u8>| bytes.len(), vec![vec![1; 1000]; 1000]).unwrap();
        assert_eq!(many.get_timeout(long()).unwrap(), [1000; 1000]);
        assert!(!pool.worker_pids().contains(&stopped), "it held up all the others");
    }));
    trials.extend(for_each_context("terminate_ends_the_stopped_worker", |context| {
        let (pool, _, other) = stopped(context);
        let result = pool.apply_async(|x: u32| x + 1, 1).unwrap();
        kill(other);
        pool.terminate();
        assert!(result.get().unwrap_err().is_closed());
        pool.join().unwrap();
    }));
    trials.extend(for_each_context("time_limits_hold_beside_it", |context| {
        let pool = context.pool(3).unwrap();
        let limited = pool.timeout(Duration::from_secs(2));
        let slow = limited.apply_async(|_: ()| std::thread::sleep(Duration::from_secs(600)), ()).unwrap();
        eventually("it runs", || pool.stats().unwrap().workers.iter().any(|worker| worker.running.is_some()));
        pool.apply(stop_at_next_claim, ()).unwrap();
        eventually("a worker stops", || {
            drop(pool.apply_async(|x: u32| x, 1).unwrap());
            pool.worker_pids().into_iter().any(is_stopped)
        });
        assert!(slow.get_timeout(long()).unwrap_err().is_task_timeout());
    }));
    run(trials)
}
