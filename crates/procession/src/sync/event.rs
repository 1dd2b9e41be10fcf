//! Events between processes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procession_core::sync as engine;

use super::{deadline, travels};
use crate::Result;

/// A flag that processes set, clear and wait for.
///
/// A set wakes all who wait at that moment, even if it is cleared at once. Nobody who was killed is
/// waited for.
///
/// ```
/// use procession::Process;
/// use procession::sync::Event;
///
/// # fn main() -> procession::Result<()> {
/// let ready = Event::new()?;
/// let mut process = Process::fork(|| ready.set()).start()?;
/// ready.wait();
/// assert!(ready.is_set());
/// # process.join()
/// # }
/// ```
pub struct Event {
    engine: Arc<engine::Event>,
}

impl Event {
    /// A new one, which is clear.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert!(!procession::sync::Event::new()?.is_set());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> Result<Event> {
        Ok(Event { engine: Arc::new(engine::made(engine::Event::create(), "Event")?) })
    }

    /// Sets it, and wakes all who wait.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let ready = procession::sync::Event::new()?;
    /// ready.set();
    /// ready.wait(); // returns at once
    /// # Ok(()) }
    /// ```
    pub fn set(&self) {
        self.engine.set();
    }

    /// Clears it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let ready = procession::sync::Event::new()?;
    /// ready.set();
    /// ready.clear();
    /// assert!(!ready.is_set());
    /// # Ok(()) }
    /// ```
    pub fn clear(&self) {
        self.engine.clear();
    }

    /// Returns whether the event is set.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let ready = procession::sync::Event::new()?;
    /// assert!(!ready.is_set());
    /// # Ok(()) }
    /// ```
    pub fn is_set(&self) -> bool {
        self.engine.is_set()
    }

    /// Waits until it is set.
    ///
    /// ```
    /// use procession::{Process, sync::Event};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let ready = Event::new()?;
    /// let mut other = Process::fork(|| ready.set()).start()?;
    /// ready.wait();
    /// other.join()?;
    /// # Ok(()) }
    /// ```
    pub fn wait(&self) {
        self.engine.wait(None);
    }

    /// Waits until it is set, for no longer than `timeout`; says whether it was.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let ready = procession::sync::Event::new()?;
    /// assert!(!ready.wait_timeout(Duration::from_millis(1)));
    /// # Ok(()) }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.engine.wait(deadline(timeout))
    }
}

travels!(Event, "Event");

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish()
    }
}
