//! Model of a running task: what the worker finishes the parent has not condemned, and the job seen is the task's.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_shm::Running;

#[test]
fn a_task_is_finished_or_condemned_and_never_another() {
    loom::model(|| {
        let shared = Arc::new((Running::new(), [AtomicU32::new(0), AtomicU32::new(0)]));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                for job in 0..2 {
                    shared.0.begin(job);
                    if !shared.0.finish() {
                        return;
                    }
                    shared.1[job as usize].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let condemned = shared.0.look().filter(|seen| shared.0.condemn(*seen));
        worker.join().unwrap();
        let finished = [0, 1].map(|job: usize| shared.1[job].load(Ordering::Relaxed));
        match condemned.map(|seen| seen.job) {
            None => assert_eq!(finished, [1, 1]),
            Some(0) => assert_eq!(finished, [0, 0]),
            Some(_) => assert_eq!(finished, [1, 0]),
        }
    });
}
