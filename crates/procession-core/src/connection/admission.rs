//! Authentications of peers that connect to one listener, several at a time. Each runs in a thread
//! of its own, by its own deadline, so that a peer that says nothing keeps nobody else waiting. A
//! caller of `accept` takes the first that is over.
//!
//! If as many are authenticated as may be, and one more connects, the oldest of them is given up
//! once it has had [`MIN_TIME`]. So a crowd of silent peers delays an honest one by that time, and
//! not by all of their deadlines.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::per_process::fork_generation;
use procession_sys::poller::{self, Poller, Waker};
use procession_sys::socket;
use procession_sys::thread::spawn_engine_thread;

use super::Connection;
use super::address::Address;
use super::authentication::{self, Key};
use crate::{Error, Result};

/// So many peers at most are authenticated at a time; the next ones wait in the listener's backlog.
const MAX_AT_ONCE: usize = 64;
/// So long each of them may take, whoever waits.
const MIN_TIME: Duration = Duration::from_secs(1);

/// A peer whose authentication is over.
pub(super) type Admitted = (Result<Connection>, Option<Address>);

/// The result of [`Admission::wait`].
#[derive(Debug)]
pub(super) enum News {
    /// A peer whose authentication is over.
    Admitted(Admitted),
    /// Perhaps a peer that has connected.
    Connected,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
    /// Readable when a peer connects or an authentication is over.
    news: Poller,
    /// A process forked from the one that listens has none of its threads, and must not meet their
    /// lock.
    generation: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Readable while an authentication is over or the listener is closed.
    over: Waker,
}

#[derive(Debug, Default)]
struct State {
    over: VecDeque<Admitted>,
    /// Oldest first.
    at_work: VecDeque<AtWork>,
    /// The number of authentications that have begun.
    begun: u64,
    is_closed: bool,
}

/// A peer that is being authenticated.
#[derive(Debug)]
struct AtWork {
    id: u64,
    connection: Arc<Connection>,
    began: Instant,
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

    /// Returns whether this process is the one that listens, which has the threads.
    pub(super) fn is_own(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Waits until an authentication is over, or a peer connects and there is room for it.
    ///
    /// # Errors
    ///
    /// [`Error::ListenerClosed`]; [`Error::Timeout`] if a signal ended the wait ([`interrupt`]).
    pub(super) fn wait(&self, socket: BorrowedFd<'_>) -> Result<News> {
        let refused = || Error::os("cannot wait for a connection");
        loop {
            let oldest = {
                let mut state = self.shared.state();
                if state.is_closed {
                    return Err(Error::ListenerClosed);
                }
                if let Some(admitted) = state.over.pop_front() {
                    if state.over.is_empty() {
                        self.shared.over.drain().map_err(refused())?;
                    }
                    return Ok(News::Admitted(admitted));
                }
                let is_full = state.at_work.len() >= MAX_AT_ONCE;
                state.at_work.front().filter(|_| is_full).map(|oldest| (oldest.id, oldest.began + MIN_TIME))
            };
            let early = oldest.map(|(_, until)| until).filter(|until| *until > Instant::now());
            let over = self.shared.over.as_fd();
            let fds = if early.is_some() { &[over][..] } else { &[over, socket][..] };
            let ready = poller::wait_readable_unless(fds, early, interrupt::ask).map_err(refused())?;
            if interrupt::is_over() {
                return Err(Error::Timeout { what: "a peer connected" });
            }
            if ready == [false, true] {
                if let Some(given_up) = oldest.and_then(|(id, _)| self.shared.state().take(id)) {
                    given_up.end();
                }
                return Ok(News::Connected);
            }
        }
    }

    /// Authenticates a peer that has connected, meanwhile.
    pub(super) fn authenticate(
        &self,
        connection: Connection,
        peer: Option<Address>,
        key: Key,
        time: Duration,
    ) -> Result<()> {
        let connection = Arc::new(connection);
        let (id, began) = self.shared.state().begin(&connection);
        let shared = self.shared.clone();
        let begun = spawn_engine_thread("authentication", move || {
            let authenticated = authentication::accept(&connection, &key, began + time);
            shared.finish(id, connection, authenticated, peer);
        });
        let begun = begun.map(drop).map_err(Error::os("cannot start the thread that authenticates a peer"));
        begun.inspect_err(|_| drop(self.shared.state().take(id)))
    }

    /// Ends every wait and every authentication.
    pub(super) fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        state.at_work.iter().for_each(AtWork::end);
        state.over.clear();
        // For good: nobody drains it any more. Refused only for want of memory.
        let _ = self.shared.over.wake();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the peer of the authentication `id`.
    fn finish(&self, id: u64, connection: Arc<Connection>, authenticated: Result<()>, peer: Option<Address>) {
        let mut state = self.state();
        drop(state.take(id));
        if state.is_closed {
            return;
        }
        // The thread that has just given the connection up may still hold it.
        let gone = || Error::Authentication("the other end was given up for others".into());
        let admitted = authenticated.and_then(|()| Arc::into_inner(connection).ok_or_else(gone));
        state.over.push_back((admitted, peer));
        // Under the lock, so that it stays readable for as long as one is there. Refused only for
        // want of memory.
        let _ = self.over.wake();
    }
}

impl State {
    fn begin(&mut self, connection: &Arc<Connection>) -> (u64, Instant) {
        let (id, began) = (self.begun, Instant::now());
        self.begun += 1;
        self.at_work.push_back(AtWork { id, began, connection: connection.clone() });
        (id, began)
    }

    /// `None` if it is over or was given up.
    fn take(&mut self, id: u64) -> Option<AtWork> {
        let at = self.at_work.iter().position(|peer| peer.id == id)?;
        self.at_work.remove(at)
    }
}

impl AtWork {
    /// Has its authentication fail at once.
    fn end(&self) {
        // Refused if the peer has gone already.
        let _ = socket::end_connection(self.connection.as_fd());
    }
}
