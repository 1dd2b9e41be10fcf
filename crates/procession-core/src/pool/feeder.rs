//! A feeder: who submits a job bit by bit, and began before the pool was closed. It may go on until it is done, and the
//! pool's workers stay as long as there is one. Used in the thread that submits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use procession_sys::image::Entry;

use super::items::Items;
use super::job::Terms;
use super::{Handle, OPEN, Pool, Shared};
use crate::Result;

/// See the module. Dropping it says that nothing more will come.
pub struct Feeder {
    shared: Arc<Shared>,
}

impl Pool {
    /// Leave to submit from now on, whether or not the pool is closed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`submit`](Pool::submit).
    pub fn feeder(&self) -> Result<Feeder> {
        self.shared.check_owner("Pool")?;
        // Counted before the look at the state; `close` looks at the count after. One of the two sees the other.
        self.shared.feeders.fetch_add(1, Ordering::SeqCst);
        let feeder = Feeder { shared: self.shared.clone() };
        self.shared.check_open()?;
        Ok(feeder)
    }
}

impl Feeder {
    /// As [`Pool::items`].
    ///
    /// # Errors
    ///
    /// As [`Pool::items`].
    pub fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E> {
        Items::encoded(&self.shared, capacity, encode)
    }

    /// As [`Pool::submit`].
    ///
    /// # Errors
    ///
    /// As [`Pool::submit`], but for a pool that is closed.
    pub fn submit(&self, entry: Entry, items: Items, terms: Terms) -> Result<Handle> {
        self.shared.check_owner("Pool")?;
        self.shared.refill_if_mine();
        let job = self.shared.submit(entry, items, terms, true)?;
        Ok(Handle { shared: self.shared.clone(), job })
    }

    /// Whether the pool takes nothing from others any more.
    pub fn is_closed(&self) -> bool {
        self.shared.state() != OPEN
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.feeders.fetch_sub(1, Ordering::SeqCst);
        if self.is_closed() && self.shared.check_owner("Pool").is_ok() {
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

impl Shared {
    /// Whether somebody is not done with submitting.
    pub(super) fn is_fed(&self) -> bool {
        self.feeders.load(Ordering::SeqCst) > 0
    }
}
