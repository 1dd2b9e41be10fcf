//! What a waiter does before it sleeps. A sleep and a wake across cores cost 50 us, and a look at a
//! word costs nothing, so a waiter looks for about as long as a wake would take. The process it
//! waits for may need this very core. So the waiter looks between yields, and pauses only where
//! there are cores for all.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::primitive::yield_now;

/// A waiter's policy.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    pauses: u32,
    yields: Duration,
}

impl Spin {
    const PAUSES: u32 = 100;
    const YIELDS: Duration = Duration::from_micros(50);
    const LOOKS: u32 = 8;

    /// Makes the policy for a structure on which `waiters` processes wait and work, the caller
    /// included.
    pub fn new(waiters: usize) -> Spin {
        // The control group's quota is read from files, so it is read once, before a process forks
        // its workers.
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
        Spin { pauses: if waiters <= cores { Self::PAUSES } else { 0 }, yields: Self::YIELDS }
    }

    /// Does not look at all: the waiter sleeps at once.
    pub const fn none() -> Spin {
        Spin { pauses: 0, yields: Duration::ZERO }
    }

    /// Looks until the condition holds or the time for looking is up.
    pub(crate) fn until(&self, condition: &mut impl FnMut() -> bool) -> bool {
        for _ in 0..self.pauses {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if self.yields.is_zero() {
            return condition();
        }
        let begun = Instant::now();
        let mut looks = 0;
        loop {
            if condition() {
                return true;
            }
            // A yield to a process that computes may take all of the time at once.
            if looks >= Self::LOOKS && begun.elapsed() >= self.yields {
                return false;
            }
            looks += 1;
            yield_now();
        }
    }
}
