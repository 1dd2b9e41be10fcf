//! Model of blocks, of their own code over watched memory. A block has one receiver, nobody writes
//! its bytes until the receiver has let go, and a name of an earlier use finds nothing.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use procession_shm::{Allocator, Area, BlockId, Holder, model};

const NOTHING: u64 = u64::MAX;

/// An area, and the word in which the owner names a block, as a frame or a record does.
fn area() -> Arc<(Area, AtomicU64)> {
    Arc::new((model::area(), AtomicU64::new(NOTHING)))
}

fn tell(shared: &(Area, AtomicU64), block: BlockId) {
    shared.1.store(block.0, Ordering::Release);
}

fn told(shared: &(Area, AtomicU64)) -> BlockId {
    loop {
        match shared.1.load(Ordering::Acquire) {
            NOTHING => thread::yield_now(),
            block => return BlockId(block),
        }
    }
}

#[test]
fn an_argument_is_written_over_only_when_its_worker_has_let_go() {
    loom::model(|| {
        let shared = area();
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                // It is gone if the job ended first.
                let Ok(held) = shared.0.take(told(&shared), Holder::Worker(0)) else { return };
                assert_eq!(*held, [1; 32]);
            })
        };
        let mut owner = Allocator::new(shared.0.clone()).unwrap();
        let first = owner.allocate(&[1; 32]).unwrap();
        tell(&shared, first);
        while !owner.free(first) {
            thread::yield_now();
        }
        assert!(owner.allocate(&[2; 32]).is_some(), "what was freed is there again");
        worker.join().unwrap();
    });
}

#[test]
fn a_result_is_written_over_only_when_the_parent_has_let_go() {
    loom::model(|| {
        let shared = area();
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut owner = Allocator::new(shared.0.clone()).unwrap();
                tell(&shared, owner.allocate(&[1; 32]).unwrap());
                while owner.allocate(&[2; 32]).is_none() {
                    thread::yield_now();
                }
            })
        };
        let held = shared.0.take(told(&shared), Holder::Parent).unwrap();
        assert_eq!(*held, [1; 32]);
        drop(held);
        worker.join().unwrap();
    });
}

#[test]
fn one_of_two_has_it() {
    loom::model(|| {
        let shared = area();
        let block = Allocator::new(shared.0.clone()).unwrap().allocate(&[1; 16]).unwrap();
        let receiver = |slot: u32| {
            let shared = shared.clone();
            thread::spawn(move || shared.0.take(block, Holder::Worker(slot)).map(std::mem::forget).is_ok())
        };
        let receivers = [receiver(0), receiver(1)];
        let had = receivers.map(|receiver| receiver.join().unwrap());
        assert_ne!(had[0], had[1]);
    });
}

#[test]
fn a_name_that_is_over_finds_nothing_of_those_that_follow() {
    loom::model(|| {
        let shared = area();
        let mut owner = Allocator::new(shared.0.clone()).unwrap();
        let first = owner.allocate(&[1; 16]).unwrap();
        let late = {
            let shared = shared.clone();
            thread::spawn(move || {
                let held = shared.0.take(first, Holder::Worker(0));
                assert!(held.is_err() || held.is_ok_and(|held| *held == [1; 16]));
            })
        };
        let freed = owner.free(first);
        let second = owner.allocate(&[2; 16]).unwrap();
        assert!(!freed || second != first);
        let held = shared.0.take(second, Holder::Parent).expect("it was meant for the parent");
        assert_eq!(*held, [2; 16]);
        drop(held);
        late.join().unwrap();
    });
}

#[test]
fn cleaning_up_after_one_worker_takes_nothing_of_another() {
    loom::model(|| {
        let shared = area();
        let mut owner = Allocator::new(shared.0.clone()).unwrap();
        let (dead, alive) = (owner.allocate(&[1; 16]).unwrap(), owner.allocate(&[2; 16]).unwrap());
        // A dead worker lets go of nothing.
        std::mem::forget(shared.0.take(dead, Holder::Worker(0)).unwrap());
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                let held = shared.0.take(alive, Holder::Worker(1)).unwrap();
                assert!(shared.0.take(alive, Holder::Worker(2)).is_err(), "it is held");
                assert_eq!(*held, [2; 16]);
            })
        };
        shared.0.release_held_by(0).unwrap();
        assert!(owner.free(dead));
        worker.join().unwrap();
        assert!(owner.free(alive));
    });
}
