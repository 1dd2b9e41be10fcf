//! Barriers between processes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_core::sync as engine;

use super::{deadline, travels};
use crate::Result;

/// A number of parties that wait for each other, as often as they like.
///
/// A party is whoever waits. When a process is killed that waits, or that has waited before and
/// still has the barrier, it **breaks**: those who wait are told, within 2 s at most, and whoever
/// waits from then on, until it is reset. A process that ends in an orderly way breaks nothing.
///
/// ```
/// use procession::Process;
/// use procession::sync::Barrier;
///
/// # fn main() -> procession::Result<()> {
/// let barrier = Barrier::new(2)?;
/// let mut process = Process::fork(|| barrier.wait().is_ok()).start()?;
/// barrier.wait()?;
/// assert!(process.join()?);
/// # Ok(()) }
/// ```
pub struct Barrier {
    engine: Arc<engine::Barrier>,
}

impl Barrier {
    /// A new one for this many parties.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// assert!(barrier.wait()?.is_leader());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses; for no parties or more than 65,536
    /// ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn new(parties: u32) -> Result<Barrier> {
        Ok(Barrier { engine: Arc::new(engine::made(engine::Barrier::create(parties), "Barrier")?) })
    }

    /// Waits until all parties do.
    ///
    /// ```
    /// use procession::{Process, sync::Barrier};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let barrier = Barrier::new(2)?;
    /// let mut other = Process::fork(|| barrier.wait().is_ok()).start()?;
    /// barrier.wait()?; // both are here
    /// assert!(other.join()?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_barrier_broken`](crate::Error::is_barrier_broken).
    pub fn wait(&self) -> Result<BarrierWaitResult> {
        self.wait_until(None)
    }

    /// As [`wait`](Barrier::wait), for no longer than `timeout`. If that runs out the barrier
    /// breaks for all, as in Python.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// assert!(barrier.wait_timeout(Duration::from_millis(1)).is_err());
    /// assert!(barrier.is_broken(), "nobody is to wait for one that has left");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Barrier::wait), and [`Error::is_timeout`](crate::Error::is_timeout).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult> {
        self.wait_until(deadline(timeout))
    }

    /// Makes it whole and empty. Waiters get the error that it is broken.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// barrier.abort()?;
    /// barrier.reset()?;
    /// barrier.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If its shared memory cannot be used.
    pub fn reset(&self) -> Result<()> {
        Ok(self.engine.reset().map_err(engine::refused("Barrier", "it was reset"))?)
    }

    /// Breaks it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// barrier.abort()?;
    /// assert!(barrier.wait().unwrap_err().is_barrier_broken());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If its shared memory cannot be used.
    pub fn abort(&self) -> Result<()> {
        Ok(self.engine.abort().map_err(engine::refused("Barrier", "it was aborted"))?)
    }

    /// Returns whether the barrier is broken.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(2)?;
    /// assert!(!barrier.is_broken());
    /// barrier.abort()?;
    /// assert!(barrier.is_broken());
    /// # Ok(()) }
    /// ```
    pub fn is_broken(&self) -> bool {
        self.engine.is_broken()
    }

    /// Returns the number of parties that the barrier is for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::sync::Barrier::new(3)?.parties(), 3);
    /// # Ok(()) }
    /// ```
    pub fn parties(&self) -> u32 {
        self.engine.parties()
    }

    /// Returns the number of parties that wait now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::sync::Barrier::new(3)?.n_waiting(), 0);
    /// # Ok(()) }
    /// ```
    pub fn n_waiting(&self) -> u32 {
        self.engine.waiting()
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<BarrierWaitResult> {
        let waited = self.engine.wait(deadline);
        Ok(waited.map(BarrierWaitResult).map_err(engine::refused("Barrier", "all parties waited"))?)
    }
}

travels!(Barrier, "Barrier");

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Barrier");
        shown.field("parties", &self.parties()).field("waiting", &self.n_waiting()).field("broken", &self.is_broken());
        shown.finish()
    }
}

/// The party that a wait was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarrierWaitResult(u32);

impl BarrierWaitResult {
    /// Returns whether this is the one party of each round that is to do what only one should.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// if barrier.wait()?.is_leader() {
    ///     println!("what one of them is to do");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_leader(&self) -> bool {
        self.0 == 0
    }

    /// From 0 to one less than there are parties, each once in a round.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// assert_eq!(barrier.wait()?.index(), 0);
    /// # Ok(()) }
    /// ```
    pub fn index(&self) -> u32 {
        self.0
    }
}
