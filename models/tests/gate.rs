//! Model of the gate's handshake: in every interleaving, no process sleeps on that has something to
//! wake up for.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_shm::{Gate, Spin};

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

fn take(passes: &AtomicU32) -> bool {
    passes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}

#[test]
fn one_sleeper_is_never_left_behind() {
    model(|| {
        let shared = Arc::new((Gate::new(), AtomicU32::new(0)));
        let sleeper = {
            let shared = shared.clone();
            thread::spawn(move || shared.0.wait_until(None, &Spin::none(), || take(&shared.1)))
        };
        shared.1.fetch_add(1, Ordering::Release);
        shared.0.wake(1);
        assert!(sleeper.join().unwrap());
    });
}

#[test]
fn two_sleepers_are_woken_by_two_wakes_of_one() {
    model(|| {
        let shared = Arc::new((Gate::new(), AtomicU32::new(0)));
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || shared.0.wait_until(None, &Spin::none(), || take(&shared.1)))
            })
            .collect();
        for _ in 0..2 {
            shared.1.fetch_add(1, Ordering::Release);
            shared.0.wake(1);
        }
        for sleeper in sleepers {
            assert!(sleeper.join().unwrap());
        }
    });
}

#[test]
fn two_wakers_wake_two_sleepers() {
    model(|| {
        let shared = Arc::new((Gate::new(), AtomicU32::new(0)));
        let run = |body: fn(&(Gate, AtomicU32))| {
            let shared = shared.clone();
            thread::spawn(move || body(&shared))
        };
        let sleep = |shared: &(Gate, AtomicU32)| assert!(shared.0.wait_until(None, &Spin::none(), || take(&shared.1)));
        let wake = |shared: &(Gate, AtomicU32)| {
            shared.1.fetch_add(1, Ordering::Release);
            shared.0.wake(1);
        };
        let threads = [run(sleep), run(wake)];
        wake(&shared);
        sleep(&shared);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_sleeper_that_comes_while_a_waker_clears_the_bit_is_not_left_behind() {
    model(|| {
        let shared = Arc::new((Gate::new(), AtomicU32::new(0)));
        let wake = |shared: &(Gate, AtomicU32)| {
            shared.1.fetch_add(1, Ordering::Release);
            shared.0.wake(1);
        };
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || wake(&shared))
        };
        let sleeper = {
            let shared = shared.clone();
            thread::spawn(move || {
                // The first pass may come without a sleep, and leave the bit for the second to
                // clear.
                (0..2).for_each(|_| assert!(shared.0.wait_until(None, &Spin::none(), || take(&shared.1))));
            })
        };
        wake(&shared);
        waker.join().unwrap();
        sleeper.join().unwrap();
    });
}
