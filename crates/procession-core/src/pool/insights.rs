//! The use that a pool's workers made of their time, as plain data and as a table. In the parent,
//! in the thread that asks. Measured by the workers (`procession_shm::Meter`), and collected by
//! `meters.rs`.

use std::fmt;
use std::time::Duration;

/// The use that a pool's workers made of their time.
///
/// Printed it is a table.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Insights {
    /// By slot: those that have, or had, a worker.
    pub workers: Vec<WorkerInsights>,
    /// Of all workers together.
    pub total: Times,
    /// The slowest tasks that ended by themselves, five at most, the slowest first.
    pub slowest: Vec<SlowTask>,
}

/// The use that a slot's worker made of its time, with that of the workers which it replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerInsights {
    /// Its number in the pool.
    pub slot: usize,
    /// The number of workers that have been started in the slot.
    pub started: u64,
    /// Tasks that have ended, by a value or an error.
    pub tasks: u64,
    /// The time by its use.
    pub times: Times,
}

/// Time by what it was spent on. A worker's life is the sum.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Times {
    /// From the start of the process until it was ready for tasks, with the initializer.
    pub start_up: Duration,
    /// Waiting for tasks, and taking them.
    pub waiting: Duration,
    /// Running the user's function.
    pub working: Duration,
    /// Decoding arguments, encoding results and passing them on.
    pub pickling: Duration,
}

/// The share of each of the [`Times`] in their sum: numbers from 0 to 1.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
#[non_exhaustive]
pub struct Shares {
    /// Of the start-up.
    pub start_up: f64,
    /// Of waiting.
    pub waiting: f64,
    /// Of working.
    pub working: f64,
    /// Of pickling.
    pub pickling: f64,
}

/// One of the slowest tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SlowTask {
    /// The time in which the user's function ran.
    pub duration: Duration,
    /// The job's id: a handle on the job says the same.
    pub job: u64,
    /// The task's index in the job; `None` if the job was cancelled or failed before this task
    /// ended.
    pub index: Option<usize>,
    /// The slot of its worker.
    pub slot: usize,
    /// The function and its arguments, shortened.
    pub call: String,
}

impl Times {
    /// Returns the sum.
    pub fn total(&self) -> Duration {
        [self.start_up, self.waiting, self.working, self.pickling].into_iter().fold(Duration::ZERO, add)
    }

    /// Returns the share of each in the sum; all 0 if that is 0.
    pub fn shares(&self) -> Shares {
        let total = self.total().as_secs_f64();
        let of = |time: Duration| if total > 0.0 { time.as_secs_f64() / total } else { 0.0 };
        Shares {
            start_up: of(self.start_up),
            waiting: of(self.waiting),
            working: of(self.working),
            pickling: of(self.pickling),
        }
    }

    pub(super) fn plus(&self, other: &Times) -> Times {
        Times {
            start_up: add(self.start_up, other.start_up),
            waiting: add(self.waiting, other.waiting),
            working: add(self.working, other.working),
            pickling: add(self.pickling, other.pickling),
        }
    }
}

fn add(one: Duration, other: Duration) -> Duration {
    one.saturating_add(other)
}

impl fmt::Display for Insights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["worker", "started", "tasks", "start-up", "waiting", "working", "pickling", "seconds"];
        write_row(f, titles.map(str::to_owned))?;
        for WorkerInsights { slot, started, tasks, times } in &self.workers {
            write_times(f, slot.to_string(), *started, *tasks, times)?;
        }
        let sum = |of: fn(&WorkerInsights) -> u64| self.workers.iter().map(of).fold(0, u64::saturating_add);
        write_times(f, "all".into(), sum(|worker| worker.started), sum(|worker| worker.tasks), &self.total)?;
        if !self.slowest.is_empty() {
            write!(f, "\n\nslowest tasks, in seconds")?;
        }
        for SlowTask { duration, job, index, call, .. } in &self.slowest {
            write!(f, "\n{:>10.6}  {call}", duration.as_secs_f64())?;
            match index {
                Some(index) => write!(f, ", item {index} of job {job}")?,
                None => write!(f, ", of job {job}")?,
            }
        }
        Ok(())
    }
}

fn write_times(f: &mut fmt::Formatter<'_>, name: String, started: u64, tasks: u64, times: &Times) -> fmt::Result {
    let shares = times.shares();
    let [start_up, waiting, working, pickling] = [shares.start_up, shares.waiting, shares.working, shares.pickling]
        .map(|share| format!("{:.1}%", share * 100.0));
    let seconds = format!("{:.3}", times.total().as_secs_f64());
    f.write_str("\n")?;
    write_row(f, [name, started.to_string(), tasks.to_string(), start_up, waiting, working, pickling, seconds])
}

fn write_row(f: &mut fmt::Formatter<'_>, cells: [String; 8]) -> fmt::Result {
    let row: Vec<String> = cells.iter().map(|cell| format!("{cell:>8}")).collect();
    f.write_str(row.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_line_for_each_worker_and_slow_task() {
        let ms = Duration::from_millis;
        let times = Times { start_up: ms(100), waiting: ms(200), working: ms(600), pickling: ms(100) };
        let worker = WorkerInsights { slot: 0, started: 1, tasks: 5, times };
        let slow = |index| SlowTask { duration: ms(1500), job: 3, index, slot: 0, call: "load(7)".into() };
        let insights = Insights { workers: vec![worker], total: times, slowest: vec![slow(Some(7)), slow(None)] };
        let lines = [
            "  worker   started     tasks  start-up   waiting   working  pickling   seconds",
            "       0         1         5     10.0%     20.0%     60.0%     10.0%     1.000",
            "     all         1         5     10.0%     20.0%     60.0%     10.0%     1.000",
            "",
            "slowest tasks, in seconds",
            "  1.500000  load(7), item 7 of job 3",
            "  1.500000  load(7), of job 3",
        ];
        assert_eq!(insights.to_string(), lines.join("\n"));
    }

    #[test]
    fn worker_without_any_time_has_no_shares() {
        assert_eq!(Times::default().shares(), Shares::default());
    }
}
