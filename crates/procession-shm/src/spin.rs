//! A waiter's spinning before it sleeps. A sleep and the wake that ends it cost 10 us on one
//! machine and 60 us on another, and a look at a word costs nothing. So a waiter looks for a few
//! times as long as a wake takes here. The process it waits for may need this very core. So the
//! waiter looks between yields, and pauses only where there are cores for all.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::primitive::{measure_wake, yield_now};

/// A waiter's policy.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    pauses: u32,
    yields: Duration,
}

/// The time of one wake in this process tree: a fork inherits it, and a pool's workers get it from
/// the parent.
static WAKE: OnceLock<Duration> = OnceLock::new();

impl Spin {
    const PAUSES: u32 = 32;
    /// The time for which a waiter looks, as a multiple of a wake's. A sleep costs more than its
    /// wake, as the core has gone to rest and the waker makes a system call.
    const WAKES: u32 = 8;
    /// The time for which a waiter looks if nobody has measured a wake.
    const YIELDS: Duration = Duration::from_micros(50);
    /// A measured time outside of these is the weather.
    const MIN_YIELDS: Duration = Duration::from_micros(20);
    const MAX_YIELDS: Duration = Duration::from_micros(100);
    const LOOKS: u32 = 8;

    /// Makes the policy for a structure on which `waiters` processes wait and work, the caller
    /// included. It looks for as long as is right where this process has measured what a wake
    /// takes, and else for 50 us.
    pub fn new(waiters: usize) -> Spin {
        Spin { pauses: pauses(waiters), yields: yields(WAKE.get().copied()) }
    }

    /// Makes the policy for a wait for one other process, where a wake takes so long.
    pub fn for_wakes_of(wake: Duration) -> Spin {
        Spin { pauses: pauses(2), yields: yields(Some(wake)) }
    }

    /// Returns how long a wake takes here. The first call measures it, which takes a few wakes.
    pub fn wake_time() -> Duration {
        *WAKE.get_or_init(|| measure_wake().unwrap_or(Self::YIELDS / Self::WAKES))
    }

    /// Does not look at all: the waiter sleeps at once.
    pub const fn none() -> Spin {
        Spin { pauses: 0, yields: Duration::ZERO }
    }

    /// Makes the policy of a worker that has just run a task, beside one that looks by this one. It
    /// looks for as long as a wake takes.
    pub fn lingering(self) -> Spin {
        Spin { pauses: 0, yields: self.yields / Self::WAKES }
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

fn pauses(waiters: usize) -> u32 {
    // The control group's quota is read from files, so it is read once, before a process forks its
    // workers.
    static CORES: OnceLock<usize> = OnceLock::new();
    let cores = *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from));
    if waiters <= cores { Spin::PAUSES } else { 0 }
}

fn yields(wake: Option<Duration>) -> Duration {
    wake.map_or(Spin::YIELDS, |wake| (wake * Spin::WAKES).clamp(Spin::MIN_YIELDS, Spin::MAX_YIELDS))
}
