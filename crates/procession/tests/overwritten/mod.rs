//! Stores into the shared memory of the pool whose worker this process is, as a stray pointer of native code would make them.

// Each binary uses what it needs of this.
#![allow(dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

/// Of a pool, as a file: the memory behind it is what is mapped.
pub struct Segment {
    file: File,
    /// Where it holds anything: from, to.
    ranges: Vec<(u64, u64)>,
}

impl Segment {
    /// Of the pool that runs this task.
    pub fn of_pool() -> Segment {
        let of_pool = |path: &fs::DirEntry| {
            fs::read_link(path.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:procession-pool"))
        };
        let fds = fs::read_dir("/proc/self/fd").expect("/proc is there").filter_map(Result::ok);
        let path = fds.filter(of_pool).last().expect("a worker has its pool's segment").path();
        let file = File::options().read(true).write(true).open(path).expect("it can be opened");
        let (mut ranges, mut at) = (Vec::new(), 0);
        while let Ok(from) = seek(&file, SeekFrom::Data(at)) {
            at = seek(&file, SeekFrom::Hole(from)).expect("there is an end");
            ranges.push((from, at));
        }
        Segment { file, ranges }
    }

    /// Writes there.
    pub fn store(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("shared memory can be written");
    }

    /// Reads there.
    pub fn load(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).expect("shared memory can be read");
        bytes
    }

    /// Writes something, where there is something: as often where the words are as in any other range.
    pub fn store_somewhere(&self, random: &mut Random) {
        let (from, to) = self.ranges[random.below(self.ranges.len() as u64) as usize];
        // Words first: of a long range the beginning is as likely as all the rest.
        let to = if random.below(2) == 0 { to.min(from + 8192) } else { to };
        let offset = from + random.below((to - from) / 8) * 8;
        let value = match random.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(1 << 16),
            _ => random.next(),
        };
        let len = if random.below(2) == 0 { 4 } else { 8 };
        self.store(offset, &value.to_le_bytes()[..len]);
    }
}

/// Numbers that depend on a seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Those of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One that is less.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }
}
