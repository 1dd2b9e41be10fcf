//! Pools of other programs, as their user looks at them from outside: found by the name of their
//! shared memory among a process's file descriptors, and read without a trace. In any process of
//! the same user, in any thread. For `python -m procession top`.
//!
//! A pool of another program is not trusted: a worker is shown with its process only if that has
//! the same shared memory mapped.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use procession_shm::Observed;
pub use procession_shm::{ObservedSlot, ObservedTask};
use rustix::time::{ClockId, clock_gettime};

/// The name of a pool's shared memory, as `/proc` shows it.
const NAME: &str = "/memfd:procession-pool";

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct ObservedPool {
    /// Tells it from other pools.
    pub id: u64,
    /// The pid of its parent, as the parent sees it.
    pub owner: u32,
    /// Chunks that no worker has claimed.
    pub queued: u64,
    /// Its slots. The pid is 0 where the process is gone, or has not this pool's memory.
    pub slots: Vec<ObservedSlot>,
}

/// Returns the pools whose memory the process has open, its own and those that it works for.
///
/// # Errors
///
/// If there is no such process, or another user has it.
pub fn pools_of(pid: u32) -> io::Result<Vec<ObservedPool>> {
    let mut pools: Vec<ObservedPool> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        // It may have been closed since.
        let is_pool = fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().starts_with(NAME));
        if is_pool
            && let Ok(pool) = observe(&path)
            && pools.iter().all(|other| other.id != pool.id)
        {
            pools.push(pool);
        }
    }
    Ok(pools)
}

/// Returns nanoseconds of the clock by which [`ObservedTask::seen_at`] counts.
pub fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn observe(path: &std::path::Path) -> io::Result<ObservedPool> {
    let file = File::open(path)?;
    let id = file.metadata()?.ino();
    let observed = Observed::open(file.into())?;
    let mut slots = observed.slots();
    for slot in &mut slots {
        if !has_mapped(slot.pid, id) {
            slot.pid = 0;
        }
    }
    Ok(ObservedPool { id, owner: observed.owner(), queued: observed.queued(), slots })
}

/// Returns whether the process has mapped the shared memory of this inode.
fn has_mapped(pid: u32, id: u64) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return false };
    let inode = id.to_string();
    maps.lines().any(|line| line.contains(NAME) && line.split_ascii_whitespace().nth(4) == Some(&inode))
}
