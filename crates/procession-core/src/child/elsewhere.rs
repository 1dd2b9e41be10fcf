//! A child on another machine, as a thread of this process knows it that stands for it: see
//! [`carried`](crate::pool::carried). Everything that a local child's pidfd is for goes by this: it
//! is told signals, and says when the child has ended and how.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use procession_sys::poller::Waker;
use procession_sys::{ExitStatus, Signal};

use super::end::End;
use crate::{Error, Result};

/// See the module.
pub struct Elsewhere {
    place: RwLock<(u32, Arc<str>)>,
    /// Lit once it has ended, for ever.
    sentinel: Waker,
    end: OnceLock<End>,
    /// The signal that is to end it; 0 for none.
    signal: AtomicI32,
    on_signal: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Elsewhere {
    /// A child that has been started on that host, or is about to be: then its pid is 0 until it
    /// [has begun](Elsewhere::begin).
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn new(pid: u32, host: Arc<str>) -> Result<Elsewhere> {
        let sentinel = Waker::new().map_err(Error::os("cannot make the sentinel of a worker"))?;
        let (end, on_signal) = (OnceLock::new(), OnceLock::new());
        let place = RwLock::new((pid, host));
        Ok(Elsewhere { place, sentinel, end, signal: AtomicI32::new(0), on_signal })
    }

    /// Notes where it has begun.
    pub fn begin(&self, pid: u32, host: Arc<str>) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = (pid, host);
    }

    /// Its process id there; 0 before it has begun.
    pub fn pid(&self) -> u32 {
        self.place().0
    }

    /// The name of the machine.
    pub fn host(&self) -> Arc<str> {
        self.place().1
    }

    fn place(&self) -> (u32, Arc<str>) {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has `act` run when it is told to end. The first counts.
    pub(crate) fn on_signal(&self, act: Box<dyn Fn() + Send + Sync>) {
        let _ = self.on_signal.set(act);
        if self.signal().is_some() {
            self.run_on_signal();
        }
    }

    /// The signal that is to end it, if it was sent one.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// Tells it to end by a signal; `false` if it has ended. Only such signals can be sent as
    /// the default for which is death.
    pub(super) fn send(&self, signal: Signal) -> bool {
        if self.end.get().is_some() {
            return false;
        }
        // The first counts, as it is what ends the child.
        if self.signal.compare_exchange(0, signal.as_raw(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.run_on_signal();
        }
        true
    }

    /// Has it killed, by the thread that stands for it.
    pub(crate) fn send_kill(&self) {
        self.send(Signal::KILL);
    }

    fn run_on_signal(&self) {
        if let Some(act) = self.on_signal.get() {
            act();
        }
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.get()
    }

    pub(super) fn sentinel(&self) -> BorrowedFd<'_> {
        self.sentinel.as_fd()
    }

    /// Says how it has ended. The first counts. A signal that it was sent is what ended it.
    pub(crate) fn finish(&self, end: End) {
        let status = self.signal().map(ExitStatus::signaled).or(end.status);
        if self.end.set(End { status, ..end }).is_ok() {
            // Refused only if the counter is full, and so lit.
            let _ = self.sentinel.wake();
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, host) = self.place();
        f.debug_struct("Elsewhere").field("pid", &pid).field("host", &host).field("end", &self.end).finish()
    }
}
