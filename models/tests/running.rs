//! Model of a running task: a stretch that the worker finishes is never stopped by the parent, and
//! the job that the parent saw is the task's.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_shm::{Running, Verdict};

#[test]
fn task_is_finished_or_stopped_and_never_another() {
    loom::model(|| {
        let shared = Arc::new((Running::new(), [AtomicU32::new(0), AtomicU32::new(0)]));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                for job in 1..3 {
                    if shared.0.begin(job) != Verdict::Run || !shared.0.finish() {
                        return;
                    }
                    shared.1[job as usize - 1].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let stopped = shared.0.look().filter(|seen| shared.0.stop_stretch(*seen));
        worker.join().unwrap();
        let finished = [0, 1].map(|job: usize| shared.1[job].load(Ordering::Relaxed));
        match stopped.map(|seen| seen.job) {
            None => assert_eq!(finished, [1, 1]),
            Some(1) => assert_eq!(finished, [0, 0]),
            Some(_) => assert_eq!(finished, [1, 0]),
        }
    });
}

#[test]
fn a_job_that_is_to_stop_is_skipped_or_seen() {
    loom::model(|| {
        let shared = Arc::new((Running::new(), AtomicU32::new(0)));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                if shared.0.begin(1) == Verdict::Run {
                    // It runs for ever and never finishes.
                    shared.1.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        shared.0.stop(1);
        let stopped = shared.0.look().is_some_and(|seen| shared.0.stop_stretch(seen));
        worker.join().unwrap();
        let runs = shared.1.load(Ordering::Relaxed) == 1;
        assert!(!runs || stopped, "a task that runs on is stopped");
    });
}
