//! A value that each process has of its own, for everything that a forked child must not inherit:
//! threads it does not have, pools it does not own, locks that a thread of its parent held. Used in
//! any process and thread.
//!
//! # How a child knows that it is one
//!
//! The **fork generation** is 0 in a fresh image and one more in each forked child. A
//! `pthread_atfork` handler counts, so that forks by other code (Python's `os.fork`, a C library)
//! count too.
//!
//! Every thread that finds the handlers missing registers them before it reads the first
//! generation. So two threads may register them twice, and a child forked in between inherits those
//! that were registered. That does no harm, because the handlers are idempotent: the handler before
//! a fork writes `NEXT = GENERATION + 1`, the one in the child writes `GENERATION = NEXT`, and
//! doing either twice is doing it once. The count of [`forks`] need not be exact. There is no lock
//! and no `Once` here, which a fork in another thread could copy half taken.
//!
//! A [`PerProcess`] keeps its value with the generation that made it. In a child the generations
//! differ, so it makes a fresh value. It neither reads nor drops the parent's value, which a thread
//! that does not exist in the child may have half changed. That value is leaked, once per fork, in
//! the child alone.

// A shared value behind an atomic pointer: `OnceLock` cannot be reset without a lock.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use crate::imp::at_fork;

static GENERATION: AtomicU64 = AtomicU64::new(0);
static NEXT: AtomicU64 = AtomicU64::new(1);
static FORKS: AtomicU64 = AtomicU64::new(0);
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Returns how many forks lie between this process and the image's start: 0 in a fresh image, one
/// more in each forked child.
pub fn fork_generation() -> u64 {
    if !REGISTERED.load(Ordering::Acquire) {
        // Without the handlers (no memory for them) forks go unseen, which no caller could survive
        // safely.
        at_fork::register(before_fork, after_fork, in_forked_child).expect("pthread_atfork: out of memory");
        REGISTERED.store(true, Ordering::Release);
    }
    GENERATION.load(Ordering::Relaxed)
}

/// Returns a number that changes with each fork of this process: during the fork, after it, and in
/// the child. A note with another number may be in a child's memory too.
pub fn forks() -> u64 {
    fork_generation();
    FORKS.load(Ordering::SeqCst)
}

/// In the parent, just after a fork.
extern "C" fn after_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
}

/// In the parent, just before a fork.
extern "C" fn before_fork() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    NEXT.store(GENERATION.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// In the child, just after a fork.
extern "C" fn in_forked_child() {
    FORKS.fetch_add(1, Ordering::SeqCst);
    GENERATION.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// A value that each process has of its own, made when it is first asked for.
///
/// ```
/// use procession_sys::per_process::PerProcess;
/// use std::sync::Mutex;
///
/// static JOBS: PerProcess<Mutex<Vec<u32>>> = PerProcess::new(Mutex::default);
///
/// JOBS.get().lock().unwrap().push(7);
/// assert_eq!(*JOBS.get().lock().unwrap(), [7]); // a forked child would find it empty
/// ```
pub struct PerProcess<T: 'static> {
    make: fn() -> T,
    /// Null, or a leaked box of this process or of one it was forked from.
    current: AtomicPtr<Made<T>>,
}

struct Made<T> {
    generation: u64,
    value: T,
}

impl<T: 'static> PerProcess<T> {
    /// Makes a value by `make` when it is first needed. `make` must have no other effect: if
    /// threads race for the first [`get`](Self::get), each may call it, and all but one result are
    /// dropped.
    pub const fn new(make: fn() -> T) -> Self {
        PerProcess { make, current: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

impl<T: Send + Sync + 'static> PerProcess<T> {
    /// Returns this process's value.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: a non-null pointer comes from `Box::into_raw` in `make_own` and is never freed:
        // its box is leaked, and a fork copies the memory with the pointer. The Acquire load pairs
        // with the publishing exchange. Reading `generation` of a parent's box is sound too: it is
        // written before publication and never after.
        if let Some(made) = unsafe { current.as_ref() }
            && made.generation == GENERATION.load(Ordering::Relaxed)
        {
            return &made.value;
        }
        self.make_own(current)
    }

    #[cold]
    fn make_own(&'static self, found: *mut Made<T>) -> &'static T {
        let generation = fork_generation();
        let own = Box::into_raw(Box::new(Made { generation, value: (self.make)() }));
        match self.current.compare_exchange(found, own, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `own` was just made by `Box::into_raw` and, once published, is never freed.
            Ok(_) => unsafe { &(*own).value },
            Err(winner) => {
                // SAFETY: `own` was not published, so this thread alone knows it. `winner` was
                // published by a thread of this process after `found` was loaded, hence in this
                // generation (only the forking thread lives on in a child, and it was here, not in
                // a fork), and is never freed.
                unsafe {
                    drop(Box::from_raw(own));
                    &(*winner).value
                }
            }
        }
    }
}

impl<T: 'static> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess")
            .field("made", &!self.current.load(Ordering::Relaxed).is_null())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(procession_unsupported)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_thread_gets_the_same_value() {
        static SHARED: PerProcess<AtomicUsize> = PerProcess::new(|| AtomicUsize::new(0));
        let addresses: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        SHARED.get().fetch_add(1, Ordering::Relaxed);
                        std::ptr::from_ref(SHARED.get()) as usize
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        assert_eq!(SHARED.get().load(Ordering::Relaxed), 8);
    }
}
