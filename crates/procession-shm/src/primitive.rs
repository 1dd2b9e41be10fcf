//! The one place that chooses between the machine's atomics and loom's, and between the kernel's
//! futex and robust mutex and their models.

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::yield_now;

    pub(crate) use crate::wake_time::measure_wake;

    use std::io;
    use std::time::Duration;

    pub(crate) use procession_sys::mutex::RobustMutex;

    /// Sleeps while the word is `seen`, for no longer than `timeout`.
    pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, timeout: Duration) {
        // The caller looks again after every sleep. A futex that cannot wait at all must not become
        // a busy loop.
        let waited: io::Result<_> = procession_sys::futex::wait(word, seen, Some(timeout));
        if waited.is_err() {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
        }
    }

    /// As [`futex_wait`], at several words.
    pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], timeout: Duration) {
        let waited: io::Result<_> = procession_sys::futex::wait_any(words, timeout);
        if waited.is_err() {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
        }
    }

    /// Wakes up to `count` sleepers and returns how many there were.
    pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> u32 {
        // The kernel refuses only a word outside of mapped memory.
        procession_sys::futex::wake(word, count).unwrap_or(0)
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now;

    use std::io;
    use std::time::Duration;

    use loom::sync::Condvar;
    use procession_sys::mutex::Acquired;

    /// No model has a clock.
    pub(crate) fn measure_wake() -> Option<Duration> {
        None
    }

    loom::lazy_static! {
        static ref KERNEL: Kernel = Kernel { sleepers: Mutex::new(Sleepers::default()), woken: Condvar::new() };
    }

    /// The kernel's side of every futex of a model. The compare and the sleep are one step, as in
    /// the kernel.
    struct Kernel {
        sleepers: Mutex<Sleepers>,
        woken: Condvar,
    }

    #[derive(Default)]
    struct Sleepers {
        asleep: u32,
        passes: u32,
    }

    /// A lock whose owners do not die.
    #[derive(Debug)]
    pub(crate) struct RobustMutex {
        is_held: Mutex<bool>,
        released: Condvar,
    }

    impl RobustMutex {
        pub(crate) fn new() -> RobustMutex {
            RobustMutex { is_held: Mutex::new(false), released: Condvar::new() }
        }

        pub(crate) fn lock(&self) -> io::Result<Acquired> {
            let mut is_held = self.is_held.lock().unwrap();
            while *is_held {
                is_held = self.released.wait(is_held).unwrap();
            }
            *is_held = true;
            Ok(Acquired::Clean)
        }

        pub(crate) fn try_lock(&self) -> io::Result<Option<Acquired>> {
            let was_held = std::mem::replace(&mut *self.is_held.lock().unwrap(), true);
            Ok((!was_held).then_some(Acquired::Clean))
        }

        pub(crate) fn unlock(&self) {
            *self.is_held.lock().unwrap() = false;
            self.released.notify_one();
        }

        pub(crate) fn mark_consistent(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// There is no backstop here, so that a lost wake shows as a deadlock.
    pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, _: Duration) {
        let mut sleepers = KERNEL.sleepers.lock().unwrap();
        if word.load(Ordering::SeqCst) != seen {
            return;
        }
        sleepers.asleep += 1;
        while sleepers.passes == 0 {
            sleepers = KERNEL.woken.wait(sleepers).unwrap();
        }
        sleepers.passes -= 1;
    }

    pub(crate) fn futex_wake(_: &AtomicU32, count: u32) -> u32 {
        let mut sleepers = KERNEL.sleepers.lock().unwrap();
        let woken = count.min(sleepers.asleep);
        sleepers.asleep -= woken;
        sleepers.passes += woken;
        if woken > 0 {
            KERNEL.woken.notify_all();
        }
        woken
    }
}

pub(crate) use imp::*;
