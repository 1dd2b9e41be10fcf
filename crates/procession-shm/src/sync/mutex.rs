//! A lock with a plain value behind it, in memory that all processes share. Here a guard becomes a
//! reference.

#![allow(unsafe_code, reason = "gives references to shared memory, to who holds its lock")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use bytemuck::Pod;
use procession_sys::mutex::Acquired;
use procession_sys::per_process::fork_generation;

use super::Refused;
use super::arena::{Cell, Handle, Head, Held, UNIT};
use super::lock::{LockCell, MUTEX, OwnerLock};
use crate::primitive::Ordering;
use crate::segment::Guarded;

/// See the module.
#[derive(Debug)]
pub struct Mutex<T: Pod> {
    lock: OwnerLock<MUTEX>,
    value: Guarded<T>,
}

impl<T: Pod> Mutex<T> {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// If the system refuses; `InvalidInput` for a type of 4 GiB or more, or aligned to more than
    /// 64 bytes.
    pub fn create(value: T) -> io::Result<Mutex<T>> {
        let lock = OwnerLock::create_before(measure::<T>()?, |cell| {
            // SAFETY: the cell is being made, and nobody else knows of it.
            unsafe { *value_behind::<T, _>(cell).get_mut() = value };
            Ok(())
        })?;
        Ok(Mutex { value: value_behind(lock.cell()), lock })
    }

    /// As [`OwnerLock::lock`].
    ///
    /// # Errors
    ///
    /// As [`OwnerLock::lock`].
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<(MutexGuard<'_, T>, Acquired), Refused> {
        let acquired = self.lock.lock(deadline)?;
        Ok((self.guard(), acquired))
    }

    /// As [`OwnerLock::try_lock`].
    ///
    /// # Errors
    ///
    /// As [`OwnerLock::lock`].
    #[inline]
    pub fn try_lock(&self) -> Result<Option<(MutexGuard<'_, T>, Acquired)>, Refused> {
        Ok(self.lock.try_lock()?.map(|acquired| (self.guard(), acquired)))
    }

    /// Returns whether somebody holds it. That may have changed on return.
    pub fn is_held(&self) -> bool {
        self.lock.is_held()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, generation: fork_generation(), not_send: PhantomData }
    }
}

/// The value of a [`Mutex`], for the thread that holds it.
///
/// A forked child's copy of the guard panics: the child does not hold the lock.
pub struct MutexGuard<'a, T: Pod> {
    mutex: &'a Mutex<T>,
    generation: u64,
    /// The lock is bound to the thread, as those of the standard library are.
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<T: Pod> MutexGuard<'_, T> {
    /// Says that the guarded value is valid again.
    pub fn recover(&self) {
        self.mutex.lock.recover();
    }
}

impl<T: Pod> Deref for MutexGuard<'_, T> {
    type Target = T;

    /// # Panics
    ///
    /// In a child that was forked while this was held.
    fn deref(&self) -> &T {
        check_generation(self.generation);
        // SAFETY: the guard's maker has locked the mutex. The guard cannot leave its thread, and
        // unlocks when dropped. The check has shown that this process is the one that locked. The
        // reference borrows the guard.
        unsafe { self.mutex.value.get() }
    }
}

impl<T: Pod> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        check_generation(self.generation);
        // SAFETY: as in `deref`; the lock's one owner cannot lock it twice, so this guard is the
        // only one, and it is borrowed exclusively.
        unsafe { self.mutex.value.get_mut() }
    }
}

impl<T: Pod> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.lock.unlock();
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Pod> Handle for Mutex<T> {
    type Cell = LockCell<MUTEX>;

    fn cell(&self) -> &Held<LockCell<MUTEX>> {
        self.lock.cell()
    }

    fn at(cell: Held<LockCell<MUTEX>>) -> io::Result<Self> {
        check_measure::<T>(cell.head())?;
        let value = value_behind(&cell);
        Ok(Mutex { lock: OwnerLock::at(cell)?, value })
    }
}

/// Returns how long a value is, as its cell stores it.
pub(super) fn measure<T: Pod>() -> io::Result<u32> {
    let fits = u32::try_from(size_of::<T>()).ok().filter(|_| align_of::<T>() <= UNIT);
    fits.ok_or_else(|| {
        let text = format!("{} is 4 GiB or more, or aligned to more than {UNIT} bytes", std::any::type_name::<T>());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// Checks that a cell from elsewhere is of this type, as far as its length tells.
pub(super) fn check_measure<T: Pod>(head: &Head) -> io::Result<()> {
    let found = head.measure.load(Ordering::Relaxed);
    if measure::<T>()? == found {
        return Ok(());
    }
    let text =
        format!("the value there is {found} bytes long, and a {} {}", std::any::type_name::<T>(), size_of::<T>());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// Returns the value behind a cell's words.
pub(super) fn value_behind<T: Pod, C: Cell>(cell: &Held<C>) -> Guarded<T> {
    cell.segment().guarded(cell.offset() + size_of::<C>())
}

/// # Panics
///
/// In a child that was forked while the guard was held.
#[inline]
pub(super) fn check_generation(of_guard: u64) {
    assert_eq!(of_guard, fork_generation(), "a guard is of no use in a child that was forked while it was held");
}
