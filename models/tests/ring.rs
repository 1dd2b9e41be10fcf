//! Model of the rings, of their own code over watched memory. Frames come out once, whole and in
//! their order. Nobody writes where another may still read, through growth and shrinking. A look
//! without a lock sees a state that was true once.

use loom::sync::Arc;
use loom::thread;
use procession_shm::{ClaimLimit, Ring, Slot, TaskRing, model};

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

type Tasks = Arc<(TaskRing, std::sync::Arc<[Slot]>)>;

fn ring() -> Arc<Ring> {
    Arc::new(model::ring())
}

fn tasks() -> Tasks {
    Arc::new(model::tasks(2))
}

fn push(ring: &Ring, number: u64) {
    ring.lock_tail().unwrap().push(&[&number.to_le_bytes()]).unwrap();
}

fn take(ring: &Ring) -> Option<u64> {
    let mut out = Vec::new();
    let taken = ring.lock_head().unwrap().take(&mut out).unwrap();
    taken.then(|| number(&out))
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame.try_into().expect("a whole frame"))
}

/// Takes this many frames, waiting for them as they come.
fn take_all(ring: &Ring, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match take(ring) {
            Some(number) => taken.push(number),
            None => thread::yield_now(),
        }
    }
    taken
}

#[test]
fn frames_of_one_producer_come_in_order_through_its_whole_capacity() {
    check(|| {
        let shared = ring();
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || {
                push(&shared, 1);
                push(&shared, 2);
                // In the place of the first frame, if that has been taken.
                push(&shared, 3);
            })
        };
        assert_eq!(take_all(&shared, 3), [1, 2, 3]);
        producer.join().unwrap();
        assert!(shared.is_empty());
    });
}

#[test]
fn a_ring_that_has_grown_shrinks_under_its_next_producer() {
    check(|| {
        let shared = ring();
        (1..4).for_each(|number| push(&shared, number));
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || push(&shared, 4))
        };
        assert_eq!(take_all(&shared, 4), [1, 2, 3, 4]);
        producer.join().unwrap();
        push(&shared, 5);
        assert_eq!((take(&shared), take(&shared)), (Some(5), None));
    });
}

#[test]
fn two_producers_and_a_consumer_lose_nothing() {
    check(|| {
        let shared = ring();
        let producers: Vec<_> = (1..3)
            .map(|number| {
                let shared = shared.clone();
                thread::spawn(move || push(&shared, number))
            })
            .collect();
        let mut taken = take_all(&shared, 2);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

fn push_task(ring: &TaskRing, number: u64) {
    // A worker may hold the other end when the ring must grow.
    while ring.lock_tail().push(&[&number.to_le_bytes()]).is_err() {
        thread::yield_now();
    }
}

fn claim(ring: &TaskRing, slot: &Slot, index: u32) -> Vec<u64> {
    let limit = ClaimLimit { max_frames: 2, max_bytes: 1 << 20 };
    let claimed = ring.lock_for(index).claim(slot, limit).unwrap();
    let begin = |_| number(slot.claimed(slot.begin_next().unwrap().unwrap()));
    let begun = (0..claimed).map(begin).collect();
    assert_eq!(slot.begin_next(), Ok(None));
    slot.finish_claim();
    begun
}

/// Claims this many frames, waiting for them as they come.
fn claim_all(tasks: &Tasks, count: usize) -> Vec<u64> {
    let mut had = Vec::new();
    while had.len() < count {
        let more = claim(&tasks.0, &tasks.1[0], 0);
        if more.is_empty() {
            thread::yield_now();
        }
        had.extend(more);
    }
    had
}

#[test]
fn two_workers_claim_each_frame_once() {
    check(|| {
        let shared = tasks();
        push_task(&shared.0, 1);
        let worker = |index: usize| {
            let shared = shared.clone();
            move || claim(&shared.0, &shared.1[index], index as u32)
        };
        let workers = [thread::spawn(worker(0)), thread::spawn(worker(1))];
        push_task(&shared.0, 2);
        let mut had: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        had.extend(claim(&shared.0, &shared.1[0], 0));
        had.sort_unstable();
        assert_eq!(had, [1, 2]);
    });
}

#[test]
fn a_worker_has_the_frames_in_order_while_their_ring_grows_and_shrinks() {
    check(|| {
        let shared = tasks();
        (1..4).for_each(|number| push_task(&shared.0, number));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || claim_all(&shared, 4))
        };
        shared.0.shrink().unwrap();
        push_task(&shared.0, 4);
        assert_eq!(worker.join().unwrap(), [1, 2, 3, 4]);
        shared.0.shrink().unwrap();
        push_task(&shared.0, 5);
        assert_eq!(claim_all(&shared, 1), [5]);
    });
}

#[test]
fn the_parent_finds_nothing_wrong_with_a_head_that_moves() {
    check(|| {
        let shared = tasks();
        push_task(&shared.0, 1);
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || claim_all(&shared, 2))
        };
        let onlooker = {
            let shared = shared.clone();
            thread::spawn(move || (shared.0.bytes().unwrap(), shared.0.check().unwrap()))
        };
        push_task(&shared.0, 2);
        shared.0.check().unwrap();
        assert!(onlooker.join().unwrap().0 <= 32);
        assert_eq!(worker.join().unwrap(), [1, 2]);
        assert_eq!(shared.0.is_empty(), Ok(true));
    });
}

#[test]
fn length_without_a_lock_was_true_once() {
    check(|| {
        let shared = ring();
        push(&shared, 1);
        // The thread comes before the frames that its looks depend on: loom goes back from there.
        let onlooker = {
            let shared = shared.clone();
            thread::spawn(move || shared.len())
        };
        assert_eq!(take(&shared), Some(1));
        push(&shared, 2);
        assert_eq!(take(&shared), Some(2));
        let seen = onlooker.join().unwrap();
        assert!(seen <= 1, "{seen} at once");
        assert_eq!(shared.len(), 0);
    });
}
