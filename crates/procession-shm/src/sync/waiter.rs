//! A seat: where one waiter of a condition or a barrier sits while it sleeps. It holds the seat's
//! robust mutex, so that others learn from the kernel, without a call to it, whether it lives; and
//! it sleeps on the seat's word, so that who wakes it wakes it and nobody else.
//!
//! Seats are taken and given out under the lock of the condition or the barrier they belong to. A
//! sitter alone frees its seat, or, once it is dead, who finds it so.

use std::io;
use std::time::{Duration, Instant};

use procession_sys::mutex::{Acquired, RobustMutex};

use crate::interrupt;
use crate::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::segment::Words;

/// The first sleep without a look, doubled up to the longest, as at a gate.
const BACKSTOP: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_millis(1600);

/// Nobody sits there.
pub(super) const FREE: u32 = 0;
/// Its sitter waits.
pub(super) const WAITING: u32 = 1;

#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Waiter {
    /// Held by the mutex. Made when the seat is first taken.
    mutex: RobustMutex,
    /// [`FREE`], [`WAITING`], or what the sitter was told: its owner's states.
    state: AtomicU32,
    /// Which of those who wait it is.
    ticket: AtomicU32,
}

// SAFETY: repr(C); atomics and a process-shared mutex, which zero says is not made.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Waiter {}

impl Waiter {
    /// Under the lock: sits down if nobody sits there, alive or dead.
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

    /// Sitter: gets up.
    pub(super) fn unregister(&self) {
        self.state.store(FREE, Ordering::Release);
        self.mutex.unlock_if_held();
    }

    /// Under the lock: whether its sitter is dead. If so the caller holds the seat, and
    /// [`unregister`](Self::unregister)s it.
    pub(super) fn lock_if_dead(&self) -> bool {
        self.state() != FREE && self.try_lock()
    }

    /// Under the lock: tells the sitter; it is awake or not yet asleep after [`wake`](Self::wake).
    pub(super) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::Release);
    }

    /// Wakes the sitter, that was told.
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

    /// Sitter: sleeps until it is told something, or the deadline. Now and then it wakes by itself,
    /// and looks whether others are dead.
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
            // Held; or its maker died making it, and nobody ever sits there.
            Ok(None) | Err(_) => false,
        }
    }

    /// Whether its sitter is a thread of this process: see [`RobustMutex::may_be_held_here`].
    pub(super) fn is_in_this_process(&self) -> bool {
        self.state() != FREE && self.mutex.may_be_held_here()
    }
}
