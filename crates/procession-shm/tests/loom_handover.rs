//! Model of what a worker has claimed and the parent may take back, of the code of ring and lease over watched memory: each frame is
//! begun by the worker, or taken back whole and given to another, or still queued; never two of them, never none.
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use procession_shm::{ClaimLimit, Ring, Slot, model};

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

const BOTH: ClaimLimit = ClaimLimit { max_frames: 2, max_bytes: 1 << 20 };

fn push(ring: &Ring, frame: &[u8]) {
    ring.lock_tail().unwrap().push(&[frame]).unwrap();
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame.try_into().expect("a whole frame"))
}

fn claim_and_begin(ring: &Ring, slot: &Slot, holder: u32) -> Vec<u64> {
    ring.lock_head(holder).unwrap().claim(slot, BOTH).unwrap();
    std::iter::from_fn(|| slot.begin_next().map(number)).collect()
}

#[test]
fn a_claimed_frame_is_begun_or_goes_to_another() {
    check(|| {
        let (ring, slots) = model::ring(2);
        push(&ring, &1u64.to_le_bytes());
        push(&ring, &2u64.to_le_bytes());
        let shared = Arc::new((ring, slots));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || claim_and_begin(&shared.0, &shared.1[0], 1))
        };
        let taken_back = shared.0.lock_head(0).unwrap().take_back(&shared.1[0]).unwrap();
        taken_back.iter().for_each(|frame| push(&shared.0, frame));
        let mut had = claim_and_begin(&shared.0, &shared.1[1], 2);
        had.extend(worker.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [1, 2]);
    });
}

#[test]
fn the_parent_reads_what_was_begun_before_the_inbox_is_given_back_or_filled_again() {
    check(|| {
        let (ring, slots) = model::ring(1);
        push(&ring, &7u64.to_le_bytes());
        push(&ring, &7u64.to_le_bytes());
        let shared = Arc::new((ring, slots));
        let parent = {
            let shared = shared.clone();
            thread::spawn(move || {
                let _head = shared.0.lock_head(0).unwrap();
                let (begins_with, begun) = (shared.1[0].begins_with().unwrap(), shared.1[0].last_begun().unwrap());
                assert!(begun.as_ref().is_none_or(|frame| number(frame) == 7), "{begun:?}");
                assert!(begins_with.is_none_or(|first| number(&first) == 7), "{begins_with:?}");
            })
        };
        let (ring, slot) = (&shared.0, &shared.1[0]);
        let one = ClaimLimit { max_frames: 1, ..BOTH };
        for _ in 0..2 {
            ring.lock_head(1).unwrap().claim(slot, one).unwrap();
            assert_eq!(slot.begin_next().map(number), Some(7));
            ring.lock_head(1).unwrap().trim(slot).unwrap();
        }
        parent.join().unwrap();
    });
}
