//! A program without the feature `startup` that forgot `procession::init()`: one clear error, and
//! no process. With the feature there is nothing to forget, and no test.
#![cfg_attr(feature = "startup", allow(unused))]

use procession::{Context, Pool, Process, SharedMemory};
use procession_testing::{once, run, tests};

#[cfg(feature = "startup")]
fn main() {}

#[cfg(not(feature = "startup"))]
fn main() {
    run(tests! {
        once: [
            spawn_and_forkserver_name_the_missing_line,
            memory_with_a_name_needs_it_and_says_so,
            fork_can_do_without,
        ],
    })
}

fn spawn_and_forkserver_name_the_missing_line() {
    for context in [Context::spawn(), Context::forkserver(), Context::default()] {
        let process = context.process(|x: u8| x, 1).start().map(drop);
        let pool = context.pool(2).map(drop);
        for error in [process.unwrap_err(), pool.unwrap_err()] {
            assert!(error.is_not_initialized(), "{error}");
            assert!(error.to_string().contains("procession::init();"), "{error}");
            assert!(error.to_string().contains("feature `startup`"), "{error}");
        }
    }
    assert!(Pool::new(1).unwrap_err().is_not_initialized());
    assert!(procession::active_children().is_empty());
}

fn memory_with_a_name_needs_it_and_says_so() {
    let error = SharedMemory::create_named(10).unwrap_err();
    assert!(error.is_not_initialized() && error.to_string().contains("procession::init();"), "{error}");
    assert_eq!(SharedMemory::new(10).unwrap().size(), 10);
}

fn fork_can_do_without() {
    assert_eq!(Process::fork(|| 5u8).start().unwrap().join().unwrap(), 5);
    assert_eq!(Context::fork().pool(2).unwrap().map(|x: u8| x, [1, 2]).unwrap(), [1, 2]);
}
