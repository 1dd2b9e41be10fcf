//! Semaphores between processes. Used in any process that has a handle, from any thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sync as engine;

use super::{deadline, travels};
use crate::Result;

/// A number of permits, which processes take and give back.
///
/// A permit is bound to nobody: any process may give back what another took. So a process that is
/// killed with a permit takes it along; where that must not be, use a [`Lock`](super::Lock).
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
pub type Semaphore = Permits<false>;

/// A [`Semaphore`] that never has more permits than at first. It is an error to give back a permit
/// that was not taken.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let downloads = procession::sync::BoundedSemaphore::new(2)?;
/// assert!(downloads.release().unwrap_err().is_invalid());
/// # Ok(()) }
/// ```
pub type BoundedSemaphore = Permits<true>;

/// Permits that processes share: a [`Semaphore`] or a [`BoundedSemaphore`].
pub struct Permits<const IS_BOUNDED: bool> {
    engine: Arc<engine::Semaphore>,
}

impl<const IS_BOUNDED: bool> Permits<IS_BOUNDED> {
    const NAME: &'static str = if IS_BOUNDED { "BoundedSemaphore" } else { "Semaphore" };

    /// Makes one with this many permits. A [`Semaphore`] may get more.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(3)?;
    /// assert_eq!(permits.value(), 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses; for 2^31 permits or more
    /// ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn new(permits: u32) -> Result<Self> {
        let most = if IS_BOUNDED { permits } else { engine::Semaphore::MAX_PERMITS };
        let engine = engine::Semaphore::create(permits, most);
        Ok(Permits { engine: Arc::new(engine::made(engine, Self::NAME)?) })
    }

    /// Takes a permit; waits for one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(1)?;
    /// permits.acquire();
    /// // ... with one of the permits ...
    /// permits.release()?;
    /// # Ok(()) }
    /// ```
    pub fn acquire(&self) {
        // Without a deadline only a permit ends it.
        let _ = self.engine.acquire(None);
    }

    /// Takes a permit; waits for one, for no longer than `timeout`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(0)?;
    /// assert!(permits.acquire_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`](crate::Error::is_timeout).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<()> {
        Ok(self.engine.acquire(deadline(timeout)).map_err(engine::refused(Self::NAME, "there was a permit"))?)
    }

    /// Takes a permit if there is one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(1)?;
    /// assert!(permits.try_acquire());
    /// assert!(!permits.try_acquire());
    /// # Ok(()) }
    /// ```
    pub fn try_acquire(&self) -> bool {
        self.engine.try_acquire()
    }

    /// Gives a permit back.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::BoundedSemaphore::new(1)?;
    /// permits.acquire();
    /// permits.release()?;
    /// assert!(permits.release().unwrap_err().is_invalid(), "none is missing");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_invalid`](crate::Error::is_invalid) if there are as many permits as there can
    /// be: 2^31 - 1, or in a [`BoundedSemaphore`] those that it began with.
    pub fn release(&self) -> Result<()> {
        self.release_many(1)
    }

    /// Gives this many permits back.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(0)?;
    /// permits.release_many(5)?;
    /// assert_eq!(permits.value(), 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release); then none is given.
    pub fn release_many(&self, permits: u32) -> Result<()> {
        Ok(self.engine.release(permits).map_err(engine::refused(Self::NAME, "it was released"))?)
    }

    /// Returns how many permits there are now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::sync::Semaphore::new(2)?;
    /// permits.acquire();
    /// assert_eq!(permits.value(), 1);
    /// # Ok(()) }
    /// ```
    pub fn value(&self) -> u32 {
        self.engine.value()
    }
}

travels!(Permits<const IS_BOUNDED: bool>, Self::NAME);

impl<const IS_BOUNDED: bool> fmt::Debug for Permits<IS_BOUNDED> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(Self::NAME).field("value", &self.value()).finish()
    }
}
