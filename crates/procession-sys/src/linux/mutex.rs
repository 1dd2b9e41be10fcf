//! A lock in shared memory that survives its owner's death: glibc's robust process-shared mutex. When its owner dies the
//! kernel says so to the next who locks it. Used under the ring, in any process and thread that maps it.

#![allow(unsafe_code)] // pthread_mutex_*: there is no other way to the kernel's robust list, which glibc owns.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a lock was had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// As usual.
    Clean,
    /// The owner before died holding it. What it guards must be made whole, then [`RobustMutex::mark_consistent`] called.
    OwnerDied,
}

/// See the module. It is made in place, in shared memory that begins as zeros, by [`init`](RobustMutex::init).
#[repr(C, align(64))]
pub struct RobustMutex {
    /// 0 until the mutex has been made, then 1.
    made: AtomicU32,
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
}

// SAFETY: a process-shared pthread mutex is made to be used from any thread of any process, by address.
unsafe impl Sync for RobustMutex {}

impl RobustMutex {
    // A hold is some 100 ns, a sleep 50 us: look again before sleeping.
    const PAUSES: u32 = 32;
    const YIELDS: u32 = 8;

    /// Makes it, once.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it has been made.
    pub fn init(&self) -> io::Result<()> {
        if self.made.swap(1, Ordering::AcqRel) != 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the lock has been made before"));
        }
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: the attributes are made by the first call before the others read them. The mutex is written by
        // nobody else: `made` was 0, so this is its only maker, and who locks checks `made` too, which the maker of
        // the segment publishes to others only after this.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            check(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutex_init(self.raw(), attributes.as_ptr()))
        }
    }

    /// Locks it; waits for who holds it.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was never made; `ENOTRECOVERABLE` if an owner found it inconsistent and unlocked it so.
    pub fn lock(&self) -> io::Result<Acquired> {
        if self.made.load(Ordering::Acquire) != 1 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the lock was never made"));
        }
        for attempt in 0..Self::PAUSES + Self::YIELDS {
            // SAFETY: `made` says that `init` has made the mutex.
            match unsafe { libc::pthread_mutex_trylock(self.raw()) } {
                libc::EBUSY if attempt < Self::PAUSES => std::hint::spin_loop(),
                libc::EBUSY => std::thread::yield_now(),
                locked => return acquired(locked),
            }
        }
        // SAFETY: as above.
        acquired(unsafe { libc::pthread_mutex_lock(self.raw()) })
    }

    /// After [`Acquired::OwnerDied`]: what it guards is whole again.
    ///
    /// # Errors
    ///
    /// If the caller does not hold it so.
    pub fn mark_consistent(&self) -> io::Result<()> {
        // SAFETY: only who has locked it calls this, so it is made.
        check(unsafe { libc::pthread_mutex_consistent(self.raw()) })
    }

    /// Unlocks it.
    ///
    /// # Panics
    ///
    /// If the caller does not hold it.
    pub fn unlock(&self) {
        // SAFETY: glibc checks that the caller owns a robust mutex, and refuses otherwise.
        let unlocked = unsafe { libc::pthread_mutex_unlock(self.raw()) };
        assert_eq!(unlocked, 0, "only who holds a lock unlocks it");
    }

    fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.get().cast()
    }
}

impl fmt::Debug for RobustMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustMutex").finish_non_exhaustive()
    }
}

fn acquired(code: libc::c_int) -> io::Result<Acquired> {
    match code {
        libc::EOWNERDEAD => Ok(Acquired::OwnerDied),
        code => check(code).map(|()| Acquired::Clean),
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> &'static RobustMutex {
        let mutex =
            Box::leak(Box::new(RobustMutex { made: AtomicU32::new(0), mutex: UnsafeCell::new(MaybeUninit::zeroed()) }));
        mutex.init().unwrap();
        mutex
    }

    #[test]
    fn a_thread_that_dies_with_it_is_told_of_once() {
        let mutex = made();
        std::thread::spawn(|| mutex.lock().unwrap()).join().unwrap();
        assert_eq!(mutex.lock().unwrap(), Acquired::OwnerDied);
        mutex.mark_consistent().unwrap();
        mutex.unlock();
        assert_eq!(mutex.lock().unwrap(), Acquired::Clean);
        mutex.unlock();
    }

    #[test]
    fn it_excludes() {
        let mutex = made();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        mutex.lock().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        mutex.unlock();
                    }
                });
            }
        });
    }

    #[test]
    fn it_is_made_once_and_before_use() {
        let mutex = made();
        assert_eq!(mutex.init().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let unmade = RobustMutex { made: AtomicU32::new(0), mutex: UnsafeCell::new(MaybeUninit::zeroed()) };
        assert_eq!(unmade.lock().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
