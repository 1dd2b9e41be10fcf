//! Semaphores between processes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sync as engine;

use super::{deadline, travels};
use crate::Result;

/// A number of permits, which processes take and give back.
///
/// A permit is bound to nobody: any process may give back what another took. So a process that is killed with a permit
/// takes it along; where that must not be, use a [`Lock`](super::Lock).
///
/// ```
/// use procession::sync::Semaphore;
///
/// # fn main() -> procession::Result<()> {
/// let downloads = Semaphore::new(2)?;
/// downloads.acquire();
/// assert!(downloads.try_acquire() && !downloads.try_acquire());
/// downloads.release()?;
/// assert_eq!(downloads.value(), 1);
/// # Ok(()) }
/// ```
pub struct Semaphore {
    engine: Arc<engine::Semaphore>,
}

impl Semaphore {
    /// One of this many permits; it may get more.
    ///
    /// # Errors
    ///
    /// If the system refuses; for 2^31 permits or more ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn new(permits: u32) -> Result<Semaphore> {
        let engine = engine::Semaphore::create(permits, engine::Semaphore::MAX_PERMITS);
        Ok(Semaphore { engine: Arc::new(engine::made(engine, "Semaphore")?) })
    }

    /// Takes a permit; waits for one.
    pub fn acquire(&self) {
        // Without a deadline only a permit ends it.
        let _ = self.engine.acquire(None);
    }

    /// Takes a permit; waits for one, for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`](crate::Error::is_timeout).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.engine.acquire(deadline(timeout)).map_err(engine::refused("Semaphore", "there was a permit"))?)
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> bool {
        self.engine.try_acquire()
    }

    /// Gives a permit back.
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) if there are 2^31 - 1 permits.
    pub fn release(&self) -> Result<()> {
        self.release_many(1)
    }

    /// Gives this many permits back.
    ///
    /// # Errors
    ///
    /// As [`release`](Semaphore::release); then none is given.
    pub fn release_many(&self, permits: u32) -> Result<()> {
        Ok(self.engine.release(permits).map_err(engine::refused("Semaphore", "it was released"))?)
    }

    /// How many permits there are now.
    pub fn value(&self) -> u32 {
        self.engine.value()
    }
}

travels!(Semaphore, "Semaphore");

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("value", &self.value()).finish()
    }
}

/// A [`Semaphore`] that never has more permits than at first: to give back what was not taken is an error.
pub struct BoundedSemaphore {
    engine: Arc<engine::Semaphore>,
}

impl BoundedSemaphore {
    /// One of this many permits.
    ///
    /// # Errors
    ///
    /// As [`Semaphore::new`].
    pub fn new(permits: u32) -> Result<BoundedSemaphore> {
        let engine = engine::Semaphore::create(permits, permits);
        Ok(BoundedSemaphore { engine: Arc::new(engine::made(engine, "BoundedSemaphore")?) })
    }

    /// Takes a permit; waits for one.
    pub fn acquire(&self) {
        // Without a deadline only a permit ends it.
        let _ = self.engine.acquire(None);
    }

    /// Takes a permit; waits for one, for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`](crate::Error::is_timeout).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.engine.acquire(deadline(timeout)).map_err(engine::refused("BoundedSemaphore", "there was a permit"))?)
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> bool {
        self.engine.try_acquire()
    }

    /// Gives a permit back.
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) if none was taken.
    pub fn release(&self) -> Result<()> {
        self.release_many(1)
    }

    /// Gives this many permits back.
    ///
    /// # Errors
    ///
    /// As [`release`](BoundedSemaphore::release); then none is given.
    pub fn release_many(&self, permits: u32) -> Result<()> {
        Ok(self.engine.release(permits).map_err(engine::refused("BoundedSemaphore", "it was released"))?)
    }

    /// How many permits there are now.
    pub fn value(&self) -> u32 {
        self.engine.value()
    }
}

travels!(BoundedSemaphore, "BoundedSemaphore");

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore").field("value", &self.value()).finish()
    }
}
