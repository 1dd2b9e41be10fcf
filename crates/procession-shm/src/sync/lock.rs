//! Locks whose owner is the thread that locked them: a robust mutex, and a word that remembers an
//! owner's death until another owner has recovered the guarded data.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **lock** 1. the mutex | a dead owner, which the kernel reports to the next to lock |
//! | if the owner before died: 2. the word := died | the same: the mutex still knows of the first death |
//! | 3. the mutex is consistent | the word |
//! | **recover** 1. the word := 0 | a dead owner |
//! | **unlock** 1. the mutex | nothing |
//!
//! The fast path is the robust mutex's own, one compare-and-swap each way; the word is in the same
//! cache line.

use std::io;
use std::time::Instant;

use procession_sys::mutex::{Acquired, Relock, RobustMutex};

use super::Refused;
use super::arena::{self, Cell, Handle, Head, Held};
use crate::fault::{Step, point};
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::Words;

/// A lock that its owner cannot lock again.
pub type Lock = OwnerLock<LOCK>;
/// A lock that its owner may lock again, and must unlock as often.
pub type RLock = OwnerLock<RLOCK>;

/// A kind of cell.
pub(super) const LOCK: u32 = 1;
/// See [`LOCK`].
pub(super) const RLOCK: u32 = 2;
/// See [`LOCK`].
pub(super) const MUTEX: u32 = 3;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct LockCell<const KIND: u32> {
    head: Head,
    /// 1 from when an owner was found dead until somebody recovers. It changes under the mutex.
    died: AtomicU32,
    mutex: RobustMutex,
}

// SAFETY: repr(C); atomics and a process-shared mutex. Zero is a cell that `find` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl<const KIND: u32> Words for LockCell<KIND> {}

impl<const KIND: u32> Cell for LockCell<KIND> {
    const KIND: u32 = KIND;

    fn head(&self) -> &Head {
        &self.head
    }

    /// The measure is the number of bytes behind the lock.
    fn len(measure: u32) -> Option<usize> {
        size_of::<Self>().checked_add(measure as usize)
    }
}

/// See the module.
#[derive(Debug)]
pub struct OwnerLock<const KIND: u32> {
    cell: Held<LockCell<KIND>>,
}

impl<const KIND: u32> OwnerLock<KIND> {
    /// The number of its kind, which [`Lock`] and [`RLock`] do not share.
    pub const KIND: u32 = KIND;

    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create() -> io::Result<Self> {
        Self::create_before(0, |_| Ok(()))
    }

    /// Makes a lock with `len` bytes behind it, which `init` writes.
    pub(super) fn create_before(
        len: u32,
        init: impl FnOnce(&Held<LockCell<KIND>>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let relock = if KIND == RLOCK { Relock::Counts } else { Relock::Refused };
        let cell = arena::make::<LockCell<KIND>>(len, |cell| {
            cell.mutex.init_as(relock)?;
            init(cell)
        })?;
        Ok(OwnerLock { cell })
    }

    /// Locks it. Waits for its holder until the deadline. Reports an owner's death until somebody
    /// [recovers](Self::recover).
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`]; [`Refused::Deadlock`] for a thread that holds it, unless it may lock
    /// again.
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        let acquired = match deadline {
            None => self.cell.mutex.lock()?,
            deadline => self.cell.mutex.lock_until(deadline)?.ok_or(Refused::TimedOut)?,
        };
        self.noted(acquired)
    }

    /// Locks it if nobody else holds it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<Option<Acquired>, Refused> {
        self.cell.mutex.try_lock()?.map(|acquired| self.noted(acquired)).transpose()
    }

    /// Owner: says that the guarded data is valid again.
    pub fn recover(&self) {
        self.cell.died.store(0, Ordering::Relaxed);
    }

    /// Owner: unlocks it. Returns `false` if the calling thread does not hold it.
    #[inline]
    pub fn unlock(&self) -> bool {
        self.cell.mutex.unlock_if_held()
    }

    /// Returns whether somebody holds it. That may have changed on return.
    pub fn is_held(&self) -> bool {
        self.cell.mutex.is_held()
    }

    /// Returns whether both are handles of one lock.
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq::<LockCell<KIND>>(&*self.cell, &*other.cell)
    }

    #[inline]
    fn noted(&self, acquired: Acquired) -> Result<Acquired, Refused> {
        point(Step::LockHeld);
        if acquired == Acquired::OwnerDied {
            self.cell.died.store(1, Ordering::Relaxed);
            point(Step::LockNoted);
            self.cell.mutex.mark_consistent()?;
        }
        Ok(if self.cell.died.load(Ordering::Relaxed) == 0 { Acquired::Clean } else { Acquired::OwnerDied })
    }
}

impl<const KIND: u32> Drop for OwnerLock<KIND> {
    fn drop(&mut self) {
        if self.cell.mutex.may_be_held_here() {
            self.cell.keep();
        }
    }
}

impl<const KIND: u32> Handle for OwnerLock<KIND> {
    type Cell = LockCell<KIND>;

    fn cell(&self) -> &Held<LockCell<KIND>> {
        &self.cell
    }

    fn at(cell: Held<LockCell<KIND>>) -> io::Result<Self> {
        Ok(OwnerLock { cell })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Primitive;

    #[test]
    fn death_of_an_owner_is_reported_until_somebody_recovers() {
        let lock = Lock::create().unwrap();
        std::thread::scope(|scope| scope.spawn(|| lock.lock(None).unwrap()).join().unwrap());
        for _ in 0..3 {
            assert_eq!(lock.lock(None).unwrap(), Acquired::OwnerDied);
            assert!(lock.unlock());
        }
        assert_eq!(lock.try_lock().unwrap(), Some(Acquired::OwnerDied));
        lock.recover();
        assert!(lock.unlock() && !lock.unlock());
        assert_eq!(lock.lock(None).unwrap(), Acquired::Clean);
    }

    #[test]
    fn lock_has_the_size_that_the_docs_say() {
        // The C library's mutex has 40 bytes on x86-64 and 48 on aarch64; a cell is a multiple of
        // 64 bytes long.
        let size = if cfg!(target_arch = "x86_64") { 64 } else { 128 };
        let [one, two] = [Lock::create().unwrap(), Lock::create().unwrap()];
        assert_eq!(size_of::<LockCell<LOCK>>(), size);
        assert!(one.offset().abs_diff(two.offset()) >= size as u64);
    }

    #[test]
    fn a_handle_dropped_while_its_lock_is_held_leaves_it_mapped() {
        let lock = Lock::create().unwrap();
        let word: *const LockCell<LOCK> = &*lock.cell;
        lock.lock(None).unwrap();
        let segment = lock.cell.segment().downgrade();
        drop(lock);
        assert!(!word.is_null() && segment.upgrade().is_some());
        // glibc walks past the lock that is held, and finds it where it was.
        let other = Lock::create().unwrap();
        other.lock(None).unwrap();
        assert!(other.unlock());
    }
}
