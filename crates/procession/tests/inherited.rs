//! What a forked child inherits of its parent's pools and handles: errors, and no hang.

mod harness;

use std::time::Duration;

use harness::{for_each_context, run, trial};
use procession::{Context, Process};

fn main() {
    procession::init();
    let mut trials: Vec<_> = for_each_context("a_pool_used_in_a_forked_child", |context| {
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
    })
    .collect();
    trials.push(trial("a_process_handle_used_in_a_forked_child", || {
        let mut process =
            Context::fork().process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
        let in_child = || process.kill().is_err_and(|error| error.is_inherited());
        assert!(Process::fork(in_child).start().unwrap().join().unwrap());
        assert!(process.is_alive());
        process.kill().unwrap();
        assert_eq!(process.join().unwrap_err().signal(), Some(9));
    }));
    trials.push(trial("a_forked_child_makes_its_own", || {
        let _parents = Context::forkserver().pool(1).unwrap();
        let own = || {
            Context::forkserver()
                .pool(2)
                .and_then(|pool| pool.map(|x: u8| x + 1, [1, 2]))
                .map_err(|error| error.to_string())
        };
        assert_eq!(Process::fork(own).start().unwrap().join().unwrap(), Ok(vec![2, 3]));
    }));
    run(trials);
}
