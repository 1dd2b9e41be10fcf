//! What a worker is running, and the word by which the parent may stop it. A *stretch* of tasks is
//! either finished by its worker or stopped by the parent, never both. The worker writes before and
//! after each stretch. The parent reads, and stops one stretch before it kills the worker, so that
//! the kill can hit no other.
//!
//! A stretch holds the tasks that are stopped together. That is a whole chunk, since a job is
//! cancelled as a whole. Where tasks have a time limit it is one task, since each has a deadline of
//! its own.
//!
//! | worker | parent |
//! |---|---|
//! | 1. job := the stretch's job | 1. to stop a job: stop := the job, fence |
//! | 2. word := a number never used before, fence | 2. look: word, job |
//! | 3. is the job to stop? word: the number becomes 0; skip the stretch | 3. word: that number becomes *stopped*, or nothing happens |
//! | 4. (runs; before each task it looks at stop again) | 4. kill |
//! | 5. word: that number becomes 0, or it is *stopped* | |
//!
//! The job is read between two looks at one number, so it is that number's job: it changes only
//! while the word is 0. One of the two fences is first: the worker sees that the job is to stop, or
//! the parent sees that it runs. The looks in step 4 have no fence, so one more task may begin
//! before the worker notices.
//!
//! The result of a task with a limit is committed after step 5: a task whose time is out has none.
//! The results of other tasks are committed as each task ends: the user who cancels the job wants
//! none of them.
//!
//! | death of the worker | what it leaves |
//! |---|---|
//! | before 2 | the chunk is begun, and its next task without a result is lost |
//! | 2 to 5 and after | the same |
//! | stopped | the same; the parent knows why |

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering, fence};

/// Nothing runs.
const NONE: u64 = 0;
/// The worker must not finish the stretch.
const STOPPED: u64 = u64::MAX;

/// All zero: runs nothing.
#[derive(Debug)]
#[repr(C)]
pub struct Running {
    /// The number of the stretch that runs, or one of the above.
    word: AtomicU64,
    /// The last number used. The worker writes it.
    used: AtomicU64,
    /// The job of the stretch that runs, or of the last one.
    job: AtomicU64,
    /// The index in the job of the task that runs.
    index: AtomicU64,
    /// How many tasks have been begun. The worker writes it.
    begun: AtomicU64,
    /// The job that the parent asked to stop last. The parent writes it.
    stop: AtomicU64,
}

/// What a worker must do with its next stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Run it.
    Run,
    /// Skip it: nobody wants its results.
    Skip,
    /// End: the parent is about to kill this process.
    Stopped,
}

/// What runs, as the parent saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    number: u64,
    /// The job of the task.
    pub job: u64,
    /// The task's index in the job.
    pub index: u32,
}

impl Running {
    /// Makes one that runs nothing.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Running {
        let zero = || AtomicU64::new(0);
        Running { word: zero(), used: zero(), job: zero(), index: zero(), begun: zero(), stop: zero() }
    }

    /// Worker: says which task of its job is next, within the stretch or before a stretch of this
    /// task alone.
    #[inline]
    pub fn set_index(&self, index: u32) {
        self.index.store(index.into(), Ordering::Relaxed);
        self.count_begun();
    }

    /// Worker: counts a task that is begun.
    #[inline]
    pub fn count_begun(&self) {
        self.begun.store(self.begun.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Worker, between two tasks of a stretch: returns whether the job is to stop.
    #[inline]
    pub fn is_stopped(&self, job: u64) -> bool {
        self.stop.load(Ordering::Relaxed) == job
    }

    /// Worker: begins a stretch of tasks of `job`, which is not 0.
    #[inline]
    pub fn begin(&self, job: u64) -> Verdict {
        let number = self.used.load(Ordering::Relaxed).wrapping_add(1);
        self.used.store(number, Ordering::Relaxed);
        self.job.store(job, Ordering::Relaxed);
        // Release: a process that sees the number sees its job.
        self.word.store(number, Ordering::Release);
        point(Step::RunningBegun);
        fence(Ordering::SeqCst);
        if !self.is_stopped(job) {
            return Verdict::Run;
        }
        if self.finish() { Verdict::Skip } else { Verdict::Stopped }
    }

    /// Worker: finishes the stretch. Returns `false` if the parent has stopped it and will kill
    /// this process.
    #[inline]
    pub fn finish(&self) -> bool {
        let number = self.used.load(Ordering::Relaxed);
        let finished = self.word.compare_exchange(number, NONE, Ordering::AcqRel, Ordering::Acquire).is_ok();
        point(Step::RunningFinished);
        finished
    }

    /// Parent: asks that no further task of `job` begins. [`look`](Running::look) afterwards shows
    /// whether one runs already.
    pub fn stop(&self, job: u64) {
        self.stop.store(job, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Parent: returns what runs now.
    #[inline]
    pub fn look(&self) -> Option<Snapshot> {
        let number = self.word.load(Ordering::Acquire);
        let job = self.job.load(Ordering::Relaxed);
        let index = self.index.load(Ordering::Relaxed) as u32;
        (number != NONE && number != STOPPED).then_some(Snapshot { number, job, index })
    }

    /// Parent: returns how many tasks have been begun here, by this worker and by those that had
    /// the slot before it.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Parent: stops the stretch that it has seen, so that the worker cannot finish it. Returns
    /// `false`, and does nothing, if the stretch is over.
    pub fn stop_stretch(&self, seen: Snapshot) -> bool {
        self.word.compare_exchange(seen.number, STOPPED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Parent, when the worker is dead: sets it to run nothing. Numbers go on, so that none is used
    /// twice.
    pub fn reset(&self) {
        self.word.store(NONE, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn stretch_is_finished_or_stopped() {
        let running = Running::new();
        assert_eq!(running.look(), None);
        running.set_index(3);
        assert_eq!(running.begin(7), Verdict::Run);
        let seen = running.look().unwrap();
        assert_eq!((seen.job, seen.index, running.begun()), (7, 3, 1));
        assert!(running.finish());
        assert!(!running.stop_stretch(seen), "it is over");
        assert_eq!(running.begin(8), Verdict::Run);
        assert!(!running.stop_stretch(seen), "this is another");
        assert!(running.stop_stretch(running.look().unwrap()));
        assert!(!running.finish());
        assert_eq!(running.look(), None);
        running.reset();
        running.stop(9);
        assert_eq!((running.begin(9), running.begin(10)), (Verdict::Skip, Verdict::Run));
    }
}
