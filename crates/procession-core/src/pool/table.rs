//! The table of a pool's jobs. Lives in the parent: whoever submits a job enters it, whoever takes
//! its last result removes it, and whoever finds a job's id in a frame or in a result looks it up.
//!
//! The effects of a job's end are returned ([`Ended`]), and applied under no lock by
//! [`Shared::end_job`](super::shared::Shared).

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::job::{Awaits, Entered, Job, Terms, Wakers};
use super::job_spans::JobSpans;
use super::results::Run;
use crate::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    jobs: Mutex<Jobs>,
    /// The number of jobs that are not finished: the table's own count, readable without its lock.
    outstanding: AtomicUsize,
    /// Jobs that futures await, and callbacks that have not run.
    awaited: AtomicUsize,
    spans: JobSpans,
}

/// A job that has just been finished, and is to be [ended](super::shared::Shared::end_job) by
/// whoever was told.
#[derive(Debug)]
#[must_use]
pub(super) struct Ended {
    pub(super) job: Arc<Job>,
    /// Tasks of the job may still be queued, and are not to begin.
    pub(super) has_tasks: bool,
}

/// The effect of a result that has arrived.
#[derive(Debug)]
#[must_use]
pub(super) enum Delivery {
    /// Nothing: it is a copy of one that came before, or the job is over.
    Stale,
    /// No worker has such a task.
    Impossible,
    /// It is entered, and more are to come.
    Entered,
    /// It has finished the job.
    Finished(Ended),
}

impl Delivery {
    /// Returns whether the result is one of the job's.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self, Delivery::Entered | Delivery::Finished(_))
    }
}

impl Table {
    /// A table without jobs. `has_records`: what workers log is delivered in the spans of jobs.
    pub(super) fn new(has_records: bool) -> Table {
        Table {
            jobs: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            awaited: AtomicUsize::new(0),
            spans: JobSpans::new(has_records),
        }
    }

    /// The spans of its jobs, for what workers log.
    pub(super) fn spans(&self) -> &JobSpans {
        &self.spans
    }

    /// Enters a job, if `check` has nothing against it now that nobody can close the pool
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// Those of `check`.
    pub(super) fn enter(
        &self,
        sizes: &[u32],
        terms: Terms,
        calls: Option<Vec<u32>>,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<Arc<Job>> {
        let mut jobs = self.jobs();
        check()?;
        let job = jobs.add(sizes, terms, calls);
        self.outstanding.store(jobs.live, Ordering::SeqCst);
        Ok(job)
    }

    /// Runs `act` while no job is entered; it is told how many there are.
    pub(super) fn locked<R>(&self, act: impl FnOnce(usize) -> R) -> R {
        let jobs = self.jobs();
        act(jobs.live)
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Job>> {
        self.jobs().get(id)
    }

    /// Returns the number of jobs that are not finished.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::SeqCst)
    }

    /// Calls without a result.
    pub(super) fn remaining_calls(&self) -> u64 {
        self.jobs().iter().map(|job| job.remaining_calls()).sum()
    }

    /// The jobs whose tasks have all been in the ring.
    pub(super) fn queued(&self) -> Vec<Arc<Job>> {
        self.jobs().iter().filter(|job| job.is_queued()).cloned().collect()
    }

    /// Enters the result of task `index`.
    pub(super) fn deliver(&self, job: &Arc<Job>, chunk: u32, index: u32, tag: u32, payload: &[u8]) -> Delivery {
        self.conclude(job, job.deliver(chunk, index, tag, payload))
    }

    /// Enters the results of `run`, which all are values. Leaves it empty.
    pub(super) fn deliver_run(&self, job: &Arc<Job>, chunk: u32, run: &mut Run) -> Delivery {
        self.conclude(job, job.deliver_run(chunk, run))
    }

    /// Ends a job without the results that are missing; `None` if it is finished already.
    pub(super) fn fail(&self, job: &Arc<Job>, error: Error) -> Option<Ended> {
        let has_failed = job.fail(&Arc::new(error));
        has_failed.then(|| self.remove(job, true))
    }

    /// Takes a job off the table whose tasks could not all be queued.
    pub(super) fn withdraw(&self, job: &Arc<Job>) -> Ended {
        self.remove(job, true)
    }

    /// Ends every job that is not finished. Their queued tasks are to be left in the ring.
    pub(super) fn fail_all(&self, error: &Arc<Error>) -> Vec<Ended> {
        let jobs = {
            let mut jobs = self.jobs();
            let drained = jobs.drain();
            self.outstanding.store(jobs.live, Ordering::SeqCst);
            drained
        };
        let end = |job: Arc<Job>| {
            job.fail(error);
            Ended { job, has_tasks: false }
        };
        jobs.into_iter().map(end).collect()
    }

    fn conclude(&self, job: &Arc<Job>, entered: Entered) -> Delivery {
        match entered {
            Entered::Stale => Delivery::Stale,
            Entered::Impossible => Delivery::Impossible,
            Entered::More => Delivery::Entered,
            Entered::Last => Delivery::Finished(self.remove(job, false)),
            Entered::Failed => Delivery::Finished(self.remove(job, true)),
        }
    }

    fn remove(&self, job: &Arc<Job>, has_tasks: bool) -> Ended {
        let mut jobs = self.jobs();
        jobs.remove(job.id);
        self.outstanding.store(jobs.live, Ordering::SeqCst);
        Ended { job: job.clone(), has_tasks }
    }

    /// Returns whether a future awaits a job, or a callback has not run.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    /// Has `waker` woken when the job is settled.
    pub(super) fn add_waker(&self, job: &Job, waker: &Waker) -> Awaits {
        // Counted before the look at the job; whoever finishes it looks at the count after. One of
        // the two sees the other.
        self.awaited.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let awaits = job.add_waker(waker);
        if awaits != Awaits::First {
            self.awaited.fetch_sub(1, Ordering::SeqCst);
        }
        awaits
    }

    /// The wakers of a job, once it is settled. They are a runtime's code, to be called under no
    /// lock.
    pub(super) fn take_wakers(&self, job: &Job) -> Wakers {
        if !job.is_settled() {
            return Wakers::default();
        }
        fence(Ordering::SeqCst);
        if !self.is_awaited() {
            return Wakers::default();
        }
        let wakers = job.take_wakers();
        if !wakers.is_empty() {
            self.awaited.fetch_sub(1, Ordering::SeqCst);
        }
        wakers
    }

    /// Counts a callback, before its job has it.
    pub(super) fn expect_callback(&self) {
        self.awaited.fetch_add(1, Ordering::SeqCst);
    }

    /// A callback has come to its end.
    pub(super) fn finish_callback(&self, job: &Job) {
        job.finish_callback();
        self.awaited.fetch_sub(1, Ordering::SeqCst);
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The jobs that are not finished, by id. An id is used once: its upper half is the use of its
/// lower half.
#[derive(Debug, Default)]
struct Jobs {
    places: Vec<(u32, Option<Arc<Job>>)>,
    free: Vec<u32>,
    live: usize,
}

impl Jobs {
    fn add(&mut self, sizes: &[u32], terms: Terms, calls: Option<Vec<u32>>) -> Arc<Job> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 jobs at once")
        });
        let (uses, job) = &mut self.places[place as usize];
        // No job has the id 0.
        *uses = uses.wrapping_add(1).max(1);
        let new = Arc::new(Job::new(u64::from(*uses) << 32 | u64::from(place), sizes, terms, calls));
        *job = Some(new.clone());
        self.live += 1;
        new
    }

    fn get(&self, id: u64) -> Option<Arc<Job>> {
        let (_, job) = self.places.get(id as u32 as usize)?;
        job.as_ref().filter(|job| job.id == id).cloned()
    }

    fn remove(&mut self, id: u64) {
        let place = id as u32;
        let Some((_, job)) = self.places.get_mut(place as usize) else { return };
        if job.as_ref().is_some_and(|job| job.id == id) {
            *job = None;
            self.free.push(place);
            self.live -= 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.places.iter().filter_map(|(_, job)| job.as_ref())
    }

    fn drain(&mut self) -> Vec<Arc<Job>> {
        let jobs: Vec<_> = self.places.iter().filter_map(|(_, job)| job.clone()).collect();
        jobs.iter().for_each(|job| self.remove(job.id));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tag;

    impl Table {
        fn add(&self, sizes: &[u32], terms: Terms, calls: Option<Vec<u32>>) -> Arc<Job> {
            self.enter(sizes, terms, calls, || Ok(())).expect("nothing is against it")
        }
    }

    #[test]
    fn an_id_is_never_used_twice() {
        let table = Table::new(false);
        let first = table.add(&[1], Terms::default(), None);
        let _ = table.withdraw(&first);
        let second = table.add(&[1], Terms::default(), None);
        assert_ne!(first.id, second.id);
        assert!(table.get(first.id).is_none() && table.get(second.id).is_some());
        let _ = table.withdraw(&first);
        assert_eq!(table.outstanding(), 1);
    }

    #[test]
    fn the_last_result_ends_a_job_and_takes_it_off_the_table() {
        let table = Table::new(false);
        let job = table.add(&[2], Terms::default(), None);
        assert!(matches!(table.deliver(&job, 0, 0, tag::VALUE, b"a"), Delivery::Entered));
        assert_eq!((table.remaining_calls(), table.outstanding()), (1, 1));
        let Delivery::Finished(ended) = table.deliver(&job, 0, 1, tag::VALUE, b"b") else { panic!("it was the last") };
        assert!(!ended.has_tasks && ended.job.is_finished());
        assert!(table.get(job.id).is_none() && table.outstanding() == 0);
        assert!(matches!(table.deliver(&job, 0, 1, tag::VALUE, b"b"), Delivery::Stale));
    }

    #[test]
    fn a_job_that_fails_fast_leaves_tasks() {
        let table = Table::new(false);
        let job = table.add(&[2], Terms { fail_fast: true, ..Terms::default() }, None);
        let Delivery::Finished(ended) = table.deliver(&job, 0, 0, tag::PANIC, b"a") else { panic!("it has failed") };
        assert!(ended.has_tasks);
        assert!(table.fail(&job, Error::Cancelled).is_none(), "it is over");
    }

    #[test]
    fn all_jobs_fail_at_once_and_each_once() {
        let table = Table::new(false);
        let jobs = [1, 2].map(|size| table.add(&[size], Terms::default(), None));
        assert_eq!(table.fail_all(&Arc::new(Error::Terminated)).len(), 2);
        assert!(jobs.iter().all(|job| job.is_terminated()) && table.outstanding() == 0);
        assert!(table.fail_all(&Arc::new(Error::Terminated)).is_empty());
    }

    #[test]
    fn a_table_is_awaited_until_wakers_are_taken_and_callbacks_have_run() {
        let table = Table::new(false);
        let job = table.add(&[1], Terms::default(), None);
        let waker = &crate::pool::job::silent_waker();
        assert_eq!([(); 2].map(|()| table.add_waker(&job, waker)), [Awaits::First, Awaits::Further]);
        table.expect_callback();
        job.add_callback(Box::new(|| None));
        let Delivery::Finished(_ended) = table.deliver(&job, 0, 0, tag::VALUE, b"") else { panic!("it was the last") };
        assert!(table.take_wakers(&job).is_empty(), "its callback has not run");
        table.finish_callback(&job);
        assert!(!table.take_wakers(&job).is_empty());
        assert!(!table.is_awaited());
        assert_eq!(table.add_waker(&job, waker), Awaits::Finished);
    }
}
