//! Authentications of those who connect to one listener, several at a time: each runs in a thread of its own, by its own
//! deadline, so that a peer that says nothing keeps nobody else waiting. Whoever calls `accept` takes the first that is
//! over.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::per_process::fork_generation;
use procession_sys::poller::{self, Poller, Waker};
use procession_sys::thread::spawn_engine_thread;

use super::Connection;
use super::authentication::{self, Key};
use super::listener::Address;
use crate::{Error, Result};

/// So many peers at most are authenticated at a time; the next ones wait in the listener's backlog.
const MAX_AT_ONCE: usize = 64;

/// A peer whose authentication is over.
pub(super) type Admitted = (Result<Connection>, Option<Address>);

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
    /// Readable when a peer connects or an authentication is over.
    news: Poller,
    /// A process forked from the one that listens has none of its threads, and must not meet their lock.
    generation: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    over: Waker,
}

#[derive(Debug, Default)]
struct State {
    over: VecDeque<Admitted>,
    at_work: usize,
}

impl Admission {
    /// For the peers of a listening socket.
    pub(super) fn new(socket: BorrowedFd<'_>) -> std::io::Result<Admission> {
        let (news, over) = (Poller::new()?, Waker::new()?);
        news.add(socket, 0)?;
        news.add(over.as_fd(), 1)?;
        let shared = Arc::new(Shared { state: Mutex::default(), over });
        Ok(Admission { shared, news, generation: fork_generation() })
    }

    /// Readable when a peer connects or an authentication is over.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Whether this process is the one that listens, which has the threads.
    pub(super) fn is_own(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Returns one whose authentication is over; `None` if there is none, but perhaps a peer that has connected.
    pub(super) fn wait(&self, socket: BorrowedFd<'_>) -> Result<Option<Admitted>> {
        let has_room = {
            let mut state = self.shared.state();
            if let Some(admitted) = state.over.pop_front() {
                if state.over.is_empty() {
                    self.shared.over.drain().map_err(Error::os("cannot accept a connection"))?;
                }
                return Ok(Some(admitted));
            }
            state.at_work < MAX_AT_ONCE
        };
        let over = self.shared.over.as_fd();
        let fds = if has_room { &[over, socket][..] } else { &[over][..] };
        poller::wait_readable(fds, None).map_err(Error::os("cannot wait for a connection"))?;
        Ok(None)
    }

    /// Authenticates a peer that has connected, meanwhile.
    pub(super) fn authenticate(
        &self,
        connection: Connection,
        peer: Option<Address>,
        key: Key,
        time: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + time;
        let shared = self.shared.clone();
        shared.state().at_work += 1;
        let begun = spawn_engine_thread("authentication", move || {
            let admitted = authentication::accept(&connection, &key, deadline).map(|()| connection);
            let mut state = shared.state();
            state.at_work -= 1;
            state.over.push_back((admitted, peer));
            // Under the lock, so that it stays readable for as long as one is there. Refused only for want of memory.
            let _ = shared.over.wake();
        });
        let begun = begun.map(drop).map_err(Error::os("cannot start the thread that authenticates a peer"));
        begun.inspect_err(|_| self.shared.state().at_work -= 1)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
