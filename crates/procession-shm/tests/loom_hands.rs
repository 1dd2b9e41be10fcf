//! Model of the hands over a claim: each frame is begun by the worker or cut off by the parent, never both, never neither.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use procession_shm::Hands;

#[test]
fn each_frame_is_had_by_exactly_one() {
    loom::model(|| {
        let hands = Arc::new(Hands::new());
        hands.lay(2);
        let worker = {
            let hands = hands.clone();
            thread::spawn(move || std::iter::from_fn(|| hands.begin()).collect::<Vec<_>>())
        };
        let mut had: Vec<u32> = hands.cut().unwrap().collect();
        had.extend(worker.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [0, 1]);
    });
}

#[test]
fn two_cuts_give_no_frame_twice() {
    loom::model(|| {
        let hands = Arc::new(Hands::new());
        hands.lay(2);
        let worker = {
            let hands = hands.clone();
            thread::spawn(move || hands.begin().into_iter().collect::<Vec<_>>())
        };
        let other = {
            let hands = hands.clone();
            thread::spawn(move || hands.cut().unwrap().collect::<Vec<_>>())
        };
        let mut had: Vec<u32> = hands.cut().unwrap().collect();
        had.extend(worker.join().unwrap());
        had.extend(other.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [0, 1]);
    });
}
