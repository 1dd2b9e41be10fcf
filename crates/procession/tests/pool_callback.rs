//! Callbacks on results, under each start method: where they run, what they may do, what their
//! panics do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession::{Context, Pool};
use procession_testing::{eventually, exists, for_each_context, kill, long, once, run, tests};

fn sleep(millis: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn told<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(long()).expect("the callback runs")
}

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            a_callback_gets_the_result_in_the_pools_thread,
            get_waits_for_callbacks_and_they_keep_their_order,
            a_callback_sees_errors,
            terminate_calls_no_callback_of_what_it_gives_up,
            a_callback_that_panics_is_that_jobs_error_and_nothing_else,
            a_callback_may_use_the_pool,
            callback_that_waits_does_not_delay_replacing_lost_workers,
            a_callback_that_waits_when_no_worker_is_left_does_not_hang,
            a_callback_may_end_the_pool,
            a_pool_may_be_dropped_in_a_callback,
            close_and_join_wait_for_callbacks,
        ],
        once: [
            callbacks_from_many_threads_are_all_called,
            a_fork_beside_a_callback_is_refused,
        ],
    })
}

fn a_callback_gets_the_result_in_the_pools_thread(context: Context) {
    let pool = context.pool(2).unwrap();
    let (tell, receiver) = mpsc::channel();
    let tell_too = tell.clone();
    let here = std::thread::current().id();
    let result = pool.map_async(|x: u64| x + 1, 0..100).unwrap();
    let result = result
        .on_complete(move |result| {
            tell.send((result.clone().unwrap(), std::thread::current().id())).unwrap();
        })
        .unwrap();
    let (values, thread) = told(&receiver);
    assert!(values == (1..101).collect::<Vec<_>>() && thread != here);
    assert_eq!(result.get().unwrap().len(), 100);
    assert!(result.ready() && result.successful() == Some(true));
    // One that comes late is called at once, and in the same thread.
    result
        .on_complete(move |result| tell_too.send((result.clone().unwrap(), std::thread::current().id())).unwrap())
        .unwrap();
    assert_eq!(told(&receiver).1, thread);
}

fn get_waits_for_callbacks_and_they_keep_their_order(context: Context) {
    let pool = context.pool(2).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut result = pool.apply_async(sleep, 5).unwrap();
    for number in 0..5 {
        let order = order.clone();
        result = result
            .on_complete(move |_| {
                sleep(3);
                order.lock().unwrap().push(number);
            })
            .unwrap();
    }
    assert_eq!(result.get().unwrap(), 5);
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    let (release, released) = mpsc::channel::<()>();
    let slow = pool.apply_async(sleep, 1).unwrap().on_complete(move |_| released.recv().unwrap()).unwrap();
    assert!(slow.get_timeout(Duration::from_millis(50)).unwrap_err().is_timeout(), "a deadline ends that wait too");
    release.send(()).unwrap();
    assert_eq!(slow.get().unwrap(), 1);
}

fn a_callback_sees_errors(context: Context) {
    let pool = context.pool(2).unwrap();
    let (tell, receiver) = mpsc::channel();
    let send = |tell: &mpsc::Sender<_>| {
        let tell = tell.clone();
        move |result: &procession::Result<u64>| tell.send(result.clone().unwrap_err()).unwrap()
    };
    pool.apply_async(|_: u64| -> u64 { panic!("no luck") }, 1).unwrap().on_complete(send(&tell)).unwrap();
    assert_eq!(told(&receiver).panic_message(), Some("no luck"));
    pool.apply_async(|_: u64| -> u64 { std::process::abort() }, 1).unwrap().on_complete(send(&tell)).unwrap();
    assert!(told(&receiver).is_worker_lost());
    let long = pool.apply_async(sleep, 3_600_000).unwrap().on_complete(send(&tell)).unwrap();
    long.cancel().unwrap();
    assert!(told(&receiver).is_cancelled());
}

fn terminate_calls_no_callback_of_what_it_gives_up(context: Context) {
    let pool = Arc::new(context.pool(1).unwrap());
    let (tell, receiver) = mpsc::channel();
    // In the pool's thread while the pool is terminated, so that it can call none before that.
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let first = pool.apply_async(|x: u64| x, 1).unwrap();
    let its = pool.clone();
    let first = first.on_complete(move |_| {
        begin.send(()).unwrap();
        released.recv().unwrap();
        its.terminate();
    });
    let given_up: Vec<_> = (0..10)
        .map(|_| {
            let tell = tell.clone();
            pool.apply_async(sleep, 3_600_000).unwrap().on_complete(move |_| tell.send(()).unwrap()).unwrap()
        })
        .collect();
    told(&begun);
    std::thread::scope(|scope| {
        scope.spawn(|| pool.terminate());
        for result in &given_up {
            assert!(result.get().unwrap_err().is_closed(), "also while a callback runs");
        }
        release.send(()).unwrap();
    });
    assert_eq!(first.unwrap().get().unwrap(), 1);
    pool.join().unwrap();
    drop((tell, given_up));
    assert!(receiver.recv().is_err(), "each was dropped, and none called");
}

fn a_callback_that_panics_is_that_jobs_error_and_nothing_else(context: Context) {
    let pool = context.pool(2).unwrap();
    let second = Arc::new(AtomicUsize::new(0));
    let count = second.clone();
    let result = pool.apply_async(|x: u64| x, 7).unwrap();
    let result = result.on_complete(|_| panic!("bad callback")).unwrap();
    let result = result
        .on_complete(move |result| {
            assert_eq!(*result.as_ref().unwrap_err().panic_message().unwrap(), *"bad callback");
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    let error = result.get().unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("callback on the result"), "{error}");
    assert_eq!(error.panic_message(), Some("bad callback"));
    assert!(error.panic_location().unwrap().contains("pool_callback.rs"), "{error}");
    assert_eq!(result.successful(), Some(false));
    assert_eq!(second.load(Ordering::SeqCst), 1, "those behind it run all the same");
    for round in 0..20 {
        let result = pool.apply_async(|x: u64| x, round).unwrap();
        assert!(result.on_complete(|_| panic!("again")).unwrap().get().unwrap_err().is_panic());
    }
    // The pool's thread lives: it replaces workers.
    for pid in pool.worker_pids() {
        assert!(kill(pid));
    }
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
}

fn a_callback_may_use_the_pool(context: Context) {
    let pool = Arc::new(context.pool(2).unwrap());
    let (tell, receiver) = mpsc::channel();
    let its = pool.clone();
    let result = pool.apply_async(|x: u64| x, 1).unwrap();
    result
        .on_complete(move |_| {
            let sum: u64 = its.map(|x: u64| x, 0..1000).unwrap().iter().sum();
            let inner = its.apply_async(|x: u64| x * 2, 4).unwrap().on_complete(|_| ()).unwrap();
            tell.send((sum, inner.get().unwrap(), its.join().unwrap_err().is_invalid())).unwrap();
        })
        .unwrap();
    assert_eq!(told(&receiver), (499_500, 8, true));
}

fn callback_that_waits_does_not_delay_replacing_lost_workers(context: Context) {
    let pool = Arc::new(context.pool(2).unwrap());
    let (tell, receiver) = mpsc::channel();
    let its = pool.clone();
    let result = pool.apply_async(|x: u64| x, 1).unwrap();
    result
        .on_complete(move |_| {
            let lost = its.apply(|_: u64| -> u64 { std::process::abort() }, 1).unwrap_err();
            let limited = its.timeout(Duration::from_millis(50)).apply(sleep, 3_600_000);
            tell.send((lost.is_worker_lost(), limited.map_err(|error| error.is_task_timeout()))).unwrap();
        })
        .unwrap();
    let (lost, limited) = told(&receiver);
    // Under fork the callback's own wait can start no replacement: there is one worker left for the
    // second task.
    assert!(lost && limited == Err(true));
    assert_eq!(pool.map(|x: u64| x, 0..100).unwrap().len(), 100);
}

fn a_callback_that_waits_when_no_worker_is_left_does_not_hang(context: Context) {
    let pool = Arc::new(context.pool(1).unwrap());
    let (tell, receiver) = mpsc::channel();
    let its = pool.clone();
    let result = pool.apply_async(|x: u64| x, 1).unwrap();
    result
        .on_complete(move |_| {
            let lost = its.apply(|_: u64| -> u64 { std::process::abort() }, 1).unwrap_err();
            tell.send((lost.is_worker_lost(), its.apply(|x: u64| x, 3))).unwrap();
        })
        .unwrap();
    let (lost, next) = told(&receiver);
    assert!(lost);
    match next {
        Ok(value) => assert!(value == 3 && context != Context::fork()),
        Err(error) => {
            let says_why = error.is_broken() && error.is_other_threads();
            assert!(says_why && context == Context::fork(), "{error}");
        }
    }
}

fn a_callback_may_end_the_pool(context: Context) {
    let pool = Arc::new(context.pool(2).unwrap());
    let pids = pool.worker_pids();
    let (tell, receiver) = mpsc::channel();
    let its = pool.clone();
    let long = pool.apply_async(sleep, 3_600_000).unwrap();
    let result = pool.apply_async(|x: u64| x, 1).unwrap();
    let result = result
        .on_complete(move |_| {
            its.terminate();
            tell.send(its.apply(|x: u64| x, 1).unwrap_err().is_closed()).unwrap();
        })
        .unwrap();
    assert!(told(&receiver));
    assert_eq!(result.get().unwrap(), 1, "it was there before");
    assert!(long.get().unwrap_err().is_closed());
    pool.join().unwrap();
    assert!(pids.into_iter().all(|pid| !exists(pid)));
    // The pool's thread is gone: what comes now runs here.
    let here = std::thread::current().id();
    let (tell, receiver) = mpsc::channel();
    result.on_complete(move |_| tell.send(std::thread::current().id()).unwrap()).unwrap();
    assert_eq!(told(&receiver), here);
}

fn a_pool_may_be_dropped_in_a_callback(context: Context) {
    let pool = context.pool(2).unwrap();
    let pids = pool.worker_pids();
    let (tell, receiver) = mpsc::channel();
    let result = pool.apply_async(sleep, 30).unwrap();
    let result = result
        .on_complete(move |_| {
            drop(pool);
            tell.send(()).unwrap();
        })
        .unwrap();
    told(&receiver);
    assert_eq!(result.get().unwrap(), 30);
    eventually("its workers are gone", || pids.iter().all(|pid| !exists(*pid)));
}

fn close_and_join_wait_for_callbacks(context: Context) {
    let pool = context.pool(2).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    for x in 0..50u64 {
        let count = count.clone();
        let result = pool.apply_async(|x: u64| x, x).unwrap();
        result
            .on_complete(move |_| {
                sleep(2);
                count.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
    }
    pool.close();
    pool.join().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 50);
}

fn callbacks_from_many_threads_are_all_called() {
    let pool: Pool = Context::forkserver().pool(2).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (pool, count) = (&pool, &count);
            scope.spawn(move || {
                for x in 0..300u64 {
                    let count = count.clone();
                    let result = pool.apply_async(|x: u64| x, x).unwrap();
                    let add = move |_: &procession::Result<u64>| {
                        count.fetch_add(1, Ordering::SeqCst);
                    };
                    assert_eq!(result.on_complete(add).unwrap().get().unwrap(), x);
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 1200);
}

fn a_fork_beside_a_callback_is_refused() {
    let pool = Context::forkserver().pool(1).unwrap();
    let (tell, receiver) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let result = pool.apply_async(|x: u64| x, 1).unwrap();
    let result = result
        .on_complete(move |_| {
            tell.send(()).unwrap();
            released.recv().unwrap();
        })
        .unwrap();
    told(&receiver);
    assert!(Context::fork().process(|x: u64| x, 1).start().unwrap_err().is_other_threads());
    release.send(()).unwrap();
    result.wait().unwrap();
    eventually("and not after it", || Context::fork().process(|x: u64| x, 1).start().is_ok());
}
