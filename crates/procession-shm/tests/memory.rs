//! Deaths must not keep memory: other processes give back the memory that a dead process had
//! touched.

use std::time::Instant;

use procession_shm::{ClaimLimit, Control};
use procession_testing::patience;
use procession_testing::watchdog::watch;

const ONE: ClaimLimit = ClaimLimit { max_frames: 1, max_bytes: 1 << 30 };

#[test]
fn a_dead_workers_inbox_is_given_back_by_its_replacement() {
    let _watch = watch("a_dead_workers_inbox_is_given_back_by_its_replacement", patience());
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    ring.lock_tail().push(&[&vec![7; 64 << 20]]).unwrap();
    // The worker claims, begins, and is killed before it is done with the claim.
    assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 1);
    assert!(slot.begin_next().unwrap().is_some());
    assert!(ring.lock_head_until(Instant::now()).unwrap().take_back(slot).unwrap().is_empty());
    slot.reset();
    // The replacement runs something small.
    ring.lock_tail().push(&[b"small"]).unwrap();
    assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 1);
    assert_eq!(slot.begin_next().unwrap().map(|place| slot.claimed(place)), Some(&b"small"[..]));
    slot.finish_claim();
    assert!(slot.is_bulky(), "64 MiB are still in the inbox");
    ring.lock_for(0).trim(slot).unwrap();
    assert!(!slot.is_bulky());
    ring.shrink().unwrap();
    assert!(resident(&control) < 8 << 20, "{} bytes are resident", resident(&control));
}

#[test]
fn frame_without_memory_is_claimed_as_its_replacement_and_can_be_taken_back() {
    let _watch = watch("frame_without_memory_is_claimed_as_its_replacement_and_can_be_taken_back", patience());
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    let frame = |first: u8| -> Vec<u8> { (0..100_000).map(|i| (i % 251) as u8 + first).collect() };
    for first in 0..3 {
        ring.lock_tail().push(&[&frame(first)]).unwrap();
    }
    let lock_head = || ring.lock_head_until(Instant::now()).unwrap();
    lock_head().void(*frame(0).first_chunk().unwrap()).unwrap();
    for first in [1, 2] {
        let instead = |beginning: &[u8]| {
            assert_eq!(beginning, &frame(first)[..64], "the void frame is passed over");
            vec![first; 40]
        };
        assert_eq!(ring.lock_for(0).claim_instead(slot, instead).unwrap(), 1);
        if first == 1 {
            let place = slot.begin_next().unwrap().expect("it was claimed");
            assert_eq!(slot.claimed(place), [1; 40]);
            slot.finish_claim();
        } else {
            assert_eq!(lock_head().take_back(slot).unwrap(), [[2; 40]]);
            assert_eq!(slot.begin_next(), Ok(None));
        }
    }
    assert_eq!(ring.is_empty(), Ok(true));
    let none = ring.lock_for(0).claim_instead(slot, |_| unreachable!("there is no frame"));
    assert_eq!(none.unwrap(), 0);
}

#[test]
fn a_claim_goes_on_behind_a_frame_that_was_replaced() {
    let _watch = watch("a_claim_goes_on_behind_a_frame_that_was_replaced", patience());
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    ring.lock_tail().push(&[b"first"]).unwrap();
    assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 1);
    slot.finish_claim();
    ring.lock_tail().push(&[b"second"]).unwrap();
    let instead = |_: &[u8]| unreachable!("it is short");
    assert_eq!(ring.lock_for(0).claim_instead(slot, instead).unwrap(), 1);
    assert_eq!(slot.begin_next().unwrap().map(|place| slot.claimed(place)), Some(&b"second"[..]));
    slot.finish_claim();
    ring.lock_tail().push(&[&[3; 100_000]]).unwrap();
    // The parent reads no more than its longest frame, so it does not notice that the length was
    // overwritten.
    assert_eq!(ring.lock_for(0).claim_instead(slot, |_| vec![7; 10_000]).unwrap(), 1);
    assert!(ring.lock_head_until(Instant::now()).unwrap().take_back(slot).unwrap()[0].iter().all(|byte| *byte == 7));
    slot.finish_claim();
    assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 0);
    ring.lock_tail().push(&[b"third"]).unwrap();
    assert_eq!(ring.lock_for(0).claim(slot, ONE).unwrap(), 1);
    assert_eq!(slot.begin_next().unwrap().map(|place| slot.claimed(place)), Some(&b"third"[..]));
}

/// Returns how many bytes of the segment take memory.
fn resident(control: &Control) -> u64 {
    rustix::fs::fstat(control.as_fd()).unwrap().st_blocks as u64 * 512
}
