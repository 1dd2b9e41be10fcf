//! Requests of a face to a pool as a whole. In the parent: set by any thread, read by the pool's
//! own.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A face's callback at the end of a pool.
pub type EndCallback = Box<dyn FnOnce() + Send>;
/// The function by which a face has the program's threads come by.
pub type VacancyCallback = Box<dyn Fn() + Send + Sync>;

/// The callbacks at the pool's end.
#[derive(Default)]
struct AtEnd {
    callbacks: Vec<EndCallback>,
    /// They have run, or are running.
    has_come: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Hooks {
    idle_limit: OnceLock<Duration>,
    has_no_retries: AtomicBool,
    at_end: Mutex<AtEnd>,
    on_vacancy: OnceLock<VacancyCallback>,
}

impl Hooks {
    /// Returns the time for which the pool may be without tasks before it closes by itself.
    pub(super) fn idle_limit(&self) -> Option<Duration> {
        self.idle_limit.get().copied()
    }

    /// Sets the limit, unless there is one.
    pub(super) fn set_idle_limit(&self, limit: Duration) {
        let _ = self.idle_limit.set(limit);
    }

    /// Returns whether tasks whose worker is lost are not run again, whatever their terms are.
    pub(super) fn has_no_retries(&self) -> bool {
        self.has_no_retries.load(Ordering::SeqCst)
    }

    pub(super) fn end_retries(&self) {
        self.has_no_retries.store(true, Ordering::SeqCst);
    }

    /// Sets how the program's threads are asked to come by, unless that is known.
    pub(super) fn set_vacancy_callback(&self, callback: VacancyCallback) {
        let _ = self.on_vacancy.set(callback);
    }

    /// Asks the program's threads to come by. Under no lock.
    pub(super) fn ask_for_workers(&self) {
        if let Some(callback) = self.on_vacancy.get() {
            callback();
        }
    }

    /// Has `callback` run at the end; if that has come, it is returned.
    pub(super) fn add_end_callback(&self, callback: EndCallback) -> Option<EndCallback> {
        let mut at_end = self.at_end();
        if at_end.has_come {
            return Some(callback);
        }
        at_end.callbacks.push(callback);
        None
    }

    /// The end has come: runs what was to be run then. Under no lock.
    pub(super) fn run_end_callbacks(&self) {
        let callbacks = {
            let mut at_end = self.at_end();
            at_end.has_come = true;
            mem::take(&mut at_end.callbacks)
        };
        callbacks.into_iter().for_each(|callback| callback());
    }

    fn at_end(&self) -> MutexGuard<'_, AtEnd> {
        self.at_end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("idle_limit", &self.idle_limit).finish_non_exhaustive()
    }
}
