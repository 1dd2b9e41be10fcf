//! Rows of bulk data: a buffer to a worker, and one back, each beside a copy into warm memory, and
//! beside a pipe.

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::Instant;

use procession::{Bytes, Context, Handle, Pool, Process};

use crate::report::{Must, Row};

const SIZE: usize = 64 << 20;

pub(crate) fn to_a_worker(pairs: usize) -> Row {
    let pool = pool();
    let bytes = Bytes::from(vec![7; SIZE]);
    let ours = || rate(|| assert_eq!(pool.apply(|bytes: Bytes| bytes.len(), bytes.clone()).expect("it goes"), SIZE));
    Row::new("64 MiB to a worker", "GiB/s", "memcpy, warm", Must::AtLeast(0.7), beside_memcpy(pairs, ours))
}

pub(crate) fn from_a_worker(pairs: usize) -> Row {
    let pool = pool();
    // Made once, so that only its transfer is measured.
    pool.apply(|()| drop(made()), ()).expect("it is made");
    let ours = || rate(|| assert_eq!(pool.apply(|()| made(), ()).expect("it comes").len(), SIZE));
    Row::new("64 MiB back from a worker", "GiB/s", "memcpy, warm", Must::AtLeast(0.7), beside_memcpy(pairs, ours))
}

pub(crate) fn beside_a_pipe(pairs: usize) -> Row {
    let pool = pool();
    let bytes = Bytes::from(vec![7; SIZE]);
    let ours = || rate(|| assert_eq!(pool.apply(|bytes: Bytes| bytes.len(), bytes.clone()).expect("it goes"), SIZE));
    ours();
    let pairs = (0..pairs).map(|_| (ours(), by_pipe(&bytes))).collect();
    Row::new("64 MiB to a worker", "GiB/s", "a pipe of 64 KiB", Must::AtLeast(8.0), pairs)
}

fn pool() -> Pool {
    Context::forkserver().pool(1).expect("a pool is made")
}

fn made() -> Bytes {
    static MADE: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    MADE.get_or_init(|| Bytes::from(vec![7; SIZE])).clone()
}

fn beside_memcpy(pairs: usize, ours: impl Fn() -> f64) -> Vec<(f64, f64)> {
    let (from, mut to) = (vec![7u8; SIZE], vec![1u8; SIZE]);
    let mut theirs = || {
        rate(|| {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        })
    };
    // Neither side pays for the first touch.
    ours();
    theirs();
    (0..pairs).map(|_| (ours(), theirs())).collect()
}

fn by_pipe(bytes: &[u8]) -> f64 {
    let (reader, mut writer) = std::io::pipe().expect("a pipe is made");
    let reader = Handle(std::os::fd::OwnedFd::from(reader));
    let read = || {
        let mut file = std::fs::File::from(reader.0.try_clone().expect("it is open"));
        let mut room = vec![1u8; SIZE];
        file.read_exact(&mut room).expect("it comes");
        // The second trip is measured: the room has been touched by then.
        file.read_exact(&mut room).expect("it comes");
        room[SIZE - 1]
    };
    let mut other = Process::fork(read).start().expect("a process starts");
    writer.write_all(bytes).expect("it is read");
    let rate = {
        let begun = Instant::now();
        writer.write_all(bytes).expect("it is read");
        SIZE as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 30)
    };
    assert_eq!(other.join().expect("it reads all"), 7);
    rate
}

fn rate(once: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    once();
    SIZE as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 30)
}
