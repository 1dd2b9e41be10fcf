//! A file descriptor that is readable while a queue holds items, for poll loops; made on demand, by
//! the process that polls.
//!
//! An engine thread of that process watches the queue at its gate, where it learns of items as a
//! consumer does, and by itself if their producer died before it woke anybody. It makes an eventfd
//! readable and rests until a consumer of this process finds the queue empty:
//!
//! ```text
//!          items or end                    a get leaves it empty
//! watching ────────────▶ lit, at rest ───────────────────────────▶ watching
//! ```
//!
//! A `put` waits for the light where there is none (see [`procession_shm::Queue`]): who polls for
//! items and for the ends of processes finds what a process has put no later than its end.
//!
//! A wake of the thread was perhaps meant for a consumer elsewhere, so the thread passes the wake
//! on. When consumers elsewhere take the items, the fd stays readable until a `get` of this process
//! has found none.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use procession_shm as shm;
use procession_sys::per_process::PerProcess;
use procession_sys::poller::Waker;
use procession_sys::thread;

use crate::{Error, Result};

/// Those of this process, by the queue's [`key`](super::Queue::key): a forked child has none of its
/// parent's.
static ALL: PerProcess<Mutex<HashMap<u64, Arc<Readable>>>> = PerProcess::new(Mutex::default);

/// An fd that is readable while its queue holds items, or is closed. Found readable although there
/// is no item: another process took it first, and a `get` that does not wait mends it.
#[derive(Debug)]
pub struct Readable {
    queue: Arc<shm::Queue>,
    waker: Waker,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The thread watches the queue.
    Watching,
    /// The fd is readable, and the thread rests.
    Lit,
    /// Nobody wants it any more.
    Over,
}

impl Readable {
    /// The one of the queue in this process.
    pub(super) fn of(key: u64, queue: &Arc<shm::Queue>) -> Result<Arc<Readable>> {
        let mut all = all();
        if let Some(readable) = all.get(&key) {
            return Ok(readable.clone());
        }
        let waker = Waker::new().map_err(Error::os("cannot make a file descriptor for a queue"))?;
        let state = Mutex::new(State::Watching);
        let readable = Arc::new(Readable { queue: queue.clone(), waker, state, changed: Condvar::new() });
        queue.darken();
        let watcher = readable.clone();
        thread::spawn_engine_thread("procession-queue", move || watcher.watch())
            .map_err(Error::os("cannot start the thread that watches a queue"))?;
        all.insert(key, readable.clone());
        Ok(readable)
    }

    /// After a `get`, in a process that may have one.
    pub(super) fn look(key: u64) {
        let readable = all().get(&key).cloned();
        if let Some(readable) = readable {
            readable.look_again();
        }
    }

    /// The queue is dropped in this process.
    pub(super) fn end(key: u64) {
        let Some(readable) = all().remove(&key) else { return };
        *readable.state() = State::Over;
        readable.queue.unwatch();
        readable.changed.notify_all();
        readable.queue.wake(u32::MAX >> 1);
    }

    fn watch(&self) {
        loop {
            self.queue.watch(|| *self.state() == State::Over);
            let mut state = self.state();
            if *state == State::Over {
                return;
            }
            if self.queue.is_empty() && !self.queue.is_closed() {
                // Taken by another meanwhile, who looked before this was lit.
                continue;
            }
            // Refused by no system that has given it out.
            self.waker.wake().expect("an eventfd takes a wake");
            *state = State::Lit;
            self.queue.light();
            self.queue.wake(1);
            while *state == State::Lit {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn look_again(&self) {
        let mut state = self.state();
        if *state == State::Lit && self.queue.is_empty() && !self.queue.is_closed() {
            self.queue.darken();
            if !self.queue.is_empty() {
                // Put meanwhile, by a process that found it lit.
                self.queue.light();
                return;
            }
            self.waker.drain().expect("an eventfd can be drained");
            *state = State::Watching;
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Readable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

fn all() -> MutexGuard<'static, HashMap<u64, Arc<Readable>>> {
    ALL.get().lock().unwrap_or_else(PoisonError::into_inner)
}
