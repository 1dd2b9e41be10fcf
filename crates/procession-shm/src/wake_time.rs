//! Measures how long it takes to wake a sleeper: from the waker's call to the sleeper's first
//! instruction. Runs once in a process that makes pools, beside a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procession_sys::futex;
use procession_sys::thread::spawn_engine_thread;

/// So many wakes are measured, and the shortest counts: others met with other work.
const WAKES: u32 = 4;
/// The time that the sleeper has to fall asleep before it is woken.
const NAP: Duration = Duration::from_micros(20);
/// After this long it is given up.
const LONGEST: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Bed {
    /// The number of calls. The sleeper sleeps while it is the number that it has answered.
    calls: AtomicU32,
    answers: AtomicU32,
}

/// Returns how long a wake takes, or `None` if that was not to be found out soon.
pub(crate) fn measure_wake() -> Option<Duration> {
    let end = Instant::now() + LONGEST;
    let bed = Arc::new(Bed::default());
    let sleeper = {
        let bed = bed.clone();
        spawn_engine_thread("wake-time", move || answer_calls(&bed, end)).ok()?
    };
    let shortest = (1..=WAKES).filter_map(|call| time_wake(&bed, call, end)).min();
    // It has answered the last call, or ends at the same instant.
    sleeper.join().ok()?;
    shortest
}

fn answer_calls(bed: &Bed, end: Instant) {
    for answered in 0..WAKES {
        while bed.calls.load(Ordering::Acquire) == answered {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || futex::wait(&bed.calls, answered, Some(left)).is_err() {
                return;
            }
        }
        bed.answers.store(answered + 1, Ordering::Release);
    }
}

/// Returns how long this wake took, if the sleeper slept.
fn time_wake(bed: &Bed, call: u32, end: Instant) -> Option<Duration> {
    let yield_until = |is_over: &dyn Fn() -> bool| {
        while !is_over() {
            thread::yield_now();
        }
    };
    let nap = Instant::now() + NAP;
    yield_until(&|| Instant::now() >= nap);
    let begun = Instant::now();
    bed.calls.store(call, Ordering::Release);
    let slept = futex::wake(&bed.calls, 1).ok()? == 1;
    yield_until(&|| bed.answers.load(Ordering::Acquire) == call || Instant::now() >= end);
    let took = begun.elapsed();
    (slept && begun + took < end).then_some(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_takes_longer_than_nothing_and_less_than_the_limit() {
        // On a machine that is busy with other work no wake may be seen; it is looked for again.
        let measured = (0..1000).find_map(|_| measure_wake()).expect("some wake is seen");
        assert!(!measured.is_zero() && measured < LONGEST);
    }
}
