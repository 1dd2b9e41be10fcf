//! The record of the task that a worker runs, and the word by which the parent may stop it. A
//! *stretch* of tasks is either finished by its worker or stopped by the parent, never both. The
//! worker writes before and after each stretch. The parent reads, and stops one stretch before it
//! kills the worker, so that the kill can hit no other.
//!
//! A stretch holds the tasks that are stopped together. That is a whole chunk, since a job is
//! cancelled as a whole. Where tasks have a time limit it is one task, since each has a deadline of
//! its own. There, what a worker prepares before the first task is a stretch too: it can be
//! stopped, and takes no task's time.
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
/// In the index: the worker prepares for this task, and has not begun it.
const PREPARES: u64 = 1 << 63;

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
    /// The index in the job of the task that runs, or is prepared for; in the upper half, which of
    /// the task's calls.
    index: AtomicU64,
    /// The number of tasks that have been begun. The worker writes it.
    begun: AtomicU64,
    /// The job that the parent asked to stop last. The parent writes it.
    stop: AtomicU64,
    /// The last stretch that the parent has seen, and when, in nanoseconds of the monotonic clock.
    /// The parent writes both, for those who look on, and reads neither.
    seen: AtomicU64,
    seen_at: AtomicU64,
}

/// The worker's duty for its next stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Run it.
    Run,
    /// Skip it: nobody wants its results.
    Skip,
    /// End: the parent is about to kill this process.
    Stopped,
}

/// The task that runs, as the parent saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    number: u64,
    /// The job of the task.
    pub job: u64,
    /// The task's index in the job.
    pub index: u32,
    /// The worker prepares for the task, which has not begun.
    pub prepares: bool,
}

impl Snapshot {
    fn mark(self) -> u64 {
        // Never 0, as numbers begin with 1.
        self.number << 32 | u64::from(self.index) | 1 << 63
    }
}

impl Running {
    /// Makes one that runs nothing.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Running {
        let zero = || AtomicU64::new(0);
        Running {
            word: zero(),
            used: zero(),
            job: zero(),
            index: zero(),
            begun: zero(),
            stop: zero(),
            seen: zero(),
            seen_at: zero(),
        }
    }

    /// Worker: says which task of its job is next, within the stretch or before a stretch of this
    /// task alone.
    #[inline]
    pub fn set_index(&self, index: u32) {
        self.index.store(index.into(), Ordering::Relaxed);
        self.count_begun();
    }

    /// Worker: says that the next stretch prepares for this task, and that none runs in it.
    pub fn set_prepared(&self, index: u32) {
        self.index.store(PREPARES | u64::from(index), Ordering::Relaxed);
    }

    /// Worker: says that the next call of a task of several begins.
    #[inline]
    pub fn begin_another_call(&self) {
        let next = self.index.load(Ordering::Relaxed).wrapping_add(1 << 32) & !PREPARES;
        self.index.store(next, Ordering::Relaxed);
        self.count_begun();
    }

    #[inline]
    fn count_begun(&self) {
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
        let index = self.index.load(Ordering::Relaxed);
        let prepares = index & PREPARES != 0;
        (number != NONE && number != STOPPED).then_some(Snapshot { number, job, index: index as u32, prepares })
    }

    /// Parent: tells those who look on when it has seen this for the first time, in nanoseconds of
    /// the monotonic clock.
    pub fn show(&self, seen: Snapshot, at: u64) {
        self.seen.store(0, Ordering::Release);
        self.seen_at.store(at, Ordering::Release);
        // The mark names the stretch and the task in one word: a stretch may have many tasks.
        self.seen.store(seen.mark(), Ordering::Release);
    }

    /// Onlooker: returns when the parent saw this for the first time, if it has seen it yet.
    pub fn shown(&self, seen: Snapshot) -> Option<u64> {
        let is_it = || self.seen.load(Ordering::Acquire) == seen.mark();
        let at = is_it().then(|| self.seen_at.load(Ordering::Acquire))?;
        is_it().then_some(at)
    }

    /// Parent: returns how many tasks have been begun here, by this worker and by those that had
    /// the slot before it.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Parent: returns which of its calls a task runs or ran last, if it is the last of this slot.
    pub fn call_of(&self, task: u32) -> u32 {
        let index = self.index.load(Ordering::Relaxed);
        if index as u32 == task { ((index & !PREPARES) >> 32) as u32 } else { 0 }
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
    fn calls_of_a_task_are_counted_from_its_first() {
        let running = Running::new();
        running.set_index(3);
        assert_eq!((running.call_of(3), running.begun()), (0, 1));
        running.begin_another_call();
        running.begin_another_call();
        assert_eq!((running.call_of(3), running.call_of(4), running.begun()), (2, 0, 3));
        running.set_index(4);
        assert_eq!((running.call_of(3), running.call_of(4)), (0, 0));
    }

    #[test]
    fn stretch_is_finished_or_stopped() {
        let running = Running::new();
        assert_eq!(running.look(), None);
        running.set_index(3);
        assert_eq!(running.begin(7), Verdict::Run);
        let seen = running.look().unwrap();
        assert_eq!((seen.job, seen.index, seen.prepares, running.begun()), (7, 3, false, 1));
        assert!(running.finish());
        assert!(!running.stop_stretch(seen), "it is over");
        assert_eq!(running.begin(8), Verdict::Run);
        assert!(!running.stop_stretch(seen), "this is another");
        assert!(running.stop_stretch(running.look().unwrap()));
        assert!(!running.finish());
        assert_eq!(running.look(), None);
        running.reset();
        running.set_prepared(5);
        assert_eq!(running.begin(8), Verdict::Run);
        let seen = running.look().unwrap();
        assert_eq!((seen.job, seen.index, seen.prepares, running.begun()), (8, 5, true, 1));
        assert!(running.finish());
        running.stop(9);
        assert_eq!((running.begin(9), running.begin(10)), (Verdict::Skip, Verdict::Run));
    }
}
