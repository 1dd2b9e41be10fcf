//! Deaths must not keep memory: what a dead process had touched is given back by those who go on.
#![cfg(not(loom))]

use std::time::Instant;

use procession_shm::{ClaimLimit, Control};

const ONE: ClaimLimit = ClaimLimit { max_frames: 1, max_bytes: 1 << 30 };

#[test]
fn a_dead_workers_inbox_is_given_back_by_its_replacement() {
    let control = Control::create(1).unwrap();
    let (ring, slot) = (control.tasks(), control.slot(0));
    ring.lock_tail().push(&[&vec![7; 64 << 20]]).unwrap();
    // Claims, begins, and is killed before it is done with the claim.
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

/// Bytes of the segment that take memory.
fn resident(control: &Control) -> u64 {
    rustix::fs::fstat(control.as_fd()).unwrap().st_blocks as u64 * 512
}
