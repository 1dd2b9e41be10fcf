//! Model of frames that a worker has claimed and the parent may take back, of the code of ring and
//! lease over watched memory. Each frame is begun by the worker, or taken back whole and given to
//! another, or still queued: always exactly one of these.

use loom::sync::Arc;
use loom::thread;
use std::time::{Duration, Instant};

use procession_shm::{ClaimLimit, ParentHead, Slot, TaskRing, model};

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

const BOTH: ClaimLimit = ClaimLimit { max_frames: 2, max_bytes: 1 << 20 };

fn push(ring: &TaskRing, frame: &[u8]) {
    ring.lock_tail().push(&[frame]).unwrap();
}

/// In a model nobody holds it for long.
fn lock_head(ring: &TaskRing) -> ParentHead<'_> {
    ring.lock_head_until(Instant::now() + Duration::from_secs(3600)).unwrap()
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame.try_into().expect("a whole frame"))
}

fn begin(slot: &Slot) -> Option<u64> {
    slot.begin_next().unwrap().map(|place| number(slot.claimed(place)))
}

fn claim_and_begin(ring: &TaskRing, slot: &Slot, index: u32) -> Vec<u64> {
    ring.lock_for(index).claim(slot, BOTH).unwrap();
    let begun = std::iter::from_fn(|| begin(slot)).collect();
    slot.finish_claim();
    begun
}

#[test]
fn a_claimed_frame_is_begun_or_goes_to_another() {
    check(|| {
        let (ring, slots) = model::tasks(2);
        push(&ring, &1u64.to_le_bytes());
        push(&ring, &2u64.to_le_bytes());
        let shared = Arc::new((ring, slots));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || claim_and_begin(&shared.0, &shared.1[0], 0))
        };
        let taken_back = lock_head(&shared.0).take_back(&shared.1[0]).unwrap();
        taken_back.iter().for_each(|frame| push(&shared.0, frame));
        let mut had = claim_and_begin(&shared.0, &shared.1[1], 1);
        had.extend(worker.join().unwrap());
        had.sort_unstable();
        assert_eq!(had, [1, 2]);
    });
}

#[test]
fn the_parent_reads_what_was_begun_before_the_inbox_is_given_back_or_filled_again() {
    check(|| {
        let (ring, slots) = model::tasks(1);
        push(&ring, &7u64.to_le_bytes());
        push(&ring, &7u64.to_le_bytes());
        let shared = Arc::new((ring, slots));
        let parent = {
            let shared = shared.clone();
            thread::spawn(move || {
                let _head = lock_head(&shared.0);
                let longest = shared.0.longest();
                let (begins_with, begun) =
                    (shared.1[0].begins_with(longest).unwrap(), shared.1[0].last_begun(longest).unwrap());
                assert!(begun.as_ref().is_none_or(|frame| number(frame) == 7), "{begun:?}");
                assert!(begins_with.is_none_or(|first| number(&first) == 7), "{begins_with:?}");
            })
        };
        let (ring, slot) = (&shared.0, &shared.1[0]);
        let one = ClaimLimit { max_frames: 1, ..BOTH };
        for _ in 0..2 {
            ring.lock_for(0).claim(slot, one).unwrap();
            assert_eq!(begin(slot), Some(7));
            slot.finish_claim();
            ring.lock_for(0).trim(slot).unwrap();
        }
        parent.join().unwrap();
    });
}

#[test]
fn a_claim_that_the_parent_releases_for_a_dead_worker_is_void_or_whole() {
    check(|| {
        let (ring, slots) = model::tasks(2);
        push(&ring, &1u64.to_le_bytes());
        let shared = Arc::new((ring, slots));
        let worker = {
            let shared = shared.clone();
            // The worker "dies" with the head locked, after its claim: the guard never unlocks.
            thread::spawn(move || {
                let mut head = shared.0.lock_for(0);
                head.claim(&shared.1[0], BOTH).unwrap();
                std::mem::forget(head);
            })
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || claim_and_begin(&shared.0, &shared.1[1], 1))
        };
        worker.join().unwrap();
        shared.0.release(0, &shared.1[0]);
        let mut had = other.join().unwrap();
        let taken_back = lock_head(&shared.0).take_back(&shared.1[0]).unwrap();
        had.extend(taken_back.iter().map(|frame| number(frame)));
        assert_eq!(had, [1]);
    });
}
