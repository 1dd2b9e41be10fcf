//! A pool as another program sees it: its words, mapped to read alone. In any process of the same
//! user, which the pool's processes notice nothing of: no lock, no wake, no store.
//!
//! The words change meanwhile and may hold anything, so each number is a guess that is good for
//! showing. None leads to memory: nothing but words of the fixed part is read.

use std::io;
use std::os::fd::OwnedFd;

use crate::control::Control;

/// See the module.
#[derive(Debug)]
pub struct Observed(Control);

/// A slot at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservedSlot {
    /// The process that has the slot, or had it last, by its own count of pids; 0: none.
    pub pid: u32,
    /// The task that it runs.
    pub running: Option<ObservedTask>,
    /// The number of tasks that have been begun in this slot.
    pub begun: u64,
    /// Bytes of results that the parent has not taken yet.
    pub unread: usize,
}

/// A task that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObservedTask {
    /// Its job's number.
    pub job: u64,
    /// The index of the job's item that it is in.
    pub index: u32,
    /// The time when the parent first saw it, in nanoseconds of the monotonic clock; `None`: it has
    /// not looked since the task began.
    pub seen_at: Option<u64>,
}

impl Observed {
    /// Maps the segment of a pool, by an fd that may be read only.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the file is not a pool's, or is one of another version; `OutOfMemory` if
    /// this process may have no more addresses.
    pub fn open(fd: OwnedFd) -> io::Result<Observed> {
        Control::observe(fd).map(Observed)
    }

    /// Returns the pid of the pool's parent, as that counts.
    pub fn owner(&self) -> u32 {
        self.0.owner()
    }

    /// Returns how many chunks no worker has claimed yet.
    pub fn queued(&self) -> u64 {
        self.0.tasks().observed_len()
    }

    /// Returns the slots that are used.
    pub fn slots(&self) -> Vec<ObservedSlot> {
        (0..self.0.used_slots()).map(|index| self.slot(index)).collect()
    }

    fn slot(&self, index: usize) -> ObservedSlot {
        let slot = self.0.slot(index);
        let running = slot.running();
        let task = running.look().filter(|seen| running.look() == Some(*seen));
        let task = task.map(|seen| ObservedTask { job: seen.job, index: seen.index, seen_at: running.shown(seen) });
        let unread = self.0.stream(index).unread();
        ObservedSlot { pid: slot.pid(), running: task, begun: running.begun(), unread }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::running::Verdict;

    fn read_only(control: &Control) -> OwnedFd {
        File::open(format!("/proc/self/fd/{}", control.as_fd().as_raw_fd())).unwrap().into()
    }

    #[test]
    fn onlooker_sees_what_runs() {
        let control = Control::create(2).unwrap();
        let observed = Observed::open(read_only(&control)).unwrap();
        assert_eq!((observed.owner(), observed.queued()), (std::process::id(), 0));
        assert!(observed.slots().iter().all(|slot| slot.running.is_none() && slot.pid == 0));
        control.enter(1).unwrap();
        let running = control.slot(1).running();
        running.set_index(3);
        assert_eq!(running.begin(7), Verdict::Run);
        let seen = || observed.slots()[1];
        assert_eq!((seen().pid, seen().begun), (std::process::id(), 1));
        assert_eq!(seen().running, Some(ObservedTask { job: 7, index: 3, seen_at: None }));
        running.show(running.look().unwrap(), 55);
        assert_eq!(seen().running.unwrap().seen_at, Some(55));
        running.set_index(4);
        assert_eq!(seen().running, Some(ObservedTask { job: 7, index: 4, seen_at: None }));
    }

    #[test]
    fn any_words_are_shown_or_refused() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let control = Control::create(2).unwrap();
            let file = File::from(control.as_fd().try_clone_to_owned().unwrap());
            for _ in 0..40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Beyond the words by which a pool is told from other files.
                file.write_all_at(&state.to_ne_bytes(), 8 + (state >> 33) % 8000).unwrap();
            }
            if let Ok(observed) = Observed::open(read_only(&control)) {
                assert!(observed.slots().len() <= 1024 && observed.slots().iter().all(|slot| slot.unread <= 1 << 18));
                let _ = (observed.owner(), observed.queued());
            }
        }
    }
}
