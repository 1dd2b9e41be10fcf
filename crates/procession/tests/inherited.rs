//! Pools and handles that a forked child inherits of its parent: they give errors, and do not hang.

use std::time::Duration;

use procession::{Context, Process};
use procession_testing::{for_each_context, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            pool_refuses_use_in_a_forked_child,
        ],
        once: [
            process_handle_refuses_use_in_a_forked_child,
            forked_child_makes_its_own_pool,
        ],
    })
}

fn pool_refuses_use_in_a_forked_child(context: Context) {
    let pool = context.pool(2).unwrap();
    let pending = pool
        .apply_async(
            |ms: u64| {
                std::thread::sleep(Duration::from_millis(ms));
                ms
            },
            200,
        )
        .unwrap();
    let in_child = || {
        let used = [
            pool.apply(|x: u8| x, 1).map(drop),
            pool.map(|x: u8| x, [1, 2]).map(drop),
            pool.join(),
            pending.get().map(drop),
        ];
        pool.close();
        pool.terminate();
        used.into_iter().filter(|used| used.as_ref().is_err_and(|error| error.is_inherited())).count()
    };
    assert_eq!(Process::fork(in_child).start().unwrap().join().unwrap(), 4);
    assert_eq!(pending.get().unwrap(), 200, "the pool serves its owner as before");
    assert_eq!(pool.apply(|x: u8| x, 1).unwrap(), 1);
}

fn process_handle_refuses_use_in_a_forked_child() {
    let mut process = Context::fork().process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
    let in_child = || process.kill().is_err_and(|error| error.is_inherited());
    assert!(Process::fork(in_child).start().unwrap().join().unwrap());
    assert!(process.is_alive());
    process.kill().unwrap();
    assert_eq!(process.join().unwrap_err().signal(), Some(9));
}

fn forked_child_makes_its_own_pool() {
    let _parents = Context::forkserver().pool(1).unwrap();
    let own = || {
        Context::forkserver()
            .pool(2)
            .and_then(|pool| pool.map(|x: u8| x + 1, [1, 2]))
            .map_err(|error| error.to_string())
    };
    assert_eq!(Process::fork(own).start().unwrap().join().unwrap(), Ok(vec![2, 3]));
}
