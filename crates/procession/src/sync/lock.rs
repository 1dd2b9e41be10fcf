//! Locks between processes, with nothing behind them: for files, devices, and what else processes
//! share. Used in any process that has a handle, from any thread.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::sync as engine;

use super::lock_error::Recover;
use super::{LockError, deadline, travels};
use crate::Result;

/// A lock between processes: one thread of one process holds it at a time.
///
/// ```
/// use procession::sync::Lock;
/// use procession::Context;
///
/// # fn main() -> procession::Result<()> {
/// let lock = Lock::new()?;
/// let print = |(lock, line): (Lock, String)| {
///     let _locked = lock.lock().unwrap();
///     println!("{line}");
/// };
/// # let ctx = Context::fork();
/// let mut process = ctx.process(print, (lock.clone(), "alone".to_owned())).start()?;
/// process.join()?;
/// # Ok(()) }
/// ```
///
/// **Difference from `multiprocessing.Lock`:** it belongs to the thread that locked it, and a guard
/// unlocks it; so an owner's death is noticed. A thread that locks it twice gets an error and does
/// not hang.
pub type Lock = OwnerLock<{ engine::Lock::KIND }>;

/// A [`Lock`] that the thread that holds it may lock again; it is free when all guards are dropped.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let lock = procession::sync::RLock::new()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?;
/// # drop((outer, inner));
/// # Ok(()) }
/// ```
pub type RLock = OwnerLock<{ engine::RLock::KIND }>;

/// A hold of a [`Lock`], until it is dropped.
pub type LockGuard<'a> = OwnerGuard<'a, { engine::Lock::KIND }>;

/// A hold of an [`RLock`], until it is dropped.
pub type RLockGuard<'a> = OwnerGuard<'a, { engine::RLock::KIND }>;

/// A lock that belongs to the thread that locked it: a [`Lock`] or an [`RLock`].
pub struct OwnerLock<const KIND: u32> {
    pub(super) engine: Arc<engine::OwnerLock<KIND>>,
}

impl<const KIND: u32> OwnerLock<KIND> {
    const NAME: &'static str = if KIND == engine::RLock::KIND { "RLock" } else { "Lock" };

    /// Makes a lock that nobody holds.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let lock = procession::sync::Lock::new()?;
    /// assert!(lock.try_lock()?.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> Result<Self> {
        Ok(OwnerLock { engine: Arc::new(engine::made(engine::OwnerLock::create(), Self::NAME)?) })
    }

    /// Locks it. Waits while another holds it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let lock = procession::sync::Lock::new()?;
    /// let guard = lock.lock()?;
    /// // ... alone among all processes that have the lock ...
    /// drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: the error holds the lock. [`LockError::is_invalid`]: this
    /// thread holds it already, and it is no [`RLock`].
    #[inline]
    pub fn lock(&self) -> Result<OwnerGuard<'_, KIND>, LockError<OwnerGuard<'_, KIND>>> {
        self.lock_until(None)
    }

    /// Locks it as [`lock`](Self::lock), but waits for no longer than `timeout`.
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
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), and [`LockError::is_timeout`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<OwnerGuard<'_, KIND>, LockError<OwnerGuard<'_, KIND>>> {
        self.lock_until(deadline(timeout))
    }

    /// Locks it if nobody else holds it.
    ///
    /// ```
    /// use procession::{Process, sync::Lock};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let guard = lock.lock()?;
    /// let is_held = || lock.try_lock().is_ok_and(|guard| guard.is_none());
    /// assert!(Process::fork(is_held).start()?.join()?);
    /// # drop(guard);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<Option<OwnerGuard<'_, KIND>>, LockError<OwnerGuard<'_, KIND>>> {
        match self.engine.try_lock().map_err(refused)? {
            Some(acquired) => LockError::judge(self.guard(), acquired, Self::NAME).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn lock_until(
        &self,
        deadline: Option<Instant>,
    ) -> Result<OwnerGuard<'_, KIND>, LockError<OwnerGuard<'_, KIND>>> {
        let acquired = self.engine.lock(deadline).map_err(refused)?;
        LockError::judge(self.guard(), acquired, Self::NAME)
    }

    #[inline]
    fn guard(&self) -> OwnerGuard<'_, KIND> {
        OwnerGuard { lock: self, not_send: PhantomData }
    }
}

travels!(OwnerLock<const KIND: u32>, Self::NAME);

impl<const KIND: u32> fmt::Debug for OwnerLock<KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(Self::NAME).field("locked", &self.engine.is_held()).finish()
    }
}

/// A hold of an [`OwnerLock`], until it is dropped: a [`LockGuard`] or an [`RLockGuard`].
#[must_use = "dropped, it unlocks"]
pub struct OwnerGuard<'a, const KIND: u32> {
    pub(super) lock: &'a OwnerLock<KIND>,
    /// The lock is the thread's, as std's are.
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl<const KIND: u32> Recover for OwnerGuard<'_, KIND> {
    fn recover(&self) {
        self.lock.engine.recover();
    }
}

impl<const KIND: u32> Drop for OwnerGuard<'_, KIND> {
    #[inline]
    fn drop(&mut self) {
        self.lock.engine.unlock();
    }
}

impl<const KIND: u32> fmt::Debug for OwnerGuard<'_, KIND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Guard {{ .. }}", OwnerLock::<KIND>::NAME)
    }
}

fn refused<G>(refused: engine::Refused) -> LockError<G> {
    LockError::failed(engine::refused("lock", "the lock was free")(refused))
}
