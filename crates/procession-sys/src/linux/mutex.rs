//! A lock in shared memory that survives its owner's death: glibc's robust process-shared mutex.
//! When its owner dies, the kernel reports that to the next thread that locks it. Used under the
//! ring and under every lock that has an owner, in any process and thread that maps it.

// pthread_mutex_*: there is no other way to the kernel's robust list, which glibc owns.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The way in which a thread acquired a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// As usual.
    Clean,
    /// The last owner died while it held the lock. The caller must repair the guarded data and then
    /// call [`RobustMutex::mark_consistent`].
    OwnerDied,
}

/// The treatment of a thread that locks a mutex which it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relock {
    /// It waits for itself, for ever. Only for callers that never do it.
    Waits,
    /// An error of kind `Deadlock`.
    Refused,
    /// It holds the mutex once more, and must unlock it as often.
    Counts,
}

/// See the module. [`init`](RobustMutex::init) makes it in place, in shared memory that begins as
/// zeros.
#[repr(C)]
pub struct RobustMutex {
    /// One of the states below.
    made: AtomicU32,
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
}

// SAFETY: a process-shared pthread mutex is made to be used from any thread of any process, by
// address.
unsafe impl Sync for RobustMutex {}

impl RobustMutex {
    /// The states of `made`: not begun; being made, which a death leaves unusable for ever; done.
    const UNMADE: u32 = 0;
    const IN_MAKING: u32 = 2;
    const MADE: u32 = 1;

    // A hold is some 100 ns, a sleep 50 us: look again before sleeping.
    const LOOKS: u32 = 6;
    const YIELDS: u32 = 8;

    /// Makes the mutex, once. A thread that locks it twice waits for ever.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it has been made.
    pub fn init(&self) -> io::Result<()> {
        self.init_as(Relock::Waits)
    }

    /// As [`init`](RobustMutex::init); `relock` says what happens to a thread that locks it twice.
    ///
    /// # Errors
    ///
    /// As [`init`](RobustMutex::init).
    pub fn init_as(&self, relock: Relock) -> io::Result<()> {
        let kind = match relock {
            Relock::Waits => libc::PTHREAD_MUTEX_NORMAL,
            Relock::Refused => libc::PTHREAD_MUTEX_ERRORCHECK,
            Relock::Counts => libc::PTHREAD_MUTEX_RECURSIVE,
        };
        let begun = self.made.compare_exchange(Self::UNMADE, Self::IN_MAKING, Ordering::AcqRel, Ordering::Relaxed);
        if begun.is_err() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the lock has been made before"));
        }
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: the first call makes the attributes before the others read them. Nobody else
        // touches the mutex: `made` was UNMADE, so this is its only maker, and lockers wait for
        // MADE.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            check(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind))?;
            check(libc::pthread_mutex_init(self.raw(), attributes.as_ptr()))?;
        }
        self.made.store(Self::MADE, Ordering::Release);
        Ok(())
    }

    /// Locks it. Waits for its holder.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was never made; `Deadlock` as [`Relock::Refused`] says; `ENOTRECOVERABLE`
    /// if an owner found it inconsistent and unlocked it so.
    #[inline]
    pub fn lock(&self) -> io::Result<Acquired> {
        match self.try_lock()? {
            Some(acquired) => Ok(acquired),
            None => self.wait(),
        }
    }

    /// Locks it if nobody holds it.
    ///
    /// # Errors
    ///
    /// As [`lock`](RobustMutex::lock).
    #[inline]
    pub fn try_lock(&self) -> io::Result<Option<Acquired>> {
        self.check_made()?;
        // SAFETY: `check_made` says that `init` has made the mutex.
        match unsafe { libc::pthread_mutex_trylock(self.raw()) } {
            0 => Ok(Some(Acquired::Clean)),
            libc::EBUSY => Ok(None),
            locked => acquired(locked).map(Some),
        }
    }

    /// Locks it. Returns `None` if the deadline came first. Without a deadline it waits for ever.
    ///
    /// # Errors
    ///
    /// As [`lock`](RobustMutex::lock).
    pub fn lock_until(&self, deadline: Option<Instant>) -> io::Result<Option<Acquired>> {
        // glibc measures by the wall clock, which somebody may set. So each piece is measured by
        // that clock, and the whole by the monotonic one.
        const PIECE: Duration = Duration::from_secs(1);
        let Some(deadline) = deadline else { return self.lock().map(Some) };
        if let Some(acquired) = self.try_lock()? {
            return Ok(Some(acquired));
        }
        let mut left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if let Some(acquired) = self.spin()? {
            return Ok(Some(acquired));
        }
        loop {
            let until = SystemTime::now() + left.min(PIECE);
            let until = until.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
            let until = libc::timespec {
                tv_sec: libc::time_t::try_from(until.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: until.subsec_nanos().into(),
            };
            // SAFETY: `try_lock` has found it made; the time is a live local.
            match unsafe { libc::pthread_mutex_timedlock(self.raw(), &raw const until) } {
                libc::ETIMEDOUT => left = deadline.saturating_duration_since(Instant::now()),
                locked => return acquired(locked).map(Some),
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    #[cold]
    fn wait(&self) -> io::Result<Acquired> {
        if let Some(acquired) = self.spin()? {
            return Ok(acquired);
        }
        // SAFETY: `lock` has found it made.
        acquired(unsafe { libc::pthread_mutex_lock(self.raw()) })
    }

    /// Looks again for as long as a hold may last. It reads the word only, because each attempt
    /// would take its cache line away from the holder.
    fn spin(&self) -> io::Result<Option<Acquired>> {
        for attempt in 0..Self::LOOKS + Self::YIELDS {
            if self.word() & libc::FUTEX_TID_MASK == 0
                && let Some(acquired) = self.try_lock()?
            {
                return Ok(Some(acquired));
            }
            if attempt < Self::LOOKS {
                // Ever longer, so that the holder makes progress: a lock that changes hands each
                // time is slow.
                (0..1 << attempt).for_each(|_| std::hint::spin_loop());
            } else {
                std::thread::yield_now();
            }
        }
        Ok(None)
    }

    #[inline]
    fn check_made(&self) -> io::Result<()> {
        if self.made.load(Ordering::Acquire) == Self::MADE {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the lock was never made"))
    }

    /// After [`Acquired::OwnerDied`]: says that the guarded data is valid again.
    ///
    /// # Errors
    ///
    /// If the caller does not hold it so.
    pub fn mark_consistent(&self) -> io::Result<()> {
        // SAFETY: only a thread that has locked it calls this, so it is made.
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

    /// Unlocks it, if the calling thread holds it. Returns `false` if it does not: a forked child
    /// has copies of its parent's guards and none of its locks.
    #[inline]
    pub fn unlock_if_held(&self) -> bool {
        // SAFETY: as in `unlock`; the owner of a guard has found it made.
        unsafe { libc::pthread_mutex_unlock(self.raw()) == 0 }
    }

    /// Returns whether a thread of some process holds it, or died holding it. That may have changed
    /// on return.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.word() != 0
    }

    /// Returns whether a thread of this process may hold it. Then its memory must stay mapped,
    /// because the kernel and glibc reach it through that thread's list of locks.
    pub fn may_be_held_here(&self) -> bool {
        let tid = self.word() & libc::FUTEX_TID_MASK;
        let is_thread = || std::fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(true);
        // Without `/proc` any thread may be one of this process.
        tid != 0 && (is_thread() || !std::fs::exists("/proc/self/task").unwrap_or(false))
    }

    fn word(&self) -> u32 {
        // SAFETY: glibc's mutex begins with the futex word, which holds the owner's tid or 0. The
        // kernel's robust list finds it by a fixed offset, so that is part of the ABI. The word
        // lies in this struct, is aligned, valid as zeros before `init`, and changed by atomic
        // operations alone once others know of it.
        let word = unsafe { AtomicU32::from_ptr(self.mutex.get().cast()) };
        word.load(Ordering::Acquire)
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
        made_as(Relock::Waits)
    }

    fn made_as(relock: Relock) -> &'static RobustMutex {
        let mutex =
            Box::leak(Box::new(RobustMutex { made: AtomicU32::new(0), mutex: UnsafeCell::new(MaybeUninit::zeroed()) }));
        mutex.init_as(relock).unwrap();
        mutex
    }

    #[test]
    fn a_deadline_ends_a_wait() {
        let mutex = made();
        mutex.lock().unwrap();
        assert!(mutex.is_held());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(mutex.try_lock().unwrap(), None);
                let deadline = Instant::now() + Duration::from_millis(30);
                assert_eq!(mutex.lock_until(Some(deadline)).unwrap(), None);
                assert!(!mutex.unlock_if_held(), "it is not this thread's");
            });
        });
        assert!(mutex.unlock_if_held() && !mutex.is_held());
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        assert_eq!(mutex.lock_until(deadline).unwrap(), Some(Acquired::Clean));
        mutex.unlock();
    }

    #[test]
    fn a_second_lock_of_the_same_thread_is_refused_or_counted() {
        let refused = made_as(Relock::Refused);
        refused.lock().unwrap();
        assert_eq!(refused.lock().unwrap_err().kind(), io::ErrorKind::Deadlock);
        assert_eq!(refused.try_lock().unwrap_err().kind(), io::ErrorKind::Deadlock);
        refused.unlock();
        let counts = made_as(Relock::Counts);
        (0..3).for_each(|_| assert_eq!(counts.lock().unwrap(), Acquired::Clean));
        (0..3).for_each(|_| {
            assert!(counts.is_held());
            counts.unlock();
        });
        assert!(!counts.is_held());
    }

    #[test]
    fn death_of_an_owning_thread_is_reported_once() {
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
