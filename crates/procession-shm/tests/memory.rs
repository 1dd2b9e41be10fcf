//! Deaths must not keep memory: what a dead process had touched is given back by those who go on.
#![cfg(not(loom))]

use procession_shm::{ClaimLimit, Control};

const ONE: ClaimLimit = ClaimLimit { max_frames: 1, max_bytes: 1 << 30 };

#[test]
fn a_dead_workers_inbox_is_given_back_by_its_replacement() {
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    ring.lock_tail().unwrap().push(&[&vec![7; 64 << 20]]).unwrap();
    // Claims, begins, and is killed before it is done with the claim.
    assert_eq!(ring.lock_head(1).unwrap().claim(slot, ONE).unwrap(), 1);
    assert!(slot.begin_next().is_some());
    assert!(ring.lock_head(0).unwrap().take_back(slot).unwrap().is_empty());
    slot.reset();
    // The replacement runs something small.
    ring.lock_tail().unwrap().push(&[b"small"]).unwrap();
    assert_eq!(ring.lock_head(1).unwrap().claim(slot, ONE).unwrap(), 1);
    assert_eq!(slot.begin_next(), Some(&b"small"[..]));
    assert!(slot.is_bulky(), "64 MiB are still in the inbox");
    ring.lock_head(1).unwrap().trim(slot).unwrap();
    assert!(!slot.is_bulky());
    assert!(resident(&control) < 8 << 20, "{} bytes are resident", resident(&control));
}

#[test]
fn frame_without_memory_is_claimed_as_its_replacement_and_can_be_taken_back() {
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    let frame = |first: u8| -> Vec<u8> { (0..100_000).map(|i| (i % 251) as u8 + first).collect() };
    for first in 0..3 {
        ring.lock_tail().unwrap().push(&[&frame(first)]).unwrap();
    }
    ring.lock_head(0).unwrap().void(*frame(0).first_chunk().unwrap()).unwrap();
    for first in [1, 2] {
        let instead = |beginning: &[u8]| {
            assert_eq!(beginning, &frame(first)[..64], "the void frame is passed over");
            vec![first; 40]
        };
        assert_eq!(ring.lock_head(1).unwrap().claim_instead(slot, instead).unwrap(), 1);
        if first == 1 {
            assert_eq!(slot.begin_next(), Some(&[1; 40][..]));
        } else {
            assert_eq!(ring.lock_head(0).unwrap().take_back(slot).unwrap(), [[2; 40]]);
            assert_eq!(slot.begin_next(), None);
        }
    }
    assert!(ring.is_empty());
    let none = ring.lock_head(1).unwrap().claim_instead(slot, |_| unreachable!("there is no frame"));
    assert_eq!(none.unwrap(), 0);
}

/// Bytes of the segment that take memory.
fn resident(control: &Control) -> u64 {
    rustix::fs::fstat(control.as_fd()).unwrap().st_blocks as u64 * 512
}
