//! Stores into the shared memory of the pool whose worker this process is, as a stray pointer of
//! native code would make them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};

use crate::Random;

/// The shared memory of a pool as a file: the memory behind the file is what the pool's processes
/// have mapped.
#[derive(Debug)]
pub struct Segment {
    file: File,
    /// The ranges in which it holds anything: from, to.
    ranges: Vec<(u64, u64)>,
}

impl Segment {
    /// Opens that of the pool whose task calls this.
    pub fn of_pool() -> Segment {
        let of_pool = |path: &fs::DirEntry| {
            fs::read_link(path.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:procession-pool"))
        };
        let fds = fs::read_dir("/proc/self/fd").expect("/proc is there").filter_map(Result::ok);
        let path = fds.filter(of_pool).last().expect("a worker has its pool's segment").path();
        let file = File::options().read(true).write(true).open(path).expect("it can be opened");
        let mut segment = Segment { file, ranges: Vec::new() };
        segment.look();
        segment
    }

    /// Looks where it holds anything by now.
    pub fn look(&mut self) {
        let mut at = 0;
        self.ranges.clear();
        while let Ok(from) = seek(&self.file, SeekFrom::Data(at)) {
            at = seek(&self.file, SeekFrom::Hole(from)).expect("there is an end");
            self.ranges.push((from, at));
        }
    }

    /// Writes bytes at an offset.
    pub fn store(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("shared memory can be written");
    }

    /// Reads bytes at an offset.
    pub fn load(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).expect("shared memory can be read");
        bytes
    }

    /// Overwrites 4 or 8 bytes at random, where there is something: as often where the words are as
    /// in any other range.
    pub fn store_somewhere(&self, random: &mut Random) {
        let (from, to) = self.ranges[random.index(self.ranges.len())];
        // Words first: of a long range the beginning is as likely as all the rest.
        let to = if random.below(2) == 0 { to.min(from + 8192) } else { to };
        let offset = from + random.below((to - from) / 8) * 8;
        let value = match random.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(1 << 16),
            _ => random.number(),
        };
        let len = if random.below(2) == 0 { 4 } else { 8 };
        self.store(offset, &value.to_le_bytes()[..len]);
    }
}
