//! `init()` in tests that run in threads, where it cannot be the first line of `main`: an error,
//! and no process goes on from there. Tests of the usual kind, as these are what is meant. Without
//! the feature `startup` only: with it a child never gets there.
#![cfg(not(feature = "startup"))]

use procession::Context;
use procession_testing::{patience, watchdog};

fn is_told(context: Context) {
    let _watch = watchdog::watch("a test in a thread", patience());
    procession::init();
    let error = context.process(|x: u32| x + 1, 1).start().and_then(|mut process| process.join()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("harness = false") && error.is_not_initialized() && !error.is_invalid(), "{text}");
}

#[test]
fn spawned_child_says_where_init_belongs() {
    is_told(Context::spawn());
}

#[test]
fn fork_server_says_where_init_belongs() {
    is_told(Context::forkserver());
}
