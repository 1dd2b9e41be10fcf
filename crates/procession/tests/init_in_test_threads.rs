//! `init()` in a test, which runs in a thread: a child that was executed from there ends at once,
//! and none of its threads goes any further. One test alone, so that it alone decides what happens
//! in its children. Without the feature `startup` only: with it a child never gets there.
#![cfg(not(feature = "startup"))]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{env, fs, process, thread};

use procession::Context;
use procession_testing::{patience, watchdog};

#[test]
fn no_thread_of_a_misplaced_child_goes_on_or_starts_a_child() {
    let _watch = watchdog::watch("a test in a thread, or its child,", patience());
    if env::args().next().is_some_and(|name| name.ends_with("[procession-child]")) {
        return misbehave(&folder(std::os::unix::process::parent_id()));
    }
    let folder = folder(process::id());
    fs::create_dir_all(&folder).unwrap();
    procession::init();
    for _ in 0..5 {
        let error = Context::spawn().process(|x: u32| x + 1, 1).start().and_then(|mut process| process.join());
        assert!(error.unwrap_err().to_string().contains("harness = false"));
    }
    let done: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    fs::remove_dir_all(&folder).unwrap();
    assert!(done.is_empty(), "{done:?}");
}

/// Child: two threads call `init` at once, and one starts children without calling it. Each leaves
/// a file if it can.
fn misbehave(folder: &Path) {
    // One that runs exit handlers would take so long to end.
    procession_sys::exit::at_exit(|| thread::sleep(Duration::from_millis(500))).unwrap();
    let all = Arc::new(Barrier::new(3));
    thread::scope(|scope| {
        for number in 0..2 {
            let all = all.clone();
            scope.spawn(move || {
                all.wait();
                procession::init();
                fs::write(folder.join(format!("went on {number}")), "").unwrap();
            });
        }
        all.wait();
        while Context::spawn().process(|x: u32| x, 1).start().is_err_and(|error| error.is_not_initialized()) {
            thread::yield_now();
        }
        fs::write(folder.join("started a child"), "").unwrap();
    });
}

fn folder(parent: u32) -> PathBuf {
    env::temp_dir().join(format!("procession-init-{parent}"))
}
