//! The messages of agents, for the worker that each is for. Used in the driver: put there by the
//! thread that receives, taken out by the thread of the worker.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use procession_core::pool::carried::Told;
use procession_core::wire::Reader;

use super::lock;
use super::message::ENDED;

/// The mailboxes of all workers of one cluster.
#[derive(Default)]
pub(crate) struct Mailboxes {
    open: Mutex<HashMap<u64, Arc<Mailbox>>>,
    last_worker: AtomicU64,
    /// The reason for which the cluster cannot be used any more.
    failure: OnceLock<String>,
}

/// The messages for one worker.
#[derive(Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    news: Condvar,
    /// The way to tell a worker that its process has ended.
    told: OnceLock<Arc<Told>>,
    has_ended: AtomicBool,
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Vec<u8>>,
    /// Its thread is to look.
    is_called: bool,
    /// Its thread is to wait no more.
    is_over: bool,
}

/// The end of a wait for a message.
pub(crate) enum Waited {
    /// A message: its kind, and all its bytes.
    Message(Vec<u8>),
    /// The worker was killed.
    Over,
    /// The cluster cannot be used any more.
    Failed,
}

impl Mailboxes {
    /// A number that no other worker has, and its mailbox.
    pub(super) fn open(&self) -> (u64, Arc<Mailbox>) {
        let worker = self.last_worker.fetch_add(1, Ordering::Relaxed) + 1;
        let mailbox = Arc::<Mailbox>::default();
        lock(&self.open).insert(worker, mailbox.clone());
        (worker, mailbox)
    }

    /// Has messages for this worker dropped from now on.
    pub(super) fn close(&self, worker: u64) {
        lock(&self.open).remove(&worker);
    }

    /// Returns the reason for which the cluster cannot be used any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Returns a message that has come, or the reason to wait no more.
    pub(crate) fn look(&self, mailbox: &Mailbox) -> Option<Waited> {
        let mut inner = mailbox.inner();
        if inner.is_over {
            return Some(Waited::Over);
        }
        let message = inner.messages.pop_front().map(Waited::Message);
        message.or_else(|| self.failure.get().map(|_| Waited::Failed))
    }

    /// Puts a message into the mailbox that it is for.
    pub(crate) fn deliver(&self, message: Vec<u8>) {
        let mut reader = Reader(&message);
        let (Some(kind), Some(worker)) = (reader.u8(), reader.u64()) else { return };
        let mailbox = lock(&self.open).get(&worker).cloned();
        // Without one the worker was killed.
        if let Some(mailbox) = mailbox {
            mailbox.put(kind, message);
        }
    }

    /// The cluster cannot be used any more: every worker ends. The first reason counts.
    pub(crate) fn fail(&self, why: String) {
        if self.failure.set(why).is_ok() {
            for mailbox in lock(&self.open).values() {
                // Under the lock, so that its thread is not between its look and its sleep.
                drop(mailbox.inner());
                mailbox.news.notify_all();
                mailbox.tell_end();
            }
        }
    }
}

impl Mailbox {
    /// Has `told` tell the worker of this mailbox that its process has ended; at once if it has.
    pub(super) fn set_told(&self, told: Arc<Told>) {
        // Set once: a mailbox is one worker's.
        let _ = self.told.set(told);
        if self.has_ended.load(Ordering::SeqCst) {
            self.tell_end();
        }
    }

    /// Has the thread that waits here wait no more.
    pub(super) fn end_wait(&self) {
        self.inner().is_over = true;
        self.news.notify_all();
    }

    /// Has the thread that waits here look.
    #[cfg(feature = "mpi")]
    pub(crate) fn call(&self) {
        self.inner().is_called = true;
        self.news.notify_all();
    }

    /// Sleeps until there is something to look at.
    pub(crate) fn sleep(&self) {
        /// Nobody relies on it: a bound for what is not thought of.
        const BACKSTOP: Duration = Duration::from_millis(100);
        let mut inner = self.inner();
        if inner.messages.is_empty() && !inner.is_over && !inner.is_called {
            inner = self.news.wait_timeout(inner, BACKSTOP).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.is_called = false;
    }

    fn put(&self, kind: u8, message: Vec<u8>) {
        self.inner().messages.push_back(message);
        self.news.notify_all();
        if kind == ENDED {
            self.tell_end();
        }
    }

    fn tell_end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        if let Some(told) = self.told.get() {
            told.tell_end();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}
