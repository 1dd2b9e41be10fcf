//! What a pool tells `tracing`, with the feature of that name; without it everything here is empty and nothing is left.
//!
//! | | level | told by |
//! |---|---|---|
//! | span `job`, with `id` and `tasks`; in it the events `submitted` and `finished` | debug | the parent |
//! | span `task`, with `job`, `index` and `pid`, around the function | debug | the worker |
//! | events `worker started`, `worker replaced`, `worker ended` | debug | the parent |
//! | event `worker lost`, with its exit `code` | warn | the parent |
//! | event `worker ready` | debug | the worker |
//!
//! A subscriber is the program's code. In the parent it is called under none of the pool's locks: what happens under one is
//! noted, and told when it is free. Where that is in a thread of the engine's, a fork is refused meanwhile.

#[cfg(feature = "tracing")]
pub(super) use told::*;
#[cfg(not(feature = "tracing"))]
pub(super) use untold::*;

#[cfg(feature = "tracing")]
mod told {
    use std::sync::{Arc, Mutex, PoisonError};

    use procession_sys::pidfd::current_pid;
    use procession_sys::thread::as_program_thread;
    use tracing::span::EnteredSpan;
    use tracing::{Level, Span, debug, debug_span, enabled, warn};

    use crate::pool::job::Job;

    const TARGET: &str = "procession::pool";

    /// A job's span, from its submission until it is finished and nobody has it any more.
    #[derive(Debug)]
    pub(in crate::pool) struct JobSpan(Span);

    impl JobSpan {
        pub(in crate::pool) fn new(id: u64, tasks: usize) -> JobSpan {
            JobSpan(debug_span!(target: TARGET, "job", id, tasks))
        }
    }

    /// What happened under a lock and is still to be told.
    #[derive(Debug, Default)]
    pub(in crate::pool) struct Notes(Mutex<Vec<Note>>);

    #[derive(Debug)]
    enum Note {
        Finished(Arc<Job>),
        Started { pid: u32, slot: usize, is_replacement: bool },
        Ended { pid: u32, slot: usize },
        Lost { pid: u32, slot: usize, code: Option<i32> },
    }

    impl Notes {
        pub(in crate::pool) fn finished(&self, job: &Arc<Job>) {
            self.add(|| Note::Finished(job.clone()));
        }

        pub(in crate::pool) fn started(&self, pid: u32, slot: usize, is_replacement: bool) {
            self.add(|| Note::Started { pid, slot, is_replacement });
        }

        pub(in crate::pool) fn ended(&self, pid: u32, slot: usize, code: Option<i32>, is_lost: bool) {
            self.add(|| if is_lost { Note::Lost { pid, slot, code } } else { Note::Ended { pid, slot } });
        }

        /// Tells what has been noted. Under no lock.
        pub(in crate::pool) fn tell(&self) {
            let notes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            if !notes.is_empty() {
                as_program_thread(|| notes.into_iter().for_each(Note::tell));
            }
        }

        fn add(&self, note: impl FnOnce() -> Note) {
            if enabled!(target: TARGET, Level::WARN) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note());
            }
        }
    }

    impl Note {
        fn tell(self) {
            match self {
                Note::Finished(job) => {
                    let _span = job.span.0.enter();
                    match job.early_end() {
                        Some(error) => debug!(target: TARGET, job = job.id, %error, "finished"),
                        None => debug!(target: TARGET, job = job.id, "finished"),
                    }
                }
                Note::Started { pid, slot, is_replacement: true } => {
                    debug!(target: TARGET, worker = pid, slot, "worker replaced");
                }
                Note::Started { pid, slot, .. } => debug!(target: TARGET, worker = pid, slot, "worker started"),
                Note::Ended { pid, slot } => debug!(target: TARGET, worker = pid, slot, "worker ended"),
                Note::Lost { pid, slot, code } => warn!(target: TARGET, worker = pid, slot, code, "worker lost"),
            }
        }
    }

    pub(in crate::pool) fn submitted(job: &Job) {
        let _span = job.span.0.enter();
        debug!(target: TARGET, job = job.id, "submitted");
    }

    pub(in crate::pool) fn ready(slot: u32) {
        debug!(target: TARGET, worker = current_pid(), slot, "worker ready");
    }

    pub(in crate::pool) fn task(job: u64, index: u32) -> EnteredSpan {
        debug_span!(target: TARGET, "task", job, index, pid = current_pid()).entered()
    }
}

#[cfg(not(feature = "tracing"))]
mod untold {
    use std::sync::Arc;

    use crate::pool::job::Job;

    #[derive(Debug)]
    pub(in crate::pool) struct JobSpan;

    impl JobSpan {
        pub(in crate::pool) fn new(_id: u64, _tasks: usize) -> JobSpan {
            JobSpan
        }
    }

    #[derive(Debug, Default)]
    pub(in crate::pool) struct Notes(());

    impl Notes {
        pub(in crate::pool) fn finished(&self, _job: &Arc<Job>) {}

        pub(in crate::pool) fn started(&self, _pid: u32, _slot: usize, _is_replacement: bool) {}

        pub(in crate::pool) fn ended(&self, _pid: u32, _slot: usize, _code: Option<i32>, _is_lost: bool) {}

        pub(in crate::pool) fn tell(&self) {}
    }

    pub(in crate::pool) fn submitted(job: &Job) {
        let JobSpan = job.span;
    }

    pub(in crate::pool) fn ready(_slot: u32) {}

    /// Stands where a span would be entered.
    pub(in crate::pool) struct Untold;

    pub(in crate::pool) fn task(_job: u64, _index: u32) -> Untold {
        Untold
    }
}
