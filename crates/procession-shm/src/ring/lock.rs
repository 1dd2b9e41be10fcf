//! The lock of the task ring's head: one word that names its holder, a worker's slot or the parent.
//! The parent's waits end at their deadlines, whatever a process writes into the word.
//!
//! The kernel knows nothing of it. When the parent learns of a worker's death, it looks whether the
//! word names that worker, and frees the lock in its place. If the parent dies, so do the workers.
//!
//! | the word | |
//! |---|---|
//! | 0 | free |
//! | slot + 1 | held by the worker of that slot |
//! | [`PARENT`] | held by the parent |
//! | the bit [`WAITERS`] beside a holder | somebody may sleep |
//!
//! | death of | what it leaves |
//! |---|---|
//! | a waiter, before or after it set the bit | one needless system call of the holder |
//! | the holder | the word; the parent's [`pass_on`](SlotLock::pass_on) takes the lock for itself |
//! | the holder, after it freed the word and before it has woken anybody | waiters that look again by themselves, after [`BACKSTOP`] |
//! | a woken waiter, before it has the lock | the same, for the others |

use std::time::{Duration, Instant};

use crate::block::Holder;
use crate::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};

const FREE: u32 = 0;
/// More than any slot's number.
const PARENT: u32 = 1 << 30;
/// Somebody may sleep until the word changes.
const WAITERS: u32 = 1 << 31;

/// The longest sleep without a look.
const BACKSTOP: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct SlotLock {
    word: AtomicU32,
}

impl SlotLock {
    #[cfg(loom)]
    pub(super) fn new() -> SlotLock {
        SlotLock { word: AtomicU32::new(FREE) }
    }

    /// Locks it, if it is free.
    pub(super) fn try_lock(&self, holder: Holder) -> bool {
        self.word.compare_exchange(FREE, number(holder), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Locks it. Returns `false` if the deadline came first.
    pub(super) fn lock(&self, holder: Holder, deadline: Option<Instant>) -> bool {
        let mut mine = number(holder);
        loop {
            let Err(seen) = self.word.compare_exchange(FREE, mine, Ordering::Acquire, Ordering::Relaxed) else {
                return true;
            };
            let left = deadline.map_or(BACKSTOP, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let flagged = seen | WAITERS;
            if seen == flagged
                || self.word.compare_exchange(seen, flagged, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                futex_wait(&self.word, flagged, left.min(BACKSTOP));
                // Others may sleep, too, and unlocking wakes one of them.
                mine |= WAITERS;
            }
        }
    }

    /// Unlocks it. Returns `false` if the word did not name the holder, because somebody had
    /// overwritten it.
    pub(super) fn unlock(&self, holder: Holder) -> bool {
        let was = self.word.swap(FREE, Ordering::Release);
        if was & WAITERS != 0 {
            futex_wake(&self.word, 1);
        }
        was & !WAITERS == number(holder)
    }

    /// Parent: takes the lock over from the worker that died with it. Returns `false` if that
    /// worker did not hold it.
    pub(super) fn pass_on(&self, slot: u32) -> bool {
        let dead = number(Holder::Worker(slot));
        // Only waiters change the word of a dead holder, and they add the bit.
        [dead, dead | WAITERS].into_iter().any(|word| {
            let next = word - dead + PARENT;
            self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })
    }

    /// Returns the holder: the parent or one of `slots` slots. Returns `Err` if the word names
    /// neither.
    pub(super) fn holder(&self, slots: u32) -> Result<Option<Holder>, ()> {
        match self.word.load(Ordering::Relaxed) {
            FREE => Ok(None),
            word if word & !WAITERS == PARENT => Ok(Some(Holder::Parent)),
            word => match (word & !WAITERS).checked_sub(1) {
                Some(slot) if slot < slots => Ok(Some(Holder::Worker(slot))),
                _ => Err(()),
            },
        }
    }
}

fn number(holder: Holder) -> u32 {
    match holder {
        Holder::Parent => PARENT,
        Holder::Worker(slot) => slot + 1,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn free() -> SlotLock {
        SlotLock { word: AtomicU32::new(FREE) }
    }

    #[test]
    fn one_holder_at_a_time_and_each_waiter_is_woken() {
        let (lock, seen) = (free(), AtomicU32::new(0));
        thread::scope(|scope| {
            for slot in 0..4 {
                let (lock, seen) = (&lock, &seen);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        assert!(lock.lock(Holder::Worker(slot), None));
                        assert_eq!(seen.fetch_add(1, Ordering::Relaxed), 0, "another holds it");
                        seen.fetch_sub(1, Ordering::Relaxed);
                        assert!(lock.unlock(Holder::Worker(slot)));
                    }
                });
            }
        });
        assert_eq!(lock.holder(4), Ok(None));
    }

    #[test]
    fn the_parent_frees_the_lock_of_a_dead_worker_and_of_no_other() {
        let lock = free();
        assert!(lock.try_lock(Holder::Worker(3)));
        assert!(!lock.lock(Holder::Parent, Some(Instant::now() + Duration::from_millis(1))), "it is held");
        assert!(!lock.pass_on(2) && lock.holder(4) == Ok(Some(Holder::Worker(3))));
        assert!(lock.pass_on(3) && lock.holder(4) == Ok(Some(Holder::Parent)));
        assert!(lock.unlock(Holder::Parent) && lock.try_lock(Holder::Worker(0)));
    }

    #[test]
    fn word_that_names_nobody_is_an_error() {
        for word in [5, 1000, PARENT - 1, PARENT + 1, WAITERS, u32::MAX] {
            let lock = SlotLock { word: AtomicU32::new(word) };
            assert_eq!(lock.holder(4), Err(()), "{word:x}");
            assert!(!lock.lock(Holder::Parent, Some(Instant::now() + Duration::from_millis(1))));
            assert!(!lock.unlock(Holder::Parent));
        }
    }
}
