//! Model of the ring, of its own code over watched memory: frames come out once, whole and in their order; nobody writes where
//! another may still read, through growth and shrinking; and who looks without a lock sees what was so.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use procession_shm::{ClaimLimit, Ring, Slot, model};

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

type Shared = Arc<(Ring, std::sync::Arc<[Slot]>)>;

fn ring() -> Shared {
    Arc::new(model::ring(2))
}

fn push(ring: &Ring, number: u64) {
    ring.lock_tail().unwrap().push(&[&number.to_le_bytes()]).unwrap();
}

fn take(ring: &Ring) -> Option<u64> {
    let mut out = Vec::new();
    let taken = ring.lock_head(0).unwrap().take(&mut out).unwrap();
    taken.then(|| number(&out))
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame.try_into().expect("a whole frame"))
}

/// Takes so many, waiting for them as they come.
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
                push(&shared.0, 1);
                push(&shared.0, 2);
                // Where the first was, if that has been taken.
                push(&shared.0, 3);
            })
        };
        assert_eq!(take_all(&shared.0, 3), [1, 2, 3]);
        producer.join().unwrap();
        assert!(shared.0.is_empty());
    });
}

#[test]
fn a_ring_that_has_grown_shrinks_under_its_next_producer() {
    check(|| {
        let shared = ring();
        (1..4).for_each(|number| push(&shared.0, number));
        let producer = {
            let shared = shared.clone();
            thread::spawn(move || push(&shared.0, 4))
        };
        assert_eq!(take_all(&shared.0, 4), [1, 2, 3, 4]);
        producer.join().unwrap();
        push(&shared.0, 5);
        assert_eq!((take(&shared.0), take(&shared.0)), (Some(5), None));
    });
}

#[test]
fn two_producers_and_a_consumer_lose_nothing() {
    check(|| {
        let shared = ring();
        let producers: Vec<_> = (1..3)
            .map(|number| {
                let shared = shared.clone();
                thread::spawn(move || push(&shared.0, number))
            })
            .collect();
        let mut taken = take_all(&shared.0, 2);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

#[test]
fn two_workers_claim_each_frame_once() {
    check(|| {
        let shared = ring();
        push(&shared.0, 1);
        let worker = |index: usize| {
            let shared = shared.clone();
            move || {
                let (ring, slot) = (&shared.0, &shared.1[index]);
                let limit = ClaimLimit { max_frames: 2, max_bytes: 1 << 20 };
                let claimed = ring.lock_head(index as u32 + 1).unwrap().claim(slot, limit).unwrap();
                let begun: Vec<_> = (0..claimed).map(|_| number(slot.begin_next().unwrap())).collect();
                assert!(slot.begin_next().is_none());
                begun
            }
        };
        let workers = [thread::spawn(worker(0)), thread::spawn(worker(1))];
        push(&shared.0, 2);
        let mut had: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        had.extend(std::iter::from_fn(|| take(&shared.0)));
        had.sort_unstable();
        assert_eq!(had, [1, 2]);
    });
}

#[test]
fn who_counts_without_a_lock_sees_what_was_so() {
    check(|| {
        let shared = ring();
        push(&shared.0, 1);
        // Spawned, so that its looks come after what they depend on: loom goes back from there.
        let onlooker = {
            let shared = shared.clone();
            thread::spawn(move || shared.0.len())
        };
        assert_eq!(take(&shared.0), Some(1));
        push(&shared.0, 2);
        assert_eq!(take(&shared.0), Some(2));
        let seen = onlooker.join().unwrap();
        assert!(seen <= 1, "{seen} at once");
        assert_eq!(shared.0.len(), 0);
    });
}
