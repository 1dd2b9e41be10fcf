//! Locks between processes, with nothing behind them: for files, devices, and what else processes share.

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
/// **Difference from `multiprocessing.Lock`:** it belongs to the thread that locked it, and a guard unlocks it; so an owner's
/// death is noticed. A thread that locks it twice gets an error and does not hang.
pub struct Lock {
    pub(super) engine: Arc<engine::Lock>,
}

impl Lock {
    /// A new one, which nobody holds.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> Result<Lock> {
        Ok(Lock { engine: Arc::new(engine::made(engine::Lock::create(), "Lock")?) })
    }

    /// Locks it; waits for who holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: the error holds the lock. [`LockError::is_invalid`]: this thread holds it already.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(None)
    }

    /// As [`lock`](Lock::lock), waiting for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Lock::lock), and [`LockError::is_timeout`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        self.lock_until(deadline(timeout))
    }

    /// Locks it if nobody else holds it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Lock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<Option<LockGuard<'_>>, LockError<LockGuard<'_>>> {
        match self.engine.try_lock().map_err(refused)? {
            Some(acquired) => LockError::judge(self.guard(), acquired, "Lock").map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn lock_until(&self, deadline: Option<Instant>) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        let acquired = self.engine.lock(deadline).map_err(refused)?;
        LockError::judge(self.guard(), acquired, "Lock")
    }

    #[inline]
    fn guard(&self) -> LockGuard<'_> {
        LockGuard { lock: self, not_send: PhantomData }
    }
}

travels!(Lock, "Lock");

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("locked", &self.engine.is_held()).finish()
    }
}

/// A hold of a [`Lock`], until it is dropped.
#[must_use = "dropped, it unlocks"]
pub struct LockGuard<'a> {
    pub(super) lock: &'a Lock,
    /// The lock is the thread's, as std's are.
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl Recover for LockGuard<'_> {
    fn recover(&self) {
        self.lock.engine.recover();
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.engine.unlock();
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}

/// A [`Lock`] that the thread that holds it may lock again; it is free when all guards are dropped.
pub struct RLock {
    pub(super) engine: Arc<engine::RLock>,
}

impl RLock {
    /// A new one, which nobody holds.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> Result<RLock> {
        Ok(RLock { engine: Arc::new(engine::made(engine::RLock::create(), "RLock")?) })
    }

    /// Locks it; waits for who holds it.
    ///
    /// # Errors
    ///
    /// [`LockError::is_owner_died`]: the error holds the lock.
    #[inline]
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(None)
    }

    /// As [`lock`](RLock::lock), waiting for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lock`](RLock::lock), and [`LockError::is_timeout`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        self.lock_until(deadline(timeout))
    }

    /// Locks it if nobody else holds it.
    ///
    /// # Errors
    ///
    /// As [`lock`](RLock::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<Option<RLockGuard<'_>>, LockError<RLockGuard<'_>>> {
        match self.engine.try_lock().map_err(refused)? {
            Some(acquired) => LockError::judge(self.guard(), acquired, "RLock").map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn lock_until(&self, deadline: Option<Instant>) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        let acquired = self.engine.lock(deadline).map_err(refused)?;
        LockError::judge(self.guard(), acquired, "RLock")
    }

    #[inline]
    fn guard(&self) -> RLockGuard<'_> {
        RLockGuard { lock: self, not_send: PhantomData }
    }
}

travels!(RLock, "RLock");

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock").field("locked", &self.engine.is_held()).finish()
    }
}

/// A hold of a [`RLock`], until it is dropped.
#[must_use = "dropped, it unlocks"]
pub struct RLockGuard<'a> {
    pub(super) lock: &'a RLock,
    /// The lock is the thread's, as std's are.
    not_send: PhantomData<std::sync::MutexGuard<'static, ()>>,
}

impl Recover for RLockGuard<'_> {
    fn recover(&self) {
        self.lock.engine.recover();
    }
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.engine.unlock();
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").finish_non_exhaustive()
    }
}

fn refused<G>(refused: engine::Refused) -> LockError<G> {
    LockError::failed(engine::refused("lock", "the lock was free")(refused))
}
