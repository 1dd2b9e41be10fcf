//! A link that its process can close while others of it hold it. Used in the parent by the thread
//! that starts, and in a forked child, which closes its copies of its parent's ends: on those ends
//! the lives of the parent's children depend.

use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_sys::link::Link;

/// See the module.
#[derive(Debug)]
pub struct ClosableLink(Mutex<Option<Link>>);

impl ClosableLink {
    /// The link, which is open.
    pub fn new(link: Link) -> ClosableLink {
        ClosableLink(Mutex::new(Some(link)))
    }

    /// Calls `act` with the link, which nobody closes meanwhile. `None` if it is closed. A process
    /// that is forked while `act` runs cannot close its copy.
    pub fn using<R>(&self, act: impl FnOnce(&Link) -> R) -> Option<R> {
        self.locked().as_ref().map(act)
    }

    /// Takes the link; `None` if it is closed.
    pub fn take(&self) -> Option<Link> {
        self.locked().take()
    }

    /// In a forked child: closes its copy. A thread that does not exist there may hold the lock;
    /// then the copy stays.
    pub fn disown(&self) {
        if let Ok(mut link) = self.0.try_lock() {
            *link = None;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
