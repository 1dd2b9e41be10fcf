//! Model of the search: in every interleaving, each task that is pushed is claimed, although its
//! pusher wakes nobody while a worker looks.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_shm::{Gate, Search, Spin};

struct Pool {
    gate: Gate,
    search: Search,
    tasks: AtomicU32,
}

impl Pool {
    fn push(&self) {
        self.tasks.fetch_add(1, Ordering::Release);
        if !self.search.is_on() {
            self.gate.wake(1);
        }
    }

    /// Waits and claims one task, as a worker does.
    fn claim_one(&self, slot: u32) {
        let has_tasks = || self.tasks.load(Ordering::Acquire) > 0;
        loop {
            if self.tasks.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
                if has_tasks() {
                    self.gate.wake(1);
                }
                return;
            }
            let found = self.search.look(slot, &Spin::none(), &Spin::none(), has_tasks);
            assert!(found || self.gate.wait_until(None, &Spin::none(), has_tasks));
        }
    }
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

fn pool() -> Arc<Pool> {
    Arc::new(Pool { gate: Gate::new(), search: Search::new(), tasks: AtomicU32::new(0) })
}

#[test]
fn a_task_that_is_pushed_while_a_worker_looks_is_claimed() {
    model(|| {
        let pool = pool();
        let worker = {
            let pool = pool.clone();
            thread::spawn(move || pool.claim_one(0))
        };
        pool.push();
        worker.join().unwrap();
    });
}

#[test]
fn two_tasks_are_claimed_by_two_workers_of_whom_one_looks() {
    model(|| {
        let pool = pool();
        let workers: Vec<_> = (0..2)
            .map(|slot| {
                let pool = pool.clone();
                thread::spawn(move || pool.claim_one(slot))
            })
            .collect();
        pool.push();
        pool.push();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}
