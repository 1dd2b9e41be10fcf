//! Results as futures, under tokio.

use std::time::Duration;

use futures_util::{StreamExt, future};
use procession::{Context, Pool, Process, Queue, pipe};
use procession_testing::{once, run, tests};
use tokio::runtime::{Builder, Runtime};

fn main() {
    procession::init();
    run(tests! {
        once: [
            many_results_are_awaited_at_once_in_one_thread,
            a_runtime_of_several_threads_awaits_in_its_tasks,
            await_blocks_no_other_future,
            awaited_errors_are_those_of_get,
            a_forked_child_awaits_by_itself,
        ],
    })
}

fn many_results_are_awaited_at_once_in_one_thread() {
    let pool = pool();
    one_thread().block_on(async {
        let results: Vec<_> = (0..500u64).map(|x| pool.apply_async(|x: u64| x * 2, x).unwrap()).collect();
        for (x, result) in results.into_iter().enumerate() {
            assert_eq!(result.await.unwrap(), x as u64 * 2);
        }
        assert_eq!(pool.map_async(|x: u64| x, 0..1000).unwrap().await.unwrap().len(), 1000);
    });
}

fn a_runtime_of_several_threads_awaits_in_its_tasks() {
    let pool: &'static Pool = Box::leak(Box::new(pool()));
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tasks: Vec<_> = (0..100u64)
        .map(|x| runtime.spawn(async move { pool.apply_async(|x: u64| x + 1, x).unwrap().await.unwrap() }))
        .collect();
    let sum: u64 = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).sum();
    assert_eq!(sum, 5050);
    pool.terminate();
}

fn await_blocks_no_other_future() {
    let pool = pool();
    let slow = pool.apply_async(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), 300).unwrap();
    let ticks = one_thread().block_on(async {
        let ticking = async {
            let mut ticks = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                ticks += 1;
                if ticks == 20 {
                    return ticks;
                }
            }
        };
        let ticks = ticking.await;
        // A thread that blocks for a result of its own takes others' along.
        assert_eq!(pool.apply(|x: u64| x, 1).unwrap(), 1);
        slow.await.unwrap();
        ticks
    });
    assert_eq!(ticks, 20);
}

fn awaited_errors_are_those_of_get() {
    let pool = pool();
    one_thread().block_on(async {
        let dies = pool.apply_async(|_: u64| -> u64 { std::process::abort() }, 1).unwrap();
        assert!(dies.await.unwrap_err().is_worker_lost());
        let hour = || pool.apply_async(|()| std::thread::sleep(Duration::from_secs(3600)), ()).unwrap();
        let timed = tokio::time::timeout(Duration::from_millis(30), hour()).await;
        assert!(timed.is_err(), "a runtime's own timeout stops waiting, and the task");
        let ended = hour();
        pool.terminate();
        assert!(ended.await.unwrap_err().is_closed());
    });
}

/// A queue and a connection that a forked child's parent awaits too.
fn a_forked_child_awaits_by_itself() {
    let queue = Queue::new().unwrap();
    let (ours, theirs) = pipe::<u64, u64>(true).unwrap();
    let mut pair = (queue.clone().into_async(), theirs.into_async().unwrap());
    let mut first = Box::pin(async { future::join(pair.0.next(), pair.1.next()).await });
    one_thread().block_on(async { assert!(future::poll_immediate(&mut first).await.is_none()) });
    drop(first);
    let wait = || {
        one_thread().block_on(async {
            let (item, message) = future::join(pair.0.next(), pair.1.next()).await;
            item.unwrap().unwrap() + message.unwrap().unwrap()
        })
    };
    let mut child = Process::fork(wait).start().unwrap();
    queue.put(3).unwrap();
    ours.send(&4).unwrap();
    assert_eq!(child.join().unwrap(), 7);
}

fn pool() -> Pool {
    Context::forkserver().pool(2).unwrap()
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}
