//! A gate lets processes sleep until another wakes them. A waiter sleeps at the gate until a
//! condition on shared memory holds; the process that makes it hold wakes the waiter. Used by
//! workers (for tasks, for room) and by the parent (for results, for room).
//!
//! The word is a sequence number and one bit, *somebody may sleep*. There is no count of sleepers
//! that a death could leave wrong.
//!
//! | sleeper | waker |
//! |---|---|
//! | 1. word := next number, bit set | 1. publish |
//! | 2. fence | 2. fence |
//! | 3. look at the condition again | 3. bit clear? done |
//! | 4. futex: sleep while the word is as in 1 | 4. word := next number, bit kept |
//! | | 5. futex: wake n; if fewer slept, and the word is as in 4: clear the bit |
//!
//! **No wake is lost.** One of the two fences is first. If it is the sleeper's, the waker sees the
//! bit. If it is the waker's, the sleeper sees the condition. A wake between 1 and 4 changes the
//! word, and the sleep does not begin. The bit is cleared only if nobody has set it since, because
//! each setting changes the number. `models/tests/gate.rs` checks all of it.
//!
//! | death | what it leaves |
//! |---|---|
//! | sleeper, after 1 | the bit set for nobody: the next waker makes one needless system call and clears it |
//! | waker, after 1 or before 5 | sleepers that nobody wakes: each looks again by itself, at the latest after 1.6 s |
//! | a woken sleeper, before it takes what it was woken for | the same, for the others |

use std::time::{Duration, Instant};

use crate::fault::{Step, point};
use crate::interrupt;
#[cfg(not(loom))]
use crate::primitive::futex_wait_any;
use crate::primitive::{AtomicU32, Ordering, fence, futex_wait, futex_wake};
use crate::spin::Spin;

/// The first sleep without a look. A sleep that nobody ended is followed by one twice as long, up
/// to the longest, so that an idle pool costs next to nothing.
const BACKSTOP: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_millis(1600);

/// Somebody may sleep.
const SLEEPING: u32 = 1;
/// One in the sequence.
const NEXT: u32 = 2;

/// A place to sleep, in shared memory. All zero is a gate at which nobody sleeps.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Gate {
    word: AtomicU32,
}

impl Gate {
    /// Makes a gate at which nobody sleeps.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Gate {
        Gate { word: AtomicU32::new(0) }
    }

    /// Waits until `condition` holds. Returns `false` if the deadline came first, or a signal has
    /// [ended](interrupt) the wait. The condition must read what wakers publish, with at least
    /// acquire ordering for what is read after it.
    pub fn wait_until(&self, deadline: Option<Instant>, spin: &Spin, mut condition: impl FnMut() -> bool) -> bool {
        if spin.until(&mut condition) {
            return true;
        }
        let mut backstop = BACKSTOP;
        loop {
            let registered = self.register();
            point(Step::GateFlagged);
            fence(Ordering::SeqCst);
            if condition() {
                return true;
            }
            let sleep = match deadline {
                None => backstop,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    left.min(backstop)
                }
            };
            futex_wait(&self.word, registered, sleep);
            backstop = LONGEST.min(backstop * 2);
            point(Step::GateWoken);
            if condition() {
                return true;
            }
            if interrupt::ask() {
                return false;
            }
        }
    }

    /// Waits at several gates until `condition` holds. A wake at any of them has it look again. A
    /// caller that does not take what it was woken for must wake another in its place.
    #[cfg(not(loom))]
    pub fn wait_at_any(gates: &[&Gate], mut condition: impl FnMut() -> bool) {
        let mut backstop = BACKSTOP;
        loop {
            let registered: Vec<_> = gates.iter().map(|gate| (&gate.word, gate.register())).collect();
            fence(Ordering::SeqCst);
            if condition() {
                return;
            }
            futex_wait_any(&registered, backstop);
            backstop = LONGEST.min(backstop * 2);
            if condition() {
                return;
            }
        }
    }

    /// Wakes up to `count` sleepers, if there may be any. The caller must have published what they
    /// wait for.
    pub fn wake(&self, count: u32) {
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) & SLEEPING == 0 {
            return;
        }
        // One step, so that a process that writes the word without a pause cannot keep this one
        // here.
        let kept = self.word.fetch_add(NEXT, Ordering::SeqCst).wrapping_add(NEXT);
        point(Step::GateBumped);
        if futex_wake(&self.word, count) < count {
            // Nobody sleeps any more, unless the word has changed.
            let _ = self.word.compare_exchange(kept, kept & !SLEEPING, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    fn register(&self) -> u32 {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let registered = seen.wrapping_add(NEXT) | SLEEPING;
            match self.word.compare_exchange_weak(seen, registered, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return registered,
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32 as Count};
    use std::thread;

    use super::*;

    #[test]
    fn a_deadline_ends_a_wait() {
        let gate = Gate::new();
        let deadline = Instant::now() + Duration::from_millis(5);
        assert!(!gate.wait_until(Some(deadline), &Spin::none(), || false));
    }

    #[test]
    fn every_sleeper_is_woken_one_at_a_time() {
        let (gate, passes, through) = (Gate::new(), Count::new(0), Count::new(0));
        let take = || passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    gate.wait_until(None, &Spin::none(), take);
                    through.fetch_add(1, Ordering::SeqCst);
                });
            }
            for _ in 0..4 {
                passes.fetch_add(1, Ordering::SeqCst);
                gate.wake(1);
            }
        });
        assert_eq!(through.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn nobody_asleep_costs_no_call_and_changes_nothing() {
        let gate = Gate::new();
        gate.wake(1);
        assert_eq!(gate.word.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_wake_that_never_comes_is_made_up_for() {
        let (gate, ready) = (Gate::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                // The waker has published, and dies.
                ready.store(true, Ordering::SeqCst);
            });
            assert!(gate.wait_until(None, &Spin::none(), || ready.load(Ordering::SeqCst)));
        });
    }
}
