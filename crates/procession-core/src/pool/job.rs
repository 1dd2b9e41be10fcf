//! A job: all tasks of one call, and what has come back of them. Lives in the parent; filled by
//! whichever thread drains results, read by the thread that asks for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use procession_shm::{Held, record};

use super::results::{Arrived, ChunkResults, Results, Run};
use super::trace::JobSpan;
use crate::beside::{Place, not_sent};
use crate::outcome::tag;
use crate::{Error, Result};

/// The blocks of a job's results, by area and block; or why one could not be had.
type Blocks = BTreeMap<(u32, u64), Result<Arc<Held>, (ErrorKind, String)>>;

/// The results of a job's tasks, or the reason why there will be none.
type Finished = Result<Vec<ChunkResults>, Arc<Error>>;

/// A callback of a finished job. Returns the panic that it ended with, in the face's
/// codec, if it did.
pub(super) type JobCallback = Box<dyn FnOnce() -> Option<Vec<u8>> + Send>;

pub(super) struct Job {
    pub(super) id: u64,
    pub(super) terms: Terms,
    /// The number of tasks.
    pub(super) len: usize,
    /// Of each argument, in a pool whose results are sealed. Set before the first is sent.
    hashes: OnceLock<Vec<u64>>,
    /// The number of calls before each task, and before the end; `None`: each task is one call.
    calls_before: Option<Vec<u64>>,
    progress: Mutex<Progress>,
    finished: OnceLock<Finished>,
    followers: Mutex<Followers>,
    /// Callbacks that have not come to their end; readable without the lock.
    uncalled: AtomicUsize,
    /// The error that the first callback that panicked made of the job.
    spoiled: OnceLock<Arc<Error>>,
    /// Large buffers of its results.
    blocks: Mutex<Blocks>,
    pub(super) span: JobSpan,
}

/// The wakers and callbacks that a job's end is for.
#[derive(Default)]
struct Followers {
    wakers: Wakers,
    callbacks: VecDeque<JobCallback>,
}

/// The wakers of tasks, in the sense of async Rust, that await a job.
#[derive(Default)]
pub(super) struct Wakers {
    /// Mostly it is the only one, and needs no memory of its own.
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakers {
    /// Adds a waker, unless it wakes the same as one that is there. Returns whether it is the
    /// first.
    fn add(&mut self, waker: &Waker) -> bool {
        let Some(first) = &self.first else {
            self.first = Some(waker.clone());
            return true;
        };
        if ![first].into_iter().chain(&self.others).any(|known| known.will_wake(waker)) {
            self.others.push(waker.clone());
        }
        false
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn wake_all(self) {
        self.first.into_iter().chain(self.others).for_each(Waker::wake);
    }
}

/// The answer to a request to be woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Awaits {
    /// There is nothing to wait for.
    Finished,
    /// It will be, as the only one so far.
    First,
    /// It will be, like others.
    Further,
}

/// The settings of a job, given by its caller.
#[derive(Clone, Copy, Default, Debug)]
pub struct Terms {
    /// Tasks that travel together; `None`: the pool's choice.
    pub chunk: Option<usize>,
    /// The longest that a task may run. Kept to within some 20 ms.
    pub timeout: Option<Duration>,
    /// The most times that a task is run again after its worker was lost.
    pub retries: u32,
    /// True if the first task that fails ends the job. Its outcome is then the only one, and tasks
    /// that have not begun do not begin. Tasks that run may finish, and their results are dropped.
    pub fail_fast: bool,
}

/// The effect of a result on its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// It was dropped: it is a copy of one that came before, or the job is over.
    Stale,
    /// It was dropped: no worker has such a task.
    Impossible,
    /// It is entered, and more are to come.
    More,
    /// It was the last.
    Last,
    /// It ends the job, though tasks of it are left.
    Failed,
}

#[derive(Debug)]
struct Progress {
    chunks: Vec<ChunkResults>,
    /// The number of chunks, from the first on, that have all of their results.
    complete: usize,
    remaining: usize,
    /// All its tasks have been in the ring.
    is_queued: bool,
    /// The number of times that each task has been lost and run again.
    retried: BTreeMap<u32, u32>,
}

impl Progress {
    /// The chunk whose next tasks are the `count` from `first` on; if they are not, what became of
    /// their results.
    fn place(&mut self, chunk: u32, first: u32, count: u32) -> Result<&mut ChunkResults, Entered> {
        if self.chunks.is_empty() {
            // The job is over.
            return Err(Entered::Stale);
        }
        let chunk = self.chunks.get_mut(chunk as usize).ok_or(Entered::Impossible)?;
        if (chunk.first..chunk.next).contains(&first) {
            Err(Entered::Stale)
        } else if chunk.takes(first, count) {
            Ok(chunk)
        } else {
            Err(Entered::Impossible)
        }
    }

    /// Results of the chunk have arrived.
    fn advance(&mut self) {
        while self.chunks.get(self.complete).is_some_and(ChunkResults::is_complete) {
            self.complete += 1;
        }
    }
}

impl Job {
    /// `sizes`: the number of tasks in each chunk. `calls`: the number of calls of each task, if it
    /// is not one.
    pub(super) fn new(id: u64, sizes: &[u32], terms: Terms, calls: Option<Vec<u32>>) -> Job {
        let mut next = 0;
        let chunks: Vec<_> = sizes
            .iter()
            .map(|size| {
                let chunk = ChunkResults { first: next, next, end: next + size, records: Vec::new() };
                next += size;
                chunk
            })
            .collect();
        let remaining = next as usize;
        let progress = Progress { chunks, complete: 0, remaining, is_queued: false, retried: BTreeMap::new() };
        Job {
            id,
            terms,
            len: next as usize,
            hashes: OnceLock::new(),
            calls_before: calls.map(|calls| {
                let mut sum = 0;
                let sums = calls.iter().map(|calls| {
                    sum += u64::from(*calls);
                    sum
                });
                std::iter::once(0).chain(sums).collect()
            }),
            progress: Mutex::new(progress),
            finished: OnceLock::new(),
            followers: Mutex::default(),
            uncalled: AtomicUsize::new(0),
            spoiled: OnceLock::new(),
            blocks: Mutex::default(),
            span: JobSpan::new(id, next as usize),
        }
    }

    /// A job of no tasks.
    pub(super) fn finished() -> Job {
        let job = Job::new(0, &[], Terms::default(), None);
        let set = job.finished.set(Ok(Vec::new()));
        debug_assert!(set.is_ok(), "a new job is not finished");
        job
    }

    /// Keeps the hash of each argument.
    pub(super) fn set_hashes(&self, hashes: Vec<u64>) {
        let set = self.hashes.set(hashes);
        debug_assert!(set.is_ok(), "a job is submitted once");
    }

    /// The hash of a task's argument.
    pub(super) fn argument_hash(&self, task: u32) -> Option<u64> {
        self.hashes.get()?.get(task as usize).copied()
    }

    /// All its tasks are in the ring, or have been.
    pub(super) fn set_queued(&self) {
        self.progress().is_queued = true;
    }

    pub(super) fn is_queued(&self) -> bool {
        self.progress().is_queued
    }

    /// Enters the result of task `index`. One that is before the next of its chunk is a copy of one
    /// entered before, and is dropped.
    pub(super) fn deliver(&self, chunk: u32, index: u32, tag: u32, payload: &[u8]) -> Entered {
        let mut progress = self.progress();
        let chunk = match progress.place(chunk, index, 1) {
            Ok(chunk) => chunk,
            Err(entered) => return entered,
        };
        let fails = self.terms.fail_fast && tag != tag::VALUE;
        if fails {
            *chunk = ChunkResults { first: index, next: index, end: chunk.end, records: Vec::new() };
        }
        chunk.next += 1;
        record::append(&mut chunk.records, tag, payload);
        let only = fails.then(|| mem::take(chunk));
        progress.remaining -= 1;
        let is_last = progress.remaining == 0;
        if !is_last && only.is_none() {
            progress.advance();
            return Entered::More;
        }
        let chunks = mem::take(&mut progress.chunks);
        match self.finished.set(Ok(only.map_or(chunks, |chunk| vec![chunk]))) {
            Ok(()) if is_last => Entered::Last,
            Ok(()) => Entered::Failed,
            Err(_) => Entered::Stale,
        }
    }

    /// Enters the results of `run`, which all are values, as [`deliver`](Job::deliver) does one by
    /// one. Leaves it empty.
    pub(super) fn deliver_run(&self, chunk: u32, run: &mut Run) -> Entered {
        let count = mem::take(&mut run.count);
        let mut progress = self.progress();
        let chunk = match progress.place(chunk, run.first, count) {
            Ok(chunk) => chunk,
            Err(entered) => {
                run.records.clear();
                return entered;
            }
        };
        chunk.next += count;
        if chunk.records.is_empty() {
            mem::swap(&mut chunk.records, &mut run.records);
        } else {
            chunk.records.append(&mut run.records);
        }
        progress.remaining -= count as usize;
        if progress.remaining > 0 {
            progress.advance();
            return Entered::More;
        }
        let chunks = mem::take(&mut progress.chunks);
        self.finished.set(Ok(chunks)).map_or(Entered::Stale, |()| Entered::Last)
    }

    /// Tasks without a result.
    pub(super) fn remaining(&self) -> usize {
        self.progress().remaining
    }

    /// Calls without a result.
    pub(super) fn remaining_calls(&self) -> u64 {
        let progress = self.progress();
        match &self.calls_before {
            None => progress.remaining as u64,
            Some(_) => {
                let left = |chunk: &ChunkResults| self.calls(chunk.next, chunk.end - chunk.next);
                progress.chunks.iter().map(left).sum()
            }
        }
    }

    /// Returns the number of calls in `count` tasks from `first` on; 0 if the job has no such
    /// tasks.
    pub(super) fn calls(&self, first: u32, count: u32) -> u64 {
        let Some(before) = &self.calls_before else { return count.into() };
        let at = |index: u32| before.get(index as usize).copied();
        at(first).zip(first.checked_add(count).and_then(at)).map_or(0, |(first, end)| end - first)
    }

    /// The index in the job of a task's first call.
    pub(super) fn first_call(&self, task: u32) -> usize {
        self.calls(0, task) as usize
    }

    /// The next task of a chunk that has not been accounted for, if the chunk has any left.
    pub(super) fn next_of(&self, chunk: u32) -> Option<u32> {
        let progress = self.progress();
        let chunk = progress.chunks.get(chunk as usize)?;
        (chunk.next < chunk.end).then_some(chunk.next)
    }

    /// Counts that a task was lost. Returns whether it is to be run again.
    pub(super) fn retry(&self, index: u32) -> bool {
        let mut progress = self.progress();
        let retried = progress.retried.entry(index).or_default();
        *retried += 1;
        *retried <= self.terms.retries
    }

    /// Ends the job without the results that are missing; one that is finished stays as it is.
    pub(super) fn fail(&self, error: &Arc<Error>) -> bool {
        self.finished.set(Err(error.clone())).is_ok()
    }

    /// Returns the error that ended the job without all of its results.
    pub(super) fn early_end(&self) -> Option<&Error> {
        self.finished.get()?.as_ref().err().map(|error| &**error)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.get().is_some()
    }

    /// Returns whether it is finished without the results of all its tasks.
    pub(super) fn is_cut_short(&self) -> bool {
        self.is_finished() && self.remaining() > 0
    }

    /// Returns whether `terminate` gave the job up.
    pub(super) fn is_terminated(&self) -> bool {
        let is_final = |error: &Arc<Error>| matches!(**error, Error::Terminated | Error::Closed { .. });
        self.finished.get().is_some_and(|finished| finished.as_ref().is_err_and(is_final))
    }

    /// Has an error stand for the results, unless one does.
    pub(super) fn spoil(&self, error: Error) {
        let _ = self.spoiled.set(Arc::new(error));
    }

    /// Returns whether the job is finished and its callbacks have run.
    pub(super) fn is_settled(&self) -> bool {
        self.is_finished() && self.uncalled.load(Ordering::SeqCst) == 0
    }

    /// Has `waker` woken when the job is settled.
    pub(super) fn add_waker(&self, waker: &Waker) -> Awaits {
        let wakers = &mut self.followers().wakers;
        if self.is_settled() {
            return Awaits::Finished;
        }
        if wakers.add(waker) { Awaits::First } else { Awaits::Further }
    }

    /// The wakers to be woken, once the job is settled.
    pub(super) fn take_wakers(&self) -> Wakers {
        mem::take(&mut self.followers().wakers)
    }

    pub(super) fn add_callback(&self, callback: JobCallback) {
        self.uncalled.fetch_add(1, Ordering::SeqCst);
        self.followers().callbacks.push_back(callback);
    }

    pub(super) fn next_callback(&self) -> Option<JobCallback> {
        self.followers().callbacks.pop_front()
    }

    /// A callback has come to its end.
    pub(super) fn finish_callback(&self) {
        self.uncalled.fetch_sub(1, Ordering::SeqCst);
    }

    /// Visits every task's result in order, those of a chunk at a time, but for those of the first
    /// `seen` chunks. Of a job that failed early there is only the one.
    ///
    /// # Errors
    ///
    /// The error that ended the job early, or that a callback made of it; `None` while it is not
    /// finished.
    pub(super) fn visit(&self, seen: usize, visitor: impl FnMut(Results<'_>)) -> Option<Result<(), Arc<Error>>> {
        if let Some(error) = self.spoiled.get() {
            return Some(Err(error.clone()));
        }
        match self.finished.get()? {
            Ok(chunks) => chunks[seen..].iter().map(ChunkResults::results).for_each(visitor),
            Err(error) => return Some(Err(error.clone())),
        }
        Some(Ok(()))
    }

    /// Returns whether the job is not finished and enough chunks beyond the first `seen` are
    /// complete that a visit is worth it.
    pub(super) fn has_complete(&self, seen: usize) -> bool {
        /// The most visits of one job: each has the thread that asks take time from the workers.
        const VISITS: usize = 64;
        // Without the lock where nothing can come before the end: who waits asks again and again.
        if self.len < 2 || self.terms.fail_fast {
            return false;
        }
        let progress = self.progress();
        let enough = progress.chunks.len().div_ceil(VISITS);
        // One that is finished has none here.
        enough > 0 && progress.complete - seen >= enough
    }

    /// Visits the results of the chunks beyond the first `seen` that are complete in a job that is
    /// not finished. Returns how many have been seen then.
    pub(super) fn visit_complete(&self, seen: usize, visitor: impl FnMut(Results<'_>)) -> usize {
        // Copied: the visitor is the user's code, and not to run under the lock.
        let complete = {
            let progress = self.progress();
            progress.chunks.get(seen..progress.complete).map_or_else(Vec::new, <[ChunkResults]>::to_vec)
        };
        complete.iter().map(ChunkResults::results).for_each(visitor);
        seen + complete.len()
    }

    /// Returns the results so far of a job that is one chunk, behind the first `seen` bytes.
    pub(super) fn arrived(&self, seen: usize) -> Arrived {
        let progress = self.progress();
        let of_it = |chunks: &[ChunkResults]| {
            Arrived::of(chunks.first().and_then(|chunk| chunk.records.get(seen..)).unwrap_or_default())
        };
        match self.finished.get() {
            Some(Ok(chunks)) => of_it(chunks),
            Some(Err(_)) => Arrived::of(&[]),
            None => of_it(&progress.chunks),
        }
    }

    /// Holds a block of its results; or why it could not be had, if this process has no memory for
    /// it: whoever decodes the result is told.
    pub(super) fn hold_block(&self, place: Place, held: io::Result<Held>) {
        let held = held.map(Arc::new).map_err(|error| (error.kind(), error.to_string()));
        self.blocks().insert((place.area, place.block), held);
    }

    /// A block of its results.
    ///
    /// # Errors
    ///
    /// Why it is not there.
    pub(super) fn block(&self, place: Place) -> io::Result<Arc<Held>> {
        match self.blocks().get(&(place.area, place.block)) {
            Some(Ok(held)) => Ok(held.clone()),
            Some(Err((kind, why))) => Err(io::Error::new(*kind, why.clone())),
            None => Err(not_sent()),
        }
    }

    /// Returns whether the job's results have large buffers.
    pub(super) fn has_blocks(&self) -> bool {
        !self.blocks().is_empty()
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// A waker that wakes nobody, and is the same as its clones.
#[cfg(test)]
pub(super) fn silent_waker() -> Waker {
    struct Silent;
    impl std::task::Wake for Silent {
        fn wake(self: Arc<Self>) {}
    }
    Waker::from(Arc::new(Silent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned((index, tag, payload): (usize, u32, &[u8])) -> (usize, u32, Vec<u8>) {
        (index, tag, payload.to_vec())
    }

    fn results(job: &Job) -> Vec<(usize, u32, Vec<u8>)> {
        let mut seen = Vec::new();
        job.visit(0, |results| seen.extend(results.map(owned))).unwrap().unwrap();
        seen
    }

    #[test]
    fn results_are_in_order_whatever_order_chunks_finish_in() {
        let job = Job::new(1, &[2, 1], Terms::default(), None);
        assert_eq!(job.deliver(1, 2, 0, b"c"), Entered::More);
        assert_eq!(job.deliver(0, 0, 0, b"a"), Entered::More);
        assert!(job.visit(0, |_| ()).is_none());
        assert_eq!(job.deliver(0, 1, 1, b"b"), Entered::Last);
        assert_eq!(results(&job), [(0, 0, b"a".to_vec()), (1, 1, b"b".to_vec()), (2, 0, b"c".to_vec())]);
    }

    #[test]
    fn results_are_seen_as_far_as_they_are_complete_and_each_once() {
        let job = Job::new(1, &[2, 1, 1], Terms::default(), None);
        let mut seen = Vec::new();
        let mut see = |at| job.visit_complete(at, |results| seen.extend(results.map(owned)));
        job.deliver(1, 2, 0, b"c");
        assert!(!job.has_complete(0) && see(0) == 0);
        job.deliver(0, 0, 0, b"a");
        assert!(!job.has_complete(0) && see(0) == 0);
        job.deliver(0, 1, 0, b"b");
        assert!(job.has_complete(0) && see(0) == 2 && !job.has_complete(2) && see(2) == 2);
        assert_eq!(job.deliver(2, 3, 0, b"d"), Entered::Last);
        assert!(!job.has_complete(2) && see(2) == 2);
        job.visit(2, |results| seen.extend(results.map(owned))).unwrap().unwrap();
        assert_eq!(seen, [(0, 0, b"a".to_vec()), (1, 0, b"b".to_vec()), (2, 0, b"c".to_vec()), (3, 0, b"d".to_vec())]);
    }

    #[test]
    fn a_second_copy_of_a_result_is_dropped() {
        let job = Job::new(1, &[2], Terms::default(), None);
        job.deliver(0, 0, 0, b"a");
        assert_eq!(job.next_of(0), Some(1));
        assert_eq!(job.deliver(0, 0, 0, b"again"), Entered::Stale);
        assert_eq!(job.deliver(0, 2, 0, b"beyond"), Entered::Impossible);
        assert_eq!(job.deliver(1, 0, 0, b"elsewhere"), Entered::Impossible);
        assert_eq!(job.deliver(0, 1, 0, b"b"), Entered::Last);
        assert_eq!(job.deliver(0, 2, 0, b"late"), Entered::Stale);
        assert_eq!(results(&job).len(), 2);
        assert_eq!(job.next_of(0), None);
    }

    #[test]
    fn a_job_that_fails_fast_has_its_first_error_alone() {
        let terms = Terms { fail_fast: true, ..Terms::default() };
        let job = Job::new(1, &[3, 2], terms, None);
        assert_eq!(job.deliver(1, 3, tag::VALUE, b"d"), Entered::More);
        assert_eq!(job.deliver(0, 0, tag::VALUE, b"a"), Entered::More);
        assert_eq!(job.deliver(0, 1, tag::PANIC, b"b"), Entered::Failed);
        assert_eq!(job.deliver(1, 4, tag::PANIC, b"e"), Entered::Stale);
        assert_eq!(results(&job), [(1, tag::PANIC, b"b".to_vec())]);
        let last = Job::new(1, &[1], terms, None);
        assert_eq!(last.deliver(0, 0, tag::PANIC, b"a"), Entered::Last, "nothing is left to drop");
    }

    #[test]
    fn a_job_is_awaited_once_however_often_it_is_polled() {
        let job = Job::new(1, &[1], Terms::default(), None);
        let waker = &silent_waker();
        assert_eq!([0; 2].map(|_| job.add_waker(waker)), [Awaits::First, Awaits::Further]);
        let wakers = job.take_wakers();
        assert!(!wakers.is_empty() && wakers.others.is_empty());
        job.deliver(0, 0, 0, b"");
        assert_eq!(job.add_waker(waker), Awaits::Finished);
    }

    #[test]
    fn calls_are_counted_by_what_tasks_are_made_of() {
        let job = Job::new(1, &[1, 1, 1], Terms::default(), Some(vec![4, 4, 2]));
        assert_eq!((job.calls(0, 3), job.calls(1, 1), job.first_call(2), job.remaining_calls()), (10, 4, 8, 10));
        job.deliver(1, 1, 0, b"b");
        assert_eq!((job.remaining_calls(), job.remaining(), job.calls(2, 9)), (6, 2, 0));
    }

    #[test]
    fn a_task_is_run_again_as_often_as_was_asked() {
        let job = Job::new(1, &[2], Terms { retries: 2, ..Terms::default() }, None);
        assert_eq!([0, 0, 1, 0].map(|index| job.retry(index)), [true, true, true, false]);
    }
}
