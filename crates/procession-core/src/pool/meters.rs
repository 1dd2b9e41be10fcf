//! The parent's sums of its workers' meters. In the parent, in any thread.
//!
//! A slot's words in shared memory count for one worker. When that has ended, however it did, the
//! pool's thread adds them to the slot's sums here, which survive every replacement and no worker
//! can reach. The phase in which the worker ended counts up to its end.
//!
//! A slow call is collected when its job ends, which still knows by then which of the user's items
//! the call is, and when its worker ends, and when somebody asks.
//!
//! A worker's words may say anything. Its times are cut to the life that the parent has seen, so
//! that no sum overflows.

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_shm::{Control, KEPT, MeterReading, Phase, SlowCall};

use super::insights::{Insights, SlowTask, Times, WorkerInsights};
use crate::observe::monotonic_nanos;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Meters(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By slot.
    slots: Vec<SlotTimes>,
    /// The slowest first.
    slowest: Vec<Collected>,
}

#[derive(Clone, Copy, Default, Debug)]
struct SlotTimes {
    /// When its worker was started; `None`: it has none.
    started_at: Option<u64>,
    started: u64,
    /// Of the workers that have ended.
    tasks: u64,
    times: Times,
}

/// A slow call, and where it was found: the same is found again and again.
#[derive(Debug)]
struct Collected {
    slot: usize,
    call: SlowCall,
    index: Option<usize>,
}

impl Meters {
    /// Notes that a worker is about to be started in a slot, unless that is noted already.
    pub(super) fn begin(&self, control: &Control, slot: usize) {
        let mut known = self.known();
        if known.slots.len() <= slot {
            known.slots.resize(slot + 1, SlotTimes::default());
        }
        let times = &mut known.slots[slot];
        if times.started_at.is_none() {
            control.reset_meter(slot);
            times.started_at = Some(monotonic_nanos());
            times.started += 1;
        }
    }

    /// Notes that the worker could not be started.
    pub(super) fn withdraw(&self, slot: usize) {
        if let Some(times) = self.known().slots.get_mut(slot)
            && times.started_at.take().is_some()
        {
            times.started -= 1;
        }
    }

    /// Notes that the worker of a slot has ended, once its slow calls are
    /// [collected](Meters::collect).
    pub(super) fn end(&self, control: &Control, slot: usize) {
        if let Some(times) = self.known().slots.get_mut(slot) {
            let (tasks, sums) = times.until(control, slot, monotonic_nanos());
            *times = SlotTimes { started_at: None, tasks, times: sums, ..*times };
        }
    }

    /// Takes the slow calls of these slots that are wanted by their job, and are among the slowest.
    /// `index_of` says which of the user's items a call is.
    pub(super) fn collect(
        &self,
        control: &Control,
        slots: impl Iterator<Item = usize>,
        is_wanted: impl Fn(u64) -> bool,
        index_of: impl Fn(&SlowCall) -> Option<usize>,
    ) {
        let mut known = self.known();
        let Known { slots: times, slowest } = &mut *known;
        for slot in slots {
            // A worker that has just been started in the slot has none yet, and a dead one no more.
            let Some(started_at) = times.get(slot).and_then(|times| times.started_at) else { continue };
            let life = monotonic_nanos().saturating_sub(started_at);
            let least = if slowest.len() < KEPT { 0 } else { slowest.last().map_or(0, |last| last.call.nanos) };
            let found = control.slowest_calls(slot, |nanos, job| nanos <= life && nanos >= least && is_wanted(job));
            for call in found {
                if !slowest.iter().any(|known| known.slot == slot && known.call == call) {
                    slowest.push(Collected { slot, index: index_of(&call), call });
                }
            }
            slowest.sort_by_key(|one| (Reverse(one.call.nanos), one.call.job, one.index));
            slowest.truncate(KEPT);
        }
    }

    pub(super) fn show(&self, control: &Control) -> Insights {
        let (known, now) = (self.known(), monotonic_nanos());
        let used = known.slots.iter().enumerate().filter(|(_, slot)| slot.started > 0);
        let workers: Vec<_> = used
            .map(|(slot, known)| {
                let (tasks, times) = known.until(control, slot, now);
                WorkerInsights { slot, started: known.started, tasks, times }
            })
            .collect();
        let total = workers.iter().fold(Times::default(), |sum, worker| sum.plus(&worker.times));
        let slow = |Collected { slot, call, index }: &Collected| SlowTask {
            duration: Duration::from_nanos(call.nanos),
            job: call.job,
            index: *index,
            slot: *slot,
            call: call.text.clone(),
        };
        Insights { workers, total, slowest: known.slowest.iter().map(slow).collect() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTimes {
    /// The tasks and times until now, with those of the worker that there is.
    fn until(&self, control: &Control, slot: usize, now: u64) -> (u64, Times) {
        match self.started_at.and_then(|at| control.read_meter(slot).map(|reading| (at, reading))) {
            Some((at, reading)) => {
                (self.tasks.saturating_add(reading.calls), self.times.plus(&times_of(&reading, at, now)))
            }
            None => (self.tasks, self.times),
        }
    }
}

/// The times of a worker that was started then, as far as they can be true. What is left of its
/// life is the phase that is not over.
fn times_of(reading: &MeterReading, started_at: u64, now: u64) -> Times {
    let mut left = now.saturating_sub(started_at);
    let mut cut = |nanos: u64| {
        let nanos = nanos.min(left);
        left -= nanos;
        nanos
    };
    let start_up = cut(reading.ready_at.map_or(u64::MAX, |at| at.saturating_sub(started_at)));
    let [waiting, working, pickling] = reading.spent.map(cut);
    let mut nanos = [start_up, waiting, working, pickling];
    match reading.phase {
        Some(Phase::Over) | None => {}
        Some(phase) => nanos[phase as usize] += left,
    }
    let [start_up, waiting, working, pickling] = nanos.map(Duration::from_nanos);
    Times { start_up, waiting, working, pickling }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: MeterReading =
        MeterReading { ready_at: Some(110), phase: Some(Phase::Working), spent: [20, 30, 40], calls: 3 };

    fn nanos(times: Times) -> [u128; 4] {
        [times.start_up, times.waiting, times.working, times.pickling].map(|time| time.as_nanos())
    }

    #[test]
    fn phase_that_is_not_over_is_the_rest_of_a_workers_life() {
        assert_eq!(nanos(times_of(&READING, 100, 1100)), [10, 20, 930, 40]);
        let over = MeterReading { phase: Some(Phase::Over), ..READING };
        assert_eq!(nanos(times_of(&over, 100, 1100)), [10, 20, 30, 40]);
        let starting = MeterReading { ready_at: None, phase: Some(Phase::StartUp), spent: [0; 3], calls: 0 };
        assert_eq!(nanos(times_of(&starting, 100, 1100)), [1000, 0, 0, 0]);
    }

    #[test]
    fn times_that_no_worker_can_have_are_cut_to_its_life() {
        for word in [u64::MAX, u64::MAX / 2, 1 << 40] {
            let reading = MeterReading { ready_at: Some(word), phase: None, spent: [word; 3], calls: word };
            assert_eq!(times_of(&reading, 100, 1100).total(), Duration::from_nanos(1000));
        }
        let early = MeterReading { ready_at: Some(1), ..READING };
        assert_eq!(nanos(times_of(&early, 100, 1100)), [0, 20, 940, 40]);
        assert_eq!(times_of(&READING, 100, 50).total(), Duration::ZERO);
    }

    #[test]
    fn sums_of_a_slot_survive_its_workers() {
        let (meters, control) = (Meters::default(), Control::measured(2, 2).unwrap());
        for life in 1..=3 {
            meters.begin(&control, 1);
            meters.begin(&control, 1);
            let meter = control.meter(1, monotonic_nanos).unwrap();
            meter.set_ready();
            meter.begin_task(life, 0);
            meter.begin_call();
            let nanos = meter.end_call().unwrap();
            meter.keep_call(nanos, "f()");
            meters.collect(&control, 0..2, |_| true, |call| Some(call.task as usize));
            meters.end(&control, 1);
            meters.end(&control, 1);
        }
        meters.begin(&control, 0);
        meters.withdraw(0);
        let insights = meters.show(&control);
        let [worker] = &insights.workers[..] else { panic!("{insights:?}") };
        assert_eq!((worker.slot, worker.started, worker.tasks), (1, 3, 3));
        let mut jobs: Vec<_> = insights.slowest.iter().map(|slow| (slow.job, slow.index)).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, [(1, Some(0)), (2, Some(0)), (3, Some(0))]);
        assert_eq!(insights.total, worker.times);
    }
}
