//! The spans and events of a pool for `tracing`, with the feature of that name. Without it
//! everything here is empty and nothing is left.
//!
//! | | level | told by |
//! |---|---|---|
//! | span `job`, with `id` and `tasks`; in it the events `submitted` and `finished` | debug | the parent |
//! | span `task`, with `job`, `index` and `pid`, around the function | debug | the worker |
//! | events `worker started`, `worker replaced`, `worker ended` | debug | the parent |
//! | event `worker lost`, with its exit `code` | warn | the parent |
//! | event `worker ready` | debug | the worker |
//!
//! A subscriber is the program's code. In the parent it is called under none of the pool's locks.
//! While a thread of the engine's calls it, a fork is refused.

#[cfg(feature = "tracing")]
pub(super) use told::*;
#[cfg(not(feature = "tracing"))]
pub(super) use untold::*;

#[cfg(feature = "tracing")]
mod told {
    use procession_sys::pidfd::current_pid;
    use procession_sys::thread::as_program_thread;
    use tracing::span::EnteredSpan;
    use tracing::{Level, Span, debug, debug_span, enabled, warn};

    use crate::Error;

    const TARGET: &str = "procession::pool";

    /// A job's span, from its submission until it is finished and nobody has it any more.
    #[derive(Clone, Debug)]
    pub(in crate::pool) struct JobSpan(Span);

    impl JobSpan {
        pub(in crate::pool) fn new(id: u64, tasks: usize) -> JobSpan {
            let span = debug_span!(target: TARGET, "job", id, tasks);
            // If nobody wants this span, the job's events belong to its caller's.
            JobSpan(if span.is_disabled() { Span::current() } else { span })
        }

        /// Runs code in the span.
        pub(in crate::pool) fn within(&self, act: &mut dyn FnMut()) {
            let _span = self.0.enter();
            act();
        }
    }

    /// `error`: what ended the job without all of its results.
    pub(in crate::pool) fn finished(id: u64, span: &JobSpan, error: Option<&Error>) {
        told(|| {
            let _span = span.0.enter();
            match error {
                Some(error) => debug!(target: TARGET, job = id, %error, "finished"),
                None => debug!(target: TARGET, job = id, "finished"),
            }
        });
    }

    pub(in crate::pool) fn started(pid: u32, slot: usize, is_replacement: bool) {
        told(|| {
            if is_replacement {
                debug!(target: TARGET, worker = pid, slot, "worker replaced");
            } else {
                debug!(target: TARGET, worker = pid, slot, "worker started");
            }
        });
    }

    pub(in crate::pool) fn ended(pid: u32, slot: usize, code: Option<i32>, is_lost: bool) {
        told(|| {
            if is_lost {
                warn!(target: TARGET, worker = pid, slot, code, "worker lost");
            } else {
                debug!(target: TARGET, worker = pid, slot, "worker ended");
            }
        });
    }

    fn told(tell: impl FnOnce()) {
        if enabled!(target: TARGET, Level::WARN) {
            as_program_thread(tell);
        }
    }

    pub(in crate::pool) fn submitted(id: u64, span: &JobSpan) {
        let _span = span.0.enter();
        debug!(target: TARGET, job = id, "submitted");
    }

    pub(in crate::pool) fn ready(slot: u32) {
        debug!(target: TARGET, worker = current_pid(), slot, "worker ready");
    }

    // A subscriber that forwards a worker's events finds the job by this span's name and its field
    // `job`.
    pub(in crate::pool) fn task(job: u64, index: u32) -> EnteredSpan {
        debug_span!(target: TARGET, "task", job, index, pid = current_pid()).entered()
    }
}

#[cfg(not(feature = "tracing"))]
mod untold {
    use crate::Error;

    #[derive(Clone, Debug)]
    pub(in crate::pool) struct JobSpan;

    impl JobSpan {
        pub(in crate::pool) fn new(_id: u64, _tasks: usize) -> JobSpan {
            JobSpan
        }

        pub(in crate::pool) fn within(&self, act: &mut dyn FnMut()) {
            act();
        }
    }

    pub(in crate::pool) fn finished(_id: u64, _span: &JobSpan, _error: Option<&Error>) {}

    pub(in crate::pool) fn started(_pid: u32, _slot: usize, _is_replacement: bool) {}

    pub(in crate::pool) fn ended(_pid: u32, _slot: usize, _code: Option<i32>, _is_lost: bool) {}

    pub(in crate::pool) fn submitted(_id: u64, _span: &JobSpan) {}

    pub(in crate::pool) fn ready(_slot: u32) {}

    /// Stands where a span would be entered.
    pub(in crate::pool) struct Untold;

    pub(in crate::pool) fn task(_job: u64, _index: u32) -> Untold {
        Untold
    }
}
