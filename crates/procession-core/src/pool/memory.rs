//! The memory of workers. A worker that is to stay small looks at its own, between tasks. The
//! parent looks at that of all workers for its statistics, and they notice nothing of it.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use procession_sys::descriptor::above_streams;
use rustix::param::page_size;

/// A look costs a microsecond; tasks may take less.
const PAUSE: Duration = Duration::from_millis(2);

/// A worker's watch on its own memory.
#[derive(Debug)]
pub(super) struct Diet {
    most: u64,
    statm: Option<File>,
    not_before: Option<Instant>,
}

impl Diet {
    /// Of at most so many bytes.
    pub(super) fn new(most: NonZeroU64) -> Diet {
        // If `/proc` is missing, the pool has refused to start.
        Diet { most: most.get(), statm: File::open("/proc/self/statm").and_then(above_streams).ok(), not_before: None }
    }

    /// Returns whether the worker has more than it may. Looks no more often than is cheap.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(statm) = &self.statm else { return false };
        let now = Instant::now();
        if self.not_before.is_some_and(|then| now < then) {
            return false;
        }
        self.not_before = Some(now + PAUSE);
        let mut text = [0; 128];
        let len = statm.read_at(&mut text, 0).unwrap_or(0);
        str::from_utf8(&text[..len]).ok().and_then(Memory::parse).is_some_and(|memory| memory.own() > self.most)
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    /// All that is in RAM for it.
    pub(super) resident: u64,
    /// Of that, what files and shared memory are, the pool's among them.
    shared: u64,
}

impl Memory {
    pub(super) fn of_self() -> io::Result<Memory> {
        Memory::read("/proc/self/statm")
    }

    pub(super) fn of(pid: u32) -> io::Result<Memory> {
        Memory::read(&format!("/proc/{pid}/statm"))
    }

    /// Returns the bytes that are freed when the process ends.
    pub(super) fn own(self) -> u64 {
        self.resident.saturating_sub(self.shared)
    }

    fn read(path: &str) -> io::Result<Memory> {
        let text = fs::read_to_string(path)?;
        Memory::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path} says {text:?}")))
    }

    fn parse(statm: &str) -> Option<Memory> {
        let mut pages = statm.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
        let (_size, resident, shared) = (pages.next()??, pages.next()??, pages.next()??);
        let page = page_size() as u64;
        Some(Memory { resident: resident * page, shared: shared * page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_in_bytes() {
        let page = page_size() as u64;
        let memory = Memory::parse("1000 30 10 1 0 20 0\n").unwrap();
        assert_eq!((memory.resident, memory.own()), (30 * page, 20 * page));
        assert_eq!(Memory::parse("1000 30"), None);
    }

    #[test]
    fn a_diet_ends_when_memory_is_taken() {
        let most = Memory::of_self().unwrap().own() + (64 << 20);
        let mut diet = Diet::new(NonZeroU64::new(most).unwrap());
        assert!(!diet.is_over());
        let taken = std::hint::black_box(vec![1u8; 96 << 20]);
        std::thread::sleep(PAUSE * 2);
        assert!(diet.is_over());
        drop(taken);
    }
}
