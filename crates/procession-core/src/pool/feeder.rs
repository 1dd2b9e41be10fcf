//! A feeder: who submits a job bit by bit, and began before the pool was closed. It may go on until
//! it is done, and the pool's workers stay as long as there is one. Used in the thread that
//! submits.

use std::fmt;
use std::sync::Arc;

use super::chunk::ChunkEntry;
use super::handle::Handle;
use super::items::Items;
use super::job::Terms;
use super::shared::Shared;
use crate::Result;

/// See the module. Dropping it says that nothing more will come.
pub struct Feeder {
    shared: Arc<Shared>,
}

impl Feeder {
    /// Leave to submit from now on, whether or not the pool is closed meanwhile.
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Feeder> {
        shared.lifecycle.check_owner("Pool")?;
        // Its drop counts back, also when the pool is not open.
        shared.lifecycle.add_feeder();
        let feeder = Feeder { shared: shared.clone() };
        shared.lifecycle.check_open()?;
        Ok(feeder)
    }

    /// As [`Pool::items`](super::Pool::items).
    ///
    /// # Errors
    ///
    /// As [`Pool::items`](super::Pool::items).
    pub fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E> {
        Items::encoded(&self.shared, capacity, encode)
    }

    /// As [`Pool::submit`](super::Pool::submit).
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`](super::Pool::submit), but for a pool that is closed.
    pub fn submit(&self, entry: ChunkEntry, items: Items, terms: Terms) -> Result<Handle> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.refill_if_mine();
        let job = self.shared.submit(entry, items, terms, true)?;
        Ok(Handle { shared: self.shared.clone(), job })
    }

    /// Returns whether the pool takes nothing from others any more.
    pub fn is_closed(&self) -> bool {
        !self.shared.lifecycle.is_open()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.lifecycle.remove_feeder();
        if self.is_closed() && self.shared.lifecycle.check_owner("Pool").is_ok() {
            // The last one lets the workers go, and `join` with them.
            self.shared.poke();
            self.shared.announce();
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("closed", &self.is_closed()).finish()
    }
}
