//! A plain value that processes share, behind a lock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use procession_core::sync as engine;
pub use procession_core::sync::MutexGuard;

use super::lock_error::Recover;
use super::{LockError, deadline, travels};
use crate::Result;

/// A value in memory that processes share, behind a lock: a number, an array, or a struct of such.
///
/// The value is plain data, [`Pod`]: without pointers, whole whatever bytes are there. The guard is
/// a reference to the shared memory itself; nothing is encoded or copied.
///
/// ```
/// use procession::Context;
/// use procession::sync::Mutex;
///
/// # fn main() -> procession::Result<()> {
/// let counts = Mutex::new([0u64; 4])?;
/// let count = |counts: Mutex<[u64; 4]>| counts.lock().unwrap()[2] += 1;
/// # let ctx = Context::fork();
/// ctx.process(count, counts.clone()).start()?.join()?;
/// assert_eq!(*counts.lock()?, [0, 0, 1, 0]);
/// # Ok(()) }
/// ```
///
/// A process that is killed in the midst of a change leaves it half done: who locks next is told,
/// and has the value in [the error](LockError::recover).
pub struct Mutex<T: Pod> {
    engine: Arc<engine::Mutex<T>>,
}

impl<T: Pod> Mutex<T> {
    /// A new one, which nobody holds.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let total = procession::sync::Mutex::new(0u64)?;
    /// *total.lock()? += 1;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses; for a type of 4 GiB or more, or aligned to more than 64 bytes
    /// ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn new(value: T) -> Result<Mutex<T>> {
        Ok(Mutex { engine: Arc::new(engine::made(engine::Mutex::create(value), "Mutex")?) })
    }

    /// Locks it; waits for who holds it.
    ///
    /// ```
    /// use procession::{Process, sync::Mutex};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let total = Mutex::new(1u64)?;
    /// let mut other = Process::fork(|| *total.lock().unwrap() += 1).start()?;
    /// *total.lock()? += 1;
    /// other.join()?;
    /// assert_eq!(*total.lock()?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: the error holds the lock. [`LockError::is_invalid`]: this
    /// thread holds it already.
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(None)
    }

    /// As [`lock`](Mutex::lock), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let total = procession::sync::Mutex::new(1u64)?;
    /// assert_eq!(*total.lock_timeout(Duration::from_secs(1))?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](Mutex::lock), and [`LockError::is_timeout`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(deadline(timeout))
    }

    /// Locks it if nobody holds it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let total = procession::sync::Mutex::new(1u64)?;
    /// if let Some(mut total) = total.try_lock()? {
    ///     *total += 1;
    /// }
    /// assert_eq!(*total.lock()?, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](Mutex::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        match self.engine.try_lock().map_err(refused)? {
            Some((guard, acquired)) => LockError::judge(guard, acquired, "Mutex").map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn lock_until(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let (guard, acquired) = self.engine.lock(deadline).map_err(refused)?;
        LockError::judge(guard, acquired, "Mutex")
    }
}

travels!(Mutex<T>, "Mutex");

impl<T: Pod> Recover for MutexGuard<'_, T> {
    fn recover(&self) {
        MutexGuard::recover(self);
    }
}

impl<T: Pod> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("locked", &self.engine.is_held()).finish_non_exhaustive()
    }
}

fn refused<G>(refused: engine::Refused) -> LockError<G> {
    LockError::failed(engine::refused("Mutex", "the Mutex was free")(refused))
}
