//! The spans of jobs, for the records of their tasks. They are kept for a while after a job's end,
//! as records may still come. Written in the threads that submit and end jobs, read in the thread
//! that delivers records.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::Job;
use super::trace::JobSpan;

/// A span is kept for so long after its job's end.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module. Stays empty in a pool whose workers send no records.
#[derive(Debug)]
pub(super) struct JobSpans {
    has_records: bool,
    /// By the number of the job.
    spans: Mutex<HashMap<u64, Kept>>,
}

#[derive(Debug)]
struct Kept {
    span: JobSpan,
    ended: Option<Instant>,
}

impl JobSpans {
    pub(super) fn new(has_records: bool) -> JobSpans {
        JobSpans { has_records, spans: Mutex::default() }
    }

    /// Keeps the span of a job that is about to be queued.
    pub(super) fn keep(&self, job: &Job) {
        if self.has_records {
            self.spans().insert(job.id, Kept { span: job.span.clone(), ended: None });
        }
    }

    /// Notes that a job has ended.
    pub(super) fn end(&self, job: &Job) {
        if self.has_records
            && let Some(kept) = self.spans().get_mut(&job.id)
        {
            kept.ended = Some(Instant::now());
        }
    }

    /// Returns the span of a job that runs or has just ended.
    pub(super) fn find(&self, job: u64) -> Option<JobSpan> {
        self.spans().get(&job).map(|kept| kept.span.clone())
    }

    /// Drops the spans of jobs that ended a while ago.
    pub(super) fn drop_old(&self) {
        if !self.has_records {
            return;
        }
        let is_old = |kept: &Kept| kept.ended.is_some_and(|ended| ended.elapsed() >= RECORDS_TIMEOUT);
        let old: Vec<_> = self.spans().extract_if(|_, kept| is_old(kept)).collect();
        // Under no lock, because a subscriber's code runs.
        drop(old);
    }

    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Kept>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
