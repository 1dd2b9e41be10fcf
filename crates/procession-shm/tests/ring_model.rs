//! The ring against a plain queue: the same frames in the same order, through growth, shrinking and wrapping.
#![cfg(not(loom))]

use std::collections::VecDeque;

use procession_shm::{ClaimLimit, Control};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Take,
    Claim(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..2000).prop_map(Act::Push),
        1 => (0usize..300_000).prop_map(Act::Push),
        4 => Just(Act::Take),
        2 => (1usize..9).prop_map(Act::Claim),
    ];
    prop::collection::vec(act, 0..300)
}

fn frame(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + seed * 7) as u8).collect()
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
                    ring.lock_tail().unwrap().push(&[left, right]).unwrap();
                    model.push_back(bytes);
                }
                Act::Take => {
                    let mut out = Vec::new();
                    let taken = ring.lock_head(0).unwrap().take(&mut out).unwrap();
                    prop_assert_eq!(taken.then_some(out), model.pop_front());
                }
                Act::Claim(max_frames) => {
                    let limit = ClaimLimit { max_frames, max_bytes: 1 << 20 };
                    let claimed = ring.lock_head(1).unwrap().claim(slot, limit).unwrap();
                    prop_assert!(claimed <= max_frames && (claimed > 0 || model.is_empty()));
                    for _ in 0..claimed {
                        prop_assert_eq!(slot.begin_next().map(<[u8]>::to_vec), model.pop_front());
                    }
                    prop_assert!(slot.begin_next().is_none());
                    if slot.is_bulky() {
                        ring.lock_head(1).unwrap().trim(slot).unwrap();
                    }
                }
            }
            prop_assert_eq!(ring.len() as usize, model.len());
            prop_assert_eq!(ring.is_empty(), model.is_empty());
        }
    }
}

#[test]
fn a_drained_backlog_gives_its_memory_back() {
    let control = Control::create(1).unwrap();
    let before = resident();
    let block = vec![7; 1 << 20];
    for _ in 0..200 {
        control.tasks().lock_tail().unwrap().push(&[&block]).unwrap();
    }
    assert!(resident() > before + 150, "200 MiB are queued");
    let mut out = Vec::new();
    while control.tasks().lock_head(0).unwrap().take(&mut out).unwrap() {
        assert!(out == block);
        out.clear();
    }
    assert!(resident() < before + 50, "{} MiB before, {} after", before, resident());
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

/// MiB of shared memory that this process has mapped and resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}
