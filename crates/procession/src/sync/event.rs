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
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> Result<Event> {
        Ok(Event { engine: Arc::new(engine::made(engine::Event::create(), "Event")?) })
    }

    /// Sets it, and wakes all who wait.
    pub fn set(&self) {
        self.engine.set();
    }

    /// Clears it.
    pub fn clear(&self) {
        self.engine.clear();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.engine.is_set()
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        self.engine.wait(None);
    }

    /// Waits until it is set, for no longer than `timeout`; says whether it was.
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
