//! Model of a claim's begun frames: each frame is begun by the worker or cut off by the parent,
//! never both, never neither.

use loom::sync::Arc;
use loom::thread;
use procession_shm::Begun;

#[test]
fn each_frame_is_had_by_exactly_one() {
    loom::model(|| {
        let begun = Arc::new(Begun::new());
        begun.set_claimed(2);
        let worker = {
            let begun = begun.clone();
            thread::spawn(move || std::iter::from_fn(|| begun.begin()).collect::<Vec<_>>())
        };
        let mut had: Vec<u32> = begun.cut_off().unwrap().collect();
        had.extend(worker.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [0, 1]);
    });
}

#[test]
fn two_cuts_give_no_frame_twice() {
    loom::model(|| {
        let begun = Arc::new(Begun::new());
        begun.set_claimed(2);
        let worker = {
            let begun = begun.clone();
            thread::spawn(move || begun.begin().into_iter().collect::<Vec<_>>())
        };
        let other = {
            let begun = begun.clone();
            thread::spawn(move || begun.cut_off().unwrap().collect::<Vec<_>>())
        };
        let mut had: Vec<u32> = begun.cut_off().unwrap().collect();
        had.extend(worker.join().unwrap());
        had.extend(other.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [0, 1]);
    });
}
