//! The record of one waiter at a condition or a barrier. The waiter holds the record's robust mutex
//! while it waits, so others learn from the mutex, without a system call, whether it lives. It
//! sleeps on the record's word, so others can wake it and nobody else.
//!
//! Records are handed out under the lock of the condition or the barrier that they belong to. A
//! live waiter alone frees its record. The record of a dead waiter is freed by the first process
//! that finds it dead.

use std::io;
use std::time::{Duration, Instant};

use procession_sys::mutex::{Acquired, RobustMutex};

use crate::interrupt;
use crate::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::segment::Words;

/// The first sleep until a look at the others. It doubles up to the longest, as at a gate.
const BACKSTOP: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_millis(1600);

/// The record has no waiter.
pub(super) const FREE: u32 = 0;
/// The waiter waits.
pub(super) const WAITING: u32 = 1;

#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Waiter {
    /// Held by the waiter. It is initialised when the record is first used.
    mutex: RobustMutex,
    /// [`FREE`], [`WAITING`], or a state that the condition or the barrier defines.
    state: AtomicU32,
    /// The waiter's place in the order of waiters.
    ticket: AtomicU32,
}

// SAFETY: repr(C); atomics and a process-shared mutex, which zero says is not made.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Waiter {}

impl Waiter {
    /// Under the lock: registers the calling thread, unless the record has a waiter, alive or dead.
    pub(super) fn register(&self, ticket: u32) -> io::Result<bool> {
        if self.state() != FREE {
            return Ok(false);
        }
        match self.mutex.init() {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !self.try_lock() {
            return Ok(false);
        }
        self.ticket.store(ticket, Ordering::Relaxed);
        self.state.store(WAITING, Ordering::Release);
        Ok(true)
    }

    /// Waiter: frees the record.
    pub(super) fn unregister(&self) {
        self.state.store(FREE, Ordering::Release);
        self.mutex.unlock_if_held();
    }

    /// Under the lock: whether the waiter is dead. If so, the caller holds the mutex and must
    /// [`unregister`](Self::unregister).
    pub(super) fn lock_if_dead(&self) -> bool {
        self.state() != FREE && self.try_lock()
    }

    /// Under the lock: sets the waiter's state. A waiter that sleeps must be woken by
    /// [`wake`](Self::wake).
    pub(super) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::Release);
    }

    /// Wakes the waiter after its state was set.
    pub(super) fn wake(&self) {
        futex_wake(&self.state, 1);
    }

    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state() == WAITING
    }

    pub(super) fn ticket(&self) -> u32 {
        self.ticket.load(Ordering::Relaxed)
    }

    /// Waiter: sleeps until its state changes, or until the deadline. Now and then it wakes by
    /// itself and calls `look`, which checks whether others are dead.
    pub(super) fn sleep<E>(&self, deadline: Option<Instant>, mut look: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let mut backstop = BACKSTOP;
        let mut next_look = Instant::now() + backstop;
        while self.is_waiting() {
            let now = Instant::now();
            if interrupt::is_over() || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(());
            }
            if next_look <= now {
                look()?;
                backstop = LONGEST.min(backstop * 2);
                next_look = now + backstop;
                continue;
            }
            let until = deadline.map_or(next_look, |deadline| deadline.min(next_look));
            futex_wait(&self.state, WAITING, until - now);
            interrupt::ask();
        }
        Ok(())
    }

    fn try_lock(&self) -> bool {
        match self.mutex.try_lock() {
            Ok(Some(Acquired::Clean)) => true,
            Ok(Some(Acquired::OwnerDied)) => self.mutex.mark_consistent().is_ok(),
            // The mutex is held. Or a process died while it initialised the mutex, and the record
            // is never used.
            Ok(None) | Err(_) => false,
        }
    }

    /// Returns whether the waiter is a thread of this process: see
    /// [`RobustMutex::may_be_held_here`].
    pub(super) fn is_in_this_process(&self) -> bool {
        self.state() != FREE && self.mutex.may_be_held_here()
    }
}
