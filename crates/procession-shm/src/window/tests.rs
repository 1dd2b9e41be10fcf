//! Tests of windows that grow, in one process and as another sees them, and of words that were
//! overwritten.

use super::*;
use crate::segment::Segment;

const MAX: usize = 1 << 30;
const MIB: usize = 1 << 20;
const WINDOWS: usize = size_of::<FileWords>();

/// Makes a segment with room for many windows.
fn file() -> File {
    let segment = Segment::create_growing("procession-test", GRAIN, GRAIN).unwrap();
    let file = File::of(&segment, 0, 4 * MAX);
    file.begin(GRAIN);
    file
}

fn window(file: &File, index: usize) -> Window {
    Window::at(file, WINDOWS + index * size_of::<WindowWords>(), MAX)
}

/// Returns the file as another process sees it.
fn attached(file: &File) -> File {
    let fd = file.segment.as_fd().try_clone_to_owned().unwrap();
    File::of(&Segment::attach_growing(fd, GRAIN).unwrap(), 0, 4 * MAX)
}

#[test]
fn slices_from_before_a_growth_stay_valid() {
    let window = window(&file(), 0);
    window.reserve(10).unwrap().write(0, b"before");
    let before = window.slice(0, 6);
    let grown = window.reserve(5 * MIB).unwrap();
    grown.write(5 * MIB - 6, b"behind");
    assert_eq!((before, window.slice(0, 6), window.slice(5 * MIB - 6, 6)), (&b"before"[..], before, &b"behind"[..]));
}

#[test]
fn another_process_maps_as_far_as_it_needs_and_no_further_than_there_is() {
    let file = file();
    let owner = window(&file, 0);
    let other = window(&attached(&file), 0);
    assert_eq!(other.map(1).unwrap_err().kind(), io::ErrorKind::InvalidData, "it is empty");
    for (number, len) in (1..).zip([GRAIN, MIB, 9 * MIB]) {
        owner.reserve(len).unwrap().write(len - 1, &[number]);
    }
    assert_eq!(other.map(1).unwrap().len, GRAIN, "the first extent");
    assert_eq!(other.map(9 * MIB).unwrap().slice(9 * MIB - 1, 1), [3]);
    assert_eq!(other.slice(MIB - 1, 1), [2]);
    assert_eq!(other.map(20 * MIB).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn bytes_are_read_and_given_back_across_extents_without_being_mapped() {
    let file = file();
    let (owner, neighbour) = (window(&file, 0), window(&file, 1));
    for len in [GRAIN, 3 * GRAIN, 7 * GRAIN] {
        owner.reserve(len).unwrap();
        neighbour.reserve(len).unwrap().write(len - GRAIN, &[9; GRAIN]);
    }
    let bytes: Vec<u8> = (0..7 * GRAIN).map(|i| (i % 251) as u8).collect();
    owner.write(0, &bytes);
    let other = window(&attached(&file), 0);
    for (at, len) in [(0, 7 * GRAIN), (GRAIN - 1, 2), (100, 4 * GRAIN), (7 * GRAIN, 0)] {
        assert!(other.read(at, len).unwrap() == bytes[at..at + len], "{len} bytes at {at}");
    }
    let (alone, skip) = other.map_alone(2 * GRAIN + 5, 2 * GRAIN).unwrap();
    assert!(alone.slice(skip, 2 * GRAIN) == &bytes[2 * GRAIN + 5..4 * GRAIN + 5]);
    assert!(other.read(7 * GRAIN, 1).is_err() && other.read(usize::MAX, 2).is_err());
    assert!(other.map_alone(7 * GRAIN - 1, 2).is_err() && other.view().is_none());
    other.punch(GRAIN / 2, 4 * GRAIN).unwrap();
    let punched = GRAIN / 2..4 * GRAIN + GRAIN / 2;
    for (at, byte) in owner.slice(0, 7 * GRAIN).iter().enumerate() {
        assert_eq!(*byte, if punched.contains(&at) { 0 } else { bytes[at] }, "at {at}");
    }
    assert!(neighbour.slice(0, GRAIN).iter().all(|byte| *byte == 9), "others keep theirs");
}

#[test]
fn words_that_make_no_sense_are_an_error() {
    let file = file();
    let extent = |offset: usize, len: usize| encode(Extent { offset: offset as u64, len });
    let words = [
        ("nothing", extent(GRAIN, 0)),
        ("the fixed part", extent(0, GRAIN)),
        ("behind the file", extent(GRAIN << 20, GRAIN)),
        ("across its end", extent(GRAIN, 2 << 30)),
        ("all bits", u64::MAX),
    ];
    for (index, (what, word)) in words.into_iter().enumerate() {
        let window = window(&file, index);
        window.0.words.extents[0].store(word, Ordering::Relaxed);
        let errors = [
            window.map(1).map(drop),
            window.reserve(1).map(drop),
            window.read(0, 1).map(drop),
            window.punch(0, 1),
            window.map_alone(0, 1).map(drop),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData, "{what}");
        }
    }
    // The file has as much, but it is longer than the window may be.
    let window = window(&file, words.len());
    let taken = file.take(2 * MAX).unwrap();
    window.begin(taken);
    assert_eq!(window.map(1).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn extents_cover_about_as_much_as_the_file_has() {
    let file = file();
    let window = window(&file, 0);
    window.reserve(4 * GRAIN).unwrap();
    assert!(file.check().is_ok());
    // Nothing; bytes of other windows; more than any file has; all bits.
    for given in [0, 4 * GRAIN, 1 << 50, usize::MAX] {
        file.begin(given);
        assert!(file.check().is_err(), "{given}");
        assert_eq!(window.reserve(9 * GRAIN).unwrap_err().kind(), io::ErrorKind::InvalidData, "{given}");
    }
    assert_eq!(window.map(4 * GRAIN).unwrap().len, 4 * GRAIN, "what it had it has");
}

#[test]
fn mapped_extents_are_not_looked_up_again() {
    let file = file();
    let window = window(&file, 0);
    window.reserve(3 * GRAIN).unwrap().write(0, b"bytes");
    window.0.words.extents[0].store(u64::MAX, Ordering::Relaxed);
    assert_eq!(window.reserve(9 * GRAIN).unwrap().slice(0, 5), b"bytes");
}

#[test]
fn a_window_grows_to_its_end_and_no_further() {
    let window = window(&file(), 0);
    assert_eq!(window.reserve(MAX + 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    window.reserve(MAX - 1).unwrap();
    assert_eq!(window.map(MAX).unwrap().len, MAX);
    assert_eq!(window.reserve(usize::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn threads_that_map_and_grow_at_once_see_the_same_bytes() {
    let file = file();
    let shared = window(&file, 0);
    std::thread::scope(|scope| {
        let (file, shared) = (&file, &shared);
        for own in 1..=3 {
            scope.spawn(move || {
                let own_window = window(file, own);
                for grains in 1..=200 {
                    own_window.reserve(grains * GRAIN).unwrap().write((grains - 1) * GRAIN, &[own as u8]);
                    // One thread lengthens it, and all map it.
                    if own == 1 {
                        shared.reserve(grains * GRAIN).unwrap().write((grains - 1) * GRAIN, &[grains as u8]);
                    } else if let Ok(view) = shared.map(grains * GRAIN) {
                        assert!([0, grains as u8].contains(&view.slice((grains - 1) * GRAIN, 1)[0]));
                    }
                }
                let bytes = own_window.view().unwrap();
                assert!((0..200).all(|grain| bytes.slice(grain * GRAIN, 1) == [own as u8]));
            });
        }
    });
    assert!((0..200).all(|grain| shared.slice(grain * GRAIN, 1) == [grain as u8 + 1]));
}

#[test]
fn a_window_that_grows_while_another_process_looks_at_it_makes_sense() {
    for _ in 0..200 {
        let file = file();
        let owner = window(&file, 0);
        owner.reserve(GRAIN).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // As a process that has not mapped it before.
                    window(&attached(&file), 0).map(1).unwrap();
                }
            });
            for grains in 2..20 {
                owner.reserve(grains * GRAIN).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
