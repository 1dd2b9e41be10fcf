//! Why a lock was not had as it should be.

use std::fmt;

use procession_core::Error as Engine;
use procession_core::sync::Acquired;

use crate::{Error, Result};

/// Why a lock was not had: its time ran out, or its thread holds it already; or it was had, and its
/// last owner had died.
///
/// Then the error holds the lock. The data behind the lock may be half-changed: make that whole and
/// [`recover`](LockError::recover). An error that is dropped unlocks, and the next to lock is told
/// too, until somebody recovers. `?` makes it an [`Error`], which unlocks as well.
///
/// ```
/// use procession::sync::{LockError, Mutex};
///
/// # fn main() -> procession::Result<()> {
/// let counter = Mutex::new(0u64)?;
/// let mut counted = counter.lock().or_else(|error| {
///     let mut counter = error.recover()?;
///     *counter = 0; // begin again
///     Ok::<_, procession::Error>(counter)
/// })?;
/// *counted += 1;
/// # Ok(()) }
/// ```
pub struct LockError<G> {
    guard: Option<G>,
    error: Error,
}

impl<G> LockError<G> {
    /// The last owner died holding it, and this error holds it now.
    ///
    /// ```
    /// use procession::{Process, sync::Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let die = || {
    ///     let _locked = lock.lock().unwrap();
    ///     std::process::abort()
    /// };
    /// assert!(Process::<()>::fork(die).start()?.join().is_err());
    /// assert!(lock.lock().unwrap_err().is_owner_died());
    /// # Ok(()) }
    /// ```
    pub fn is_owner_died(&self) -> bool {
        self.guard.is_some()
    }

    /// The time given ran out.
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{Process, sync::Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let guard = lock.lock()?;
    /// let late = || lock.lock_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timeout());
    /// assert!(Process::fork(late).start()?.join()?);
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    pub fn is_timeout(&self) -> bool {
        self.error.is_timeout()
    }

    /// The calling thread holds it already, and would wait for itself.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let lock = procession::sync::Lock::new()?;
    /// let guard = lock.lock()?;
    /// assert!(lock.lock().unwrap_err().is_invalid(), "this thread holds it already");
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    pub fn is_invalid(&self) -> bool {
        self.error.is_invalid()
    }

    /// The guard, of a lock whose owner died; it is as any other from now on.
    ///
    /// ```
    /// use procession::{Process, sync::Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let die = || {
    ///     let _locked = lock.lock().unwrap();
    ///     std::process::abort()
    /// };
    /// assert!(Process::<()>::fork(die).start()?.join().is_err());
    /// let guard = lock.lock().or_else(|error| {
    ///     // ... make whole what the lock guards ...
    ///     error.recover()
    /// })?;
    /// drop(guard);
    /// assert!(lock.lock().is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// This error, if it does not hold the lock.
    pub fn recover(self) -> Result<G>
    where
        G: Recover,
    {
        let guard = self.guard.ok_or(self.error)?;
        guard.recover();
        Ok(guard)
    }

    pub(super) fn failed(error: impl Into<Error>) -> LockError<G> {
        LockError { guard: None, error: error.into() }
    }

    /// Turns an acquired lock into its guard, or into an error if its last owner died.
    #[inline]
    pub(super) fn judge(guard: G, acquired: Acquired, what: &'static str) -> Result<G, LockError<G>> {
        match acquired {
            Acquired::Clean => Ok(guard),
            Acquired::OwnerDied => Err(LockError { guard: Some(guard), error: Engine::OwnerDied { what }.into() }),
        }
    }
}

/// Guards that can be recovered: those of this module.
pub trait Recover {
    #[doc(hidden)]
    fn recover(&self);
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<G> std::error::Error for LockError<G> {}

impl<G> From<LockError<G>> for Error {
    fn from(error: LockError<G>) -> Self {
        error.error
    }
}
