//! A condition notifies its waiters in the order in which they came, exactly as many as the caller
//! asks for. It goes with whatever lock its user has: the condition has the lock unlocked once the
//! waiter is registered, and the user locks it again.
//!
//! Each waiter has a [`Waiter`] record. The records change only under the condition's own robust
//! mutex, which is held for an instant and never during a sleep. Each step is one store, so a death
//! under the mutex leaves nothing to repair.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **wait** 1. register: waiting, with the next ticket | an abandoned record, which the next to notify or to register frees |
//! | 2. unlock the user's lock | the same |
//! | 3. sleep while the record says waiting | the same |
//! | 4. unregister | nothing |
//! | **notify** 1. the oldest living waiter's record := notified, **commit** | the notification; the waiter looks by itself |
//! | 2. wake it | nothing |
//! | **release a dead waiter** that was notified 1. notify another in its place | both: the next release notifies one more |
//! | 2. free its record | nothing |
//!
//! **No notification is lost.** A waiter registers before it unlocks the user's lock, so a process
//! that changes the awaited state under that lock finds it registered. A notification between steps
//! 1 and 3 changes the word that the waiter is about to sleep on, and the sleep does not begin. If
//! a waiter was notified and killed before it returned, its notification goes to the next waiter.
//! Every `notify` looks for such waiters, and so does every sleeper that wakes by itself: after 200
//! ms, then ever more rarely, at the latest after 1.6 s.
//!
//! **No notification is made up**, with one exception. A waiter unregisters when it was notified or
//! when its time is out, which it decides under the mutex. A signal, or a sleep that ends for
//! another reason, is not a notification. The exception: a process that is killed between release 1
//! and 2 leaves one notification too many.

use std::io;
use std::time::Instant;

use procession_sys::mutex::{Acquired, Relock, RobustMutex};

use super::Refused;
use super::arena::{self, Cell, Handle, Head, Held};
use super::waiter::Waiter;
use crate::fault::{Step, point};
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::{PlacedArray, Words};

/// The most waiters at once.
const MAX_WAITERS: usize = 255;

/// A waiter's state, besides those that every waiter has: it is notified.
const NOTIFIED: u32 = 2;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ConditionCell {
    head: Head,
    /// The ticket of the next waiter.
    next: AtomicU32,
    /// No record from here on was ever used.
    used: AtomicU32,
    mutex: RobustMutex,
}

// SAFETY: repr(C); atomics and a process-shared mutex. Zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for ConditionCell {}

impl Cell for ConditionCell {
    const KIND: u32 = 8;

    fn head(&self) -> &Head {
        &self.head
    }

    fn len(_: u32) -> Option<usize> {
        Some(size_of::<Self>() + MAX_WAITERS * size_of::<Waiter>())
    }

    fn written(&self, _: usize) -> usize {
        size_of::<Self>() + self.used.load(Ordering::Relaxed) as usize * size_of::<Waiter>()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Condition {
    cell: Held<ConditionCell>,
    waiters: PlacedArray<Waiter>,
}

impl Condition {
    /// Makes a condition that has no waiters.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create() -> io::Result<Condition> {
        Condition::at(arena::make::<ConditionCell>(0, |cell| cell.mutex.init_as(Relock::Refused))?)
    }

    /// Registers the caller, has its lock unlocked, and waits for a notification. Returns `false`
    /// if the deadline came first. The caller must lock again in either case.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`], with nothing unlocked; an `Os` error if shared memory is damaged.
    pub fn wait(&self, deadline: Option<Instant>, unlock: impl FnOnce()) -> Result<bool, Refused> {
        let unlocked = || {
            unlock();
            true
        };
        Ok(self.wait_if(deadline, unlocked)? == Some(true))
    }

    /// As [`wait`](Self::wait), with a lock that may refuse to be unlocked. If `unlock` returns
    /// `false`, the call does not wait and returns `None`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_if(&self, deadline: Option<Instant>, unlock: impl FnOnce() -> bool) -> Result<Option<bool>, Refused> {
        let registered = self.register()?;
        point(Step::WaiterRegistered);
        if !unlock() {
            return Ok(None);
        }
        registered.waiter.sleep(deadline, || self.lock()?.release_dead())?;
        point(Step::WaiterSlept);
        // Under the mutex nobody notifies, so the state is final.
        let _locked = self.lock()?;
        let notified = registered.waiter.state() == NOTIFIED;
        drop(registered);
        Ok(Some(notified))
    }

    /// Returns the number of waiters. Some of them may be dead.
    pub fn waiting(&self) -> usize {
        self.used().iter().filter(|waiter| waiter.is_waiting()).count()
    }

    /// Notifies up to `count` waiters, oldest first. Returns how many it notified.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
    pub fn notify(&self, count: usize) -> Result<usize, Refused> {
        let locked = self.lock()?;
        locked.release_dead()?;
        Ok(locked.notify(count))
    }

    fn register(&self) -> Result<Registered<'_>, Refused> {
        let locked = self.lock()?;
        let ticket = self.cell.next.fetch_add(1, Ordering::Relaxed);
        if let Some(registered) = locked.try_register(ticket)? {
            return Ok(registered);
        }
        // Some of the records may be those of dead waiters.
        locked.release_dead()?;
        locked.try_register(ticket)?.ok_or(Refused::Full { most: MAX_WAITERS })
    }

    /// The records that have been used. Without the lock others may be added meanwhile.
    fn used(&self) -> &[Waiter] {
        let used = self.cell.used.load(Ordering::Relaxed) as usize;
        &self.waiters[..used.min(MAX_WAITERS)]
    }

    fn lock(&self) -> Result<Locked<'_>, Refused> {
        if self.cell.mutex.lock()? == Acquired::OwnerDied {
            self.cell.mutex.mark_consistent()?;
        }
        Ok(Locked(self))
    }
}

/// Shows that the condition's mutex is held.
struct Locked<'a>(&'a Condition);

impl<'a> Locked<'a> {
    fn try_register(&self, ticket: u32) -> io::Result<Option<Registered<'a>>> {
        for (index, waiter) in self.0.waiters.iter().enumerate() {
            // Before the record is used, so that `used` always covers it.
            self.0.cell.used.fetch_max(index as u32 + 1, Ordering::Relaxed);
            if waiter.register(ticket)? {
                return Ok(Some(Registered { waiter }));
            }
        }
        Ok(None)
    }

    /// Frees the records of dead waiters and passes their notifications on.
    fn release_dead(&self) -> Result<(), Refused> {
        for waiter in self.0.used().iter().filter(|waiter| waiter.lock_if_dead()) {
            if waiter.state() == NOTIFIED {
                self.notify(1);
                point(Step::NotificationPassed);
            }
            waiter.unregister();
        }
        Ok(())
    }

    fn notify(&self, count: usize) -> usize {
        let next = self.0.cell.next.load(Ordering::Relaxed);
        let mut waiting: Vec<&Waiter> = self.0.used().iter().filter(|waiter| waiter.is_waiting()).collect();
        waiting.sort_by_key(|waiter| std::cmp::Reverse(next.wrapping_sub(waiter.ticket())));
        let living = waiting.into_iter().filter(|waiter| {
            let is_dead = waiter.lock_if_dead();
            if is_dead {
                waiter.unregister();
            }
            !is_dead
        });
        let notify = |waiter: &Waiter| {
            waiter.set_state(NOTIFIED);
            point(Step::WaiterNotified);
            waiter.wake();
        };
        living.take(count).map(notify).count()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.cell.mutex.unlock_if_held();
    }
}

/// The calling thread's registration. Dropping it unregisters, also if the thread unwinds.
struct Registered<'a> {
    waiter: &'a Waiter,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.waiter.unregister();
    }
}

impl Handle for Condition {
    type Cell = ConditionCell;

    fn cell(&self) -> &Held<ConditionCell> {
        &self.cell
    }

    fn at(cell: Held<ConditionCell>) -> io::Result<Self> {
        let waiters = cell.segment().array(cell.offset() + size_of::<ConditionCell>(), MAX_WAITERS);
        Ok(Condition { cell, waiters })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn as_many_are_notified_as_are_asked_for() {
        let (condition, woken) = (Condition::create().unwrap(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    assert!(condition.wait(None, || ()).unwrap());
                    woken.fetch_add(1, Ordering::SeqCst);
                });
            }
            while condition.waiting() < 6 {
                thread::yield_now();
            }
            for count in [1, 2, 3] {
                let before = woken.load(Ordering::SeqCst);
                assert_eq!(condition.notify(count).unwrap(), count);
                while woken.load(Ordering::SeqCst) < before + count {
                    thread::yield_now();
                }
                assert_eq!(condition.waiting(), 6 - woken.load(Ordering::SeqCst));
            }
            assert_eq!(condition.notify(1).unwrap(), 0);
        });
    }

    #[test]
    fn a_notification_before_or_without_a_wait_wakes_nobody() {
        let condition = Condition::create().unwrap();
        assert_eq!(condition.notify(usize::MAX).unwrap(), 0);
        let deadline = Instant::now() + Duration::from_millis(10);
        assert!(!condition.wait(Some(deadline), || ()).unwrap());
    }

    #[test]
    fn notification_between_registration_and_sleep_is_not_lost() {
        let condition = Condition::create().unwrap();
        assert!(condition.wait(None, || assert_eq!(condition.notify(1).unwrap(), 1)).unwrap());
    }

    #[test]
    fn a_lock_that_refuses_is_not_waited_with() {
        let condition = Condition::create().unwrap();
        assert_eq!(condition.wait_if(None, || false).unwrap(), None);
        assert_eq!((condition.waiting(), condition.notify(1).unwrap()), (0, 0));
    }

    #[test]
    fn no_item_is_left_behind() {
        const EACH: usize = 2000;
        let (condition, items) = (Condition::create().unwrap(), Mutex::new(0usize));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let mut guard = Some(items.lock().unwrap());
                        while **guard.as_ref().unwrap() == 0 {
                            assert!(condition.wait(None, || drop(guard.take())).unwrap());
                            guard = Some(items.lock().unwrap());
                        }
                        *guard.unwrap() -= 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..EACH {
                        *items.lock().unwrap() += 1;
                        condition.notify(1).unwrap();
                    }
                });
            }
        });
        assert_eq!(*items.lock().unwrap(), 0);
    }

    #[test]
    fn notification_of_a_dead_waiter_goes_to_the_next() {
        let condition = Condition::create().unwrap();
        // A thread that ends while it is registered, as one that is killed.
        let die = |state: u32| {
            thread::scope(|scope| {
                let sit = || {
                    let registered = condition.register().unwrap();
                    registered.waiter.set_state(state);
                    std::mem::forget(registered);
                };
                scope.spawn(sit).join().unwrap();
            });
        };
        die(super::super::waiter::WAITING);
        die(NOTIFIED);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| condition.wait(None, || ()).unwrap());
            assert!(waiter.join().unwrap(), "it looks by itself");
        });
        assert_eq!(condition.notify(5).unwrap(), 0, "the dead take nothing");
    }

    #[test]
    fn there_is_a_place_for_as_many_as_it_says() {
        let condition = Condition::create().unwrap();
        let waiters: Vec<_> = (0..MAX_WAITERS).map(|_| condition.register().unwrap()).collect();
        let full = condition.wait(None, || panic!("nothing is unlocked"));
        assert!(matches!(full, Err(Refused::Full { most: MAX_WAITERS })));
        drop(waiters);
        assert!(condition.register().is_ok());
    }
}
