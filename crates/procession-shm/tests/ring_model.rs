//! The ring beside a plain queue: the same frames in the same order, through growth, shrinking and
//! wrapping.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use procession_shm::{ClaimLimit, Control, ParentHead, Queue, Slot, TaskRing};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Claim(usize),
    TakeBack,
    Shrink,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..2000).prop_map(Act::Push),
        1 => (0usize..300_000).prop_map(Act::Push),
        6 => (1usize..9).prop_map(Act::Claim),
        1 => Just(Act::TakeBack),
        1 => Just(Act::Shrink),
    ];
    prop::collection::vec(act, 0..300)
}

fn frame(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + seed * 7) as u8).collect()
}

const BOTH: ClaimLimit = ClaimLimit { max_frames: 2, max_bytes: 1 << 20 };

fn begin(slot: &Slot) -> Option<Vec<u8>> {
    slot.begin_next().unwrap().map(|place| slot.claimed(place).to_vec())
}

fn lock_head(ring: &TaskRing) -> ParentHead<'_> {
    ring.lock_head_until(Instant::now() + Duration::from_secs(1)).expect("nobody holds it")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_queue(acts in acts()) {
        let control = Control::create(1).unwrap();
        let (ring, slot) = (control.tasks(), control.slot(0));
        let mut model = VecDeque::new();
        for (seed, act) in acts.into_iter().enumerate() {
            match act {
                Act::Push(len) => {
                    let bytes = frame(seed, len);
                    let (left, right) = bytes.split_at(len / 3);
                    ring.lock_tail().push(&[left, right]).unwrap();
                    model.push_back(bytes);
                }
                Act::Claim(max_frames) => {
                    let limit = ClaimLimit { max_frames, max_bytes: 1 << 20 };
                    let claimed = ring.lock_for(0).claim(slot, limit).unwrap();
                    prop_assert!(claimed <= max_frames && (claimed > 0 || model.is_empty()));
                    for _ in 0..claimed {
                        prop_assert_eq!(begin(slot), model.pop_front());
                    }
                    prop_assert_eq!(begin(slot), None);
                    slot.finish_claim();
                    if slot.is_bulky() {
                        ring.lock_for(0).trim(slot).unwrap();
                    }
                }
                Act::TakeBack => {
                    let claimed = ring.lock_for(0).claim(slot, BOTH).unwrap();
                    let begun = usize::from(claimed > 0);
                    prop_assert_eq!(begin(slot), model.pop_front());
                    let back = lock_head(ring).take_back(slot).unwrap();
                    prop_assert_eq!(back.len(), claimed - begun);
                    for frame in back {
                        prop_assert_eq!(Some(&frame), model.front());
                        model.rotate_left(1);
                        ring.lock_tail().push(&[&frame]).unwrap();
                    }
                    slot.finish_claim();
                }
                Act::Shrink => ring.shrink().unwrap(),
            }
            prop_assert_eq!(ring.lock_for(0).len() as usize, model.len());
            prop_assert_eq!(ring.is_empty().unwrap(), model.is_empty());
            prop_assert_eq!(ring.looks_empty(), model.is_empty());
            ring.check().unwrap();
        }
    }

    #[test]
    fn a_queues_is_one_too(acts in acts()) {
        let queue = Queue::create(0, false).unwrap();
        let mut model = VecDeque::new();
        for (seed, act) in acts.into_iter().enumerate() {
            match act {
                Act::Push(len) => {
                    let bytes = frame(seed, len);
                    let (left, right) = bytes.split_at(len / 3);
                    queue.put_parts(&[left, right], None).unwrap();
                    model.push_back(bytes);
                }
                Act::Claim(frames) => {
                    for _ in 0..frames {
                        let mut out = Vec::new();
                        let taken = queue.get(&mut out, Some(Instant::now())).unwrap();
                        prop_assert_eq!(taken.then_some(out), model.pop_front());
                    }
                }
                Act::TakeBack | Act::Shrink => {}
            }
            prop_assert_eq!(queue.len() as usize, model.len());
        }
    }
}

#[test]
fn a_drained_backlog_gives_its_memory_back() {
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    let before = resident(control.as_fd());
    let block = vec![7; 1 << 20];
    for _ in 0..200 {
        ring.lock_tail().push(&[&block]).unwrap();
    }
    assert!(resident(control.as_fd()) > before + 150, "200 MiB are queued");
    while ring.lock_for(0).claim(slot, BOTH).unwrap() > 0 {
        assert!(begin(slot).unwrap() == block);
        while begin(slot).is_some() {}
        slot.finish_claim();
        ring.lock_for(0).trim(slot).unwrap();
    }
    ring.shrink().unwrap();
    assert!(resident(control.as_fd()) < before + 50, "{} MiB before, {} after", before, resident(control.as_fd()));
}

#[test]
fn a_drained_queue_gives_its_memory_back() {
    let queue = Queue::create(0, false).unwrap();
    let before = resident(queue.as_fd());
    let block = vec![7; 1 << 20];
    for _ in 0..200 {
        queue.put(&block, None).unwrap();
    }
    assert!(resident(queue.as_fd()) > before + 150, "200 MiB are queued");
    let mut out = Vec::new();
    while queue.get(&mut out, Some(Instant::now())).unwrap() {
        assert!(out == block);
        out.clear();
    }
    assert!(resident(queue.as_fd()) < before + 50, "{} MiB before, {} after", before, resident(queue.as_fd()));
}

#[test]
fn a_void_frame_is_claimed_by_nobody() {
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    let kind = |number: usize| (number as u64 % 3).to_le_bytes();
    for number in 0..20 {
        ring.lock_tail().push(&[&kind(number), &frame(number, 50)]).unwrap();
    }
    lock_head(ring).void(kind(1)).unwrap();
    let mut left = Vec::new();
    while ring.lock_for(0).claim(slot, BOTH).unwrap() > 0 {
        left.extend(std::iter::from_fn(|| begin(slot)).map(|frame| frame[8..].to_vec()));
        slot.finish_claim();
    }
    let expected: Vec<_> = (0..20).filter(|number| number % 3 != 1).map(|number| frame(number, 50)).collect();
    assert_eq!(left, expected);
}

#[test]
fn a_segment_that_is_not_a_pools_is_refused() {
    use procession_shm::Segment;
    use std::os::fd::AsFd;
    let segment = Segment::create("other", 1 << 20).unwrap();
    let error = Control::attach(segment.as_fd().try_clone_to_owned().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Control::attach(file.as_fd().try_clone_to_owned().unwrap()).is_err());
    assert!(Control::create(0).is_err() && Control::create(5000).is_err());
}

/// Returns how many MiB a segment takes.
fn resident(segment: BorrowedFd<'_>) -> u64 {
    rustix::fs::fstat(segment).unwrap().st_blocks as u64 / 2048
}
