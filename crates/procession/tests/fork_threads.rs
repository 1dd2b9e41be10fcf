//! Fork while other threads are alive.

use std::sync::mpsc;

use procession::{Context, Process};
use procession_testing::{once, run, tests};

fn main() {
    run(tests! {
        once: [
            fork_beside_threads_is_refused_and_counts_them,
            the_engines_own_threads_do_not_count,
        ],
    })
}

fn fork_beside_threads_is_refused_and_counts_them() {
    let (hold, held) = mpsc::channel::<()>();
    let threads: Vec<_> = {
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        (0..2)
            .map(|_| {
                let held = held.clone();
                std::thread::spawn(move || assert!(held.lock().unwrap().recv().is_err()))
            })
            .collect()
    };
    let error = Process::fork(|| 1u8).start().unwrap_err();
    assert!(error.is_other_threads(), "{error}");
    assert!(error.to_string().contains("2 other thread(s)"), "{error}");
    assert!(Context::fork().pool(1).unwrap_err().is_other_threads());
    drop(hold);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(Process::fork(|| 1u8).start().unwrap().join().unwrap(), 1, "allowed again once they are gone");
}

fn the_engines_own_threads_do_not_count() {
    let pool = Context::fork().pool(1).unwrap();
    assert_eq!(pool.apply(|x: u8| x, 1).unwrap(), 1);
    assert_eq!(Process::fork(|| 2u8).start().unwrap().join().unwrap(), 2);
}
