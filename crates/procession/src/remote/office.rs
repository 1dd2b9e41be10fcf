//! The services of a cluster for pools, and the agents that a pool has of it. Used in the driver,
//! in any thread.

use std::fmt;
use std::sync::Arc;

use super::mailbox::{Mailbox, Mailboxes, Waited};

/// A cluster. An agent is named by a number.
pub(crate) trait Office: Sync {
    /// The messages of its agents.
    fn mailboxes(&self) -> &Mailboxes;

    /// Sends a message to an agent. If the cluster cannot be used any more, whoever waits for an
    /// answer learns that by its mailbox.
    fn send(&self, agent: usize, message: Vec<u8>);

    /// Waits for the next message of a mailbox.
    fn wait(&self, mailbox: &Arc<Mailbox>) -> Waited;

    /// The name of the machine of an agent, as far as is known.
    fn host(&self, agent: usize) -> Arc<str>;

    /// Returns the name of an agent in errors: `rank 3`.
    fn shown(&self, agent: usize) -> String;

    /// Takes so many further agents for a pool, which has `total` with them.
    ///
    /// # Errors
    ///
    /// If there are not as many, with the number that there is.
    fn hire(&self, total: usize, further: usize) -> Result<Vec<usize>, String>;

    /// Takes agents back.
    fn release(&self, agents: Vec<usize>);
}

/// Agents that a pool has, each for one of its slots. They are released when this is dropped.
pub(crate) struct Hired {
    office: &'static dyn Office,
    agents: Vec<usize>,
    /// For each slot: a worker was started there before.
    has_begun: Vec<bool>,
}

impl Hired {
    /// Takes so many agents.
    ///
    /// # Errors
    ///
    /// That of [`Office::hire`].
    pub(super) fn new(office: &'static dyn Office, count: usize) -> Result<Hired, String> {
        let mut hired = Hired { office, agents: Vec::new(), has_begun: Vec::new() };
        hired.reach(count)?;
        Ok(hired)
    }

    /// Returns the agent of a slot. A pool that grows hires another.
    ///
    /// # Errors
    ///
    /// That of [`Office::hire`].
    pub(super) fn agent(&mut self, slot: usize) -> Result<usize, String> {
        self.reach(slot + 1)?;
        Ok(self.agents[slot])
    }

    /// Returns the agent of a slot, and whether its worker is the first there.
    ///
    /// # Errors
    ///
    /// That of [`Office::hire`].
    pub(super) fn begin(&mut self, slot: usize) -> Result<(usize, bool), String> {
        let agent = self.agent(slot)?;
        Ok((agent, !std::mem::replace(&mut self.has_begun[slot], true)))
    }

    fn reach(&mut self, count: usize) -> Result<(), String> {
        let further = count.saturating_sub(self.agents.len());
        if further > 0 {
            self.agents.extend(self.office.hire(count, further)?);
            self.has_begun.resize(self.agents.len(), false);
        }
        Ok(())
    }

    /// Gives the agents back.
    pub(super) fn release(&mut self) {
        self.has_begun.clear();
        let agents = std::mem::take(&mut self.agents);
        if !agents.is_empty() {
            self.office.release(agents);
        }
    }
}

impl fmt::Debug for Hired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hired").field("agents", &self.agents).finish_non_exhaustive()
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        self.release();
    }
}
