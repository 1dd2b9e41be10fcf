//! The use that a pool's workers made of their time, as `procession._insights` gets it: plain
//! values in the order of its dataclasses' fields. In the parent.

use procession_core::pool::{Insights, SlowTask, Times, WorkerInsights};
use pyo3::prelude::*;

/// Seconds of start-up, waiting, working and pickling.
type Seconds = (f64, f64, f64, f64);

/// See the module.
#[derive(IntoPyObject)]
pub(super) struct Measured(Vec<Worker>, Seconds, Vec<Slow>, String);

/// Slot, workers started, tasks, times.
type Worker = (usize, u64, u64, Seconds);
/// Seconds, job, index, slot, call.
type Slow = (f64, u64, Option<usize>, usize, String);

impl From<Insights> for Measured {
    fn from(insights: Insights) -> Measured {
        let table = insights.to_string();
        let worker = |one: WorkerInsights| (one.slot, one.started, one.tasks, seconds(&one.times));
        let slow = |one: SlowTask| (one.duration.as_secs_f64(), one.job, one.index, one.slot, one.call);
        let total = seconds(&insights.total);
        let workers = insights.workers.into_iter().map(worker).collect();
        Measured(workers, total, insights.slowest.into_iter().map(slow).collect(), table)
    }
}

fn seconds(times: &Times) -> Seconds {
    let of = |time: std::time::Duration| time.as_secs_f64();
    (of(times.start_up), of(times.waiting), of(times.working), of(times.pickling))
}
