//! A plain value that processes share, behind a lock for many readers or one writer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use procession_core::sync as engine;
pub use procession_core::sync::{RwLockReadGuard, RwLockWriteGuard};

use super::lock_error::Recover;
use super::{LockError, deadline, travels};
use crate::Result;

/// As [`Mutex`](super::Mutex), for values that are read more often than written: any number read at
/// a time, or one writes.
///
/// A thread that reads may lock it for reading again, also while a writer waits; new readers wait
/// behind that writer. Up to 16 threads read at once; more take turns. The death of a reader is
/// nobody's business; of a writer's everybody is told until one recovers.
///
/// ```
/// use procession::sync::RwLock;
///
/// # fn main() -> procession::Result<()> {
/// let limits = RwLock::new([10u32, 20])?;
/// limits.write()?[1] = 30;
/// assert_eq!(*limits.read()?, [10, 30]);
/// # Ok(()) }
/// ```
pub struct RwLock<T: Pod> {
    engine: Arc<engine::RwLock<T>>,
}

impl<T: Pod> RwLock<T> {
    /// A new one, which nobody holds.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new([1.0, 2.0])?;
    /// assert_eq!(limits.read()?[1], 2.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Mutex::new`](super::Mutex::new).
    pub fn new(value: T) -> Result<RwLock<T>> {
        Ok(RwLock { engine: Arc::new(engine::made(engine::RwLock::create(value), "RwLock")?) })
    }

    /// Locks it for reading; waits for a writer.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new([1.0, 2.0])?;
    /// let (one, other) = (limits.read()?, limits.read()?); // beside each other
    /// assert_eq!(one[0], other[0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: a writer died, and the error holds the lock for reading.
    /// [`LockError::is_invalid`]: this thread writes.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(None)
    }

    /// As [`read`](RwLock::read), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new(1.0)?;
    /// assert_eq!(*limits.read_timeout(Duration::from_secs(1))?, 1.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](RwLock::read), and [`LockError::is_timeout`].
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.read_until(deadline(timeout))
    }

    /// As [`read`](RwLock::read), if it need not wait.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new(1.0)?;
    /// assert!(limits.try_read()?.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](RwLock::read).
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<'_, T>>, LockError<RwLockReadGuard<'_, T>>> {
        match self.read_until(Some(Instant::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            locked => locked.map(Some),
        }
    }

    /// Locks it for writing; waits for readers and writers.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new(1.0)?;
    /// *limits.write()? = 2.0;
    /// assert_eq!(*limits.read()?, 2.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: a writer died, and the error holds the lock for writing.
    /// [`LockError::is_invalid`]: this thread reads or writes.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(None)
    }

    /// As [`write`](RwLock::write), waiting for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let limits = procession::sync::RwLock::new(1.0)?;
    /// *limits.write_timeout(Duration::from_secs(1))? = 2.0;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](RwLock::write), and [`LockError::is_timeout`].
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_until(deadline(timeout))
    }

    /// As [`write`](RwLock::write), if it need not wait.
    ///
    /// ```
    /// use procession::{Process, sync::RwLock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let limits = RwLock::new(1.0)?;
    /// let reading = limits.read()?;
    /// let is_read = || limits.try_write().is_ok_and(|guard| guard.is_none());
    /// assert!(Process::fork(is_read).start()?.join()?);
    /// # drop(reading);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](RwLock::write).
    pub fn try_write(&self) -> Result<Option<RwLockWriteGuard<'_, T>>, LockError<RwLockWriteGuard<'_, T>>> {
        match self.write_until(Some(Instant::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            locked => locked.map(Some),
        }
    }

    fn read_until(
        &self,
        deadline: Option<Instant>,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        let (guard, acquired) = self.engine.read(deadline).map_err(refused)?;
        LockError::judge(guard, acquired, "RwLock")
    }

    fn write_until(
        &self,
        deadline: Option<Instant>,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        let (guard, acquired) = self.engine.write(deadline).map_err(refused)?;
        LockError::judge(guard, acquired, "RwLock")
    }
}

travels!(RwLock<T>, "RwLock");

impl<T: Pod> Recover for RwLockReadGuard<'_, T> {
    fn recover(&self) {
        RwLockReadGuard::recover(self);
    }
}

impl<T: Pod> Recover for RwLockWriteGuard<'_, T> {
    fn recover(&self) {
        RwLockWriteGuard::recover(self);
    }
}

impl<T: Pod> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").finish_non_exhaustive()
    }
}

fn refused<G>(refused: engine::Refused) -> LockError<G> {
    LockError::failed(engine::refused("RwLock", "the RwLock was free")(refused))
}
