//! Replays what fuzzing has found: every file of `fuzz/corpus` through the function of its target.
//! None of them panics, and none has memory taken for it that it has not sent itself. In the test's
//! own process, on one thread for each test. Empty without `--cfg fuzzing`, by which the parsers
//! can be called.
#![cfg(fuzzing)]

use std::fs;
use std::path::{Path, PathBuf};

use procession_core::fuzzing::TARGETS;

/// Beside what is copied of an input: the room that is made for a frame or a message before its
/// bytes are there, some times over.
const BASE: u64 = 1 << 20;
/// For each byte of an input.
const FACTOR: u64 = 64;

#[test]
fn nothing_in_the_corpora_panics_or_takes_memory() {
    for (name, target) in TARGETS {
        for file in corpus(name) {
            let data = fs::read(&file).unwrap();
            // The memory that the first use of anything takes is not this input's.
            target(&data);
            let taken = allocation_counter::measure(|| target(&data));
            let most = BASE + FACTOR * data.len() as u64;
            assert!(taken.bytes_max <= most, "{}: {} bytes were taken", file.display(), taken.bytes_max);
            assert_eq!(taken.bytes_current, 0, "{}: memory is kept", file.display());
        }
    }
}

#[test]
fn what_is_cut_or_damaged_anywhere_is_no_worse() {
    for (name, target) in TARGETS {
        for file in corpus(name) {
            let whole = fs::read(file).unwrap();
            for at in 0..whole.len().min(32) {
                target(&whole[..at]);
                for damage in [0, 0x80, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[at] = damage;
                    target(&damaged);
                }
            }
        }
    }
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 5, "{} has {} inputs", folder.display(), files.len());
    files.sort();
    files
}
