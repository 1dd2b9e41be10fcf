//! The wait of a thread that has to look, as nobody wakes it: it looks, for a while gives up its
//! core between two looks, and then sleeps between them. Used by the agents, and by rank 0 of an
//! MPI job.

use std::thread;
use std::time::{Duration, Instant};

/// Looks before a thread gives up its core for the first time. MPI may do so at each look.
const LOOKS: u32 = 16;
/// The time in which a thread only gives up its core: about as long as a short task takes.
const LOOKING: Duration = Duration::from_micros(300);
const MIN_SLEEP: Duration = Duration::from_micros(20);
/// A sleep is no longer than this part of the time that was waited before.
const PART: u32 = 8;

pub(crate) struct Pace {
    looks: u32,
    since: Option<Instant>,
    max_sleep: Duration,
}

impl Pace {
    /// A wait that sleeps for so long at most between two looks.
    pub(crate) fn new(max_sleep: Duration) -> Pace {
        Pace { looks: 0, since: None, max_sleep }
    }

    /// There was something: the wait begins anew.
    pub(crate) fn restart(&mut self, max_sleep: Duration) {
        *self = Pace::new(max_sleep);
    }

    /// Returns how long to sleep before the next look, if at all.
    fn sleep(&mut self) -> Option<Duration> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        (waited > LOOKING).then(|| (waited / PART).clamp(MIN_SLEEP, self.max_sleep))
    }

    /// Waits between two looks, and sleeps by `sleep`, which may end early.
    pub(crate) fn pause(&mut self, sleep: impl FnOnce(Duration)) {
        if self.looks < LOOKS {
            self.looks += 1;
            return std::hint::spin_loop();
        }
        match self.sleep() {
            None => thread::yield_now(),
            Some(time) => sleep(time),
        }
    }
}
