//! A fork server as its owner holds it, and the one that this process has. Used in the owner, from
//! any thread.
//!
//! The lock is held for moments only: neither while a server starts nor while it answers.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::link::Link;
use procession_sys::per_process::PerProcess;
use procession_sys::{ExitStatus, Signal, descriptor};

use super::closable_link::ClosableLink;
use super::server;
use crate::child::Child;
use crate::{Error, Result};

/// The time that a server may take to end once it is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which [`stop`] waits for a thread that starts the server.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after which a thread that waits for another's start asks after signals.
const ASK_INTERVAL: Duration = Duration::from_millis(10);

/// A fork server.
#[derive(Debug)]
pub struct RunningServer {
    process: Arc<Child>,
    requests: Arc<ClosableLink>,
}

/// The server of a process.
#[derive(Debug, Default)]
pub(super) struct OwnServer {
    state: Mutex<State>,
    /// A start is over.
    started: Condvar,
}

#[derive(Debug, Default)]
enum State {
    /// The next start of a child starts a server.
    #[default]
    None,
    /// A thread starts one.
    Starting,
    Running(Arc<RunningServer>),
}

/// The result of [`claim`].
#[derive(Debug)]
pub(super) enum Claim {
    /// The server that runs.
    Running(Arc<RunningServer>),
    /// No server: the caller is to start it.
    Place(Place),
}

/// The right to start the server. If it is dropped, another thread has it.
#[derive(Debug)]
pub(super) struct Place(&'static OwnServer);

/// This process's. A forked child gets another, and takes along what it must [disown].
///
/// [disown]: OwnServer::disown
pub(super) fn own_server() -> &'static OwnServer {
    static SERVER: PerProcess<OwnServer> = PerProcess::new(OwnServer::default);
    SERVER.get()
}

/// Returns the server that runs, or has the caller start it. Waits while another thread does.
///
/// # Errors
///
/// [`Error::Interrupted`].
pub(super) fn claim() -> Result<Claim> {
    let own = own_server();
    let mut state = own.locked();
    loop {
        match &*state {
            State::Running(server) => return Ok(Claim::Running(server.clone())),
            State::None => {
                *state = State::Starting;
                return Ok(Claim::Place(Place(own)));
            }
            State::Starting => {
                drop(state);
                if interrupt::ask() {
                    return Err(Error::Interrupted);
                }
                state = own.wait_for_start(own.locked(), ASK_INTERVAL);
            }
        }
    }
}

/// Returns the server that runs, if one does.
pub fn running() -> Option<Arc<RunningServer>> {
    match &*own_server().locked() {
        State::Running(server) => Some(server.clone()),
        State::None | State::Starting => None,
    }
}

/// Ends and reaps the server, if one runs. The next start of a child starts another.
///
/// A thread that starts one at this moment is waited for, but no longer than a second: its server
/// ends with this process.
///
/// # Errors
///
/// Why it could not serve; what the system refuses.
pub fn stop() -> Result<()> {
    let own = own_server();
    let mut state = own.locked();
    if matches!(*state, State::Starting) {
        state = own.wait_for_start(state, STOP_TIMEOUT);
    }
    let State::Running(server) = &*state else { return Ok(()) };
    let server = server.clone();
    *state = State::None;
    drop(state);
    server.end().map(drop)
}

impl OwnServer {
    /// In a forked child: closes the child's copies of the parent's ends. A thread that does not
    /// exist there may hold the lock.
    pub(super) fn disown(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        if let State::Running(server) = mem::take(&mut *state) {
            // Children whose reaper it is hold the process as well.
            server.process.disown();
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_start<'a>(&self, state: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        let is_starting = |state: &mut State| matches!(*state, State::Starting);
        let waited = self.started.wait_timeout_while(state, timeout, is_starting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn finish_start(&self, state: State) {
        *self.locked() = state;
        self.started.notify_all();
    }
}

impl Place {
    /// The server has started.
    pub(super) fn fill(self, server: RunningServer) -> Arc<RunningServer> {
        let server = Arc::new(server);
        self.0.finish_start(State::Running(server.clone()));
        // The place is no longer this thread's to give up.
        mem::forget(self);
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.finish_start(State::None);
    }
}

impl RunningServer {
    /// A server that has just been started, and the owner's end of the link over which it is asked.
    pub fn new(process: Arc<Child>, requests: Arc<ClosableLink>) -> RunningServer {
        RunningServer { process, requests }
    }

    /// Its process, which reaps the children.
    pub fn process(&self) -> &Arc<Child> {
        &self.process
    }

    /// The link over which its owner asks it for children.
    pub fn requests(&self) -> &ClosableLink {
        &self.requests
    }

    /// Makes the next start start another.
    pub(super) fn forget(&self) {
        let mut state = own_server().locked();
        if matches!(&*state, State::Running(running) if ptr::eq(&raw const **running, self)) {
            *state = State::None;
        }
    }

    /// Returns whether the server can be asked.
    pub(super) fn is_running(&self) -> bool {
        // One that cannot be looked at is of no use either.
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Asks for a child with that end of a link. Does not wait.
    ///
    /// # Errors
    ///
    /// `WouldBlock` as long as the server does not read what it was asked before; any other if it
    /// is gone.
    pub(super) fn request(&self, theirs: &Link, leads_group: bool) -> io::Result<()> {
        let request: &[u8] = if leads_group { server::FORK_A_GROUP } else { server::FORK };
        let sent = self.requests.using(|link| link.send_now(&[IoSlice::new(request)], &[theirs.as_fd()]));
        sent.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// A copy of the fd by which it is asked, for a thread that waits.
    pub(super) fn copy_of_requests(&self) -> io::Result<OwnedFd> {
        let copied = self.requests.using(|link| descriptor::duplicate(link.as_fd().as_raw_fd()));
        copied.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Ends and reaps it. Returns how it ended; `None` if nobody can know, for one because the
    /// program has closed the fd that stands for it.
    ///
    /// # Errors
    ///
    /// Why it could not serve, if that was not just a kill.
    pub(super) fn end(&self) -> Result<Option<ExitStatus>> {
        match self.end_exactly() {
            Err(Error::Os { .. } | Error::StatusLost { .. } | Error::Timeout { .. }) => Ok(None),
            ended => ended.map(Some),
        }
    }

    fn end_exactly(&self) -> Result<ExitStatus> {
        // Without requests it ends by itself, and it may have something to say first.
        const GRACE: Duration = Duration::from_secs(1);
        let pid = self.process.pid();
        // Refused if it has ended already.
        let _ = self.requests.using(Link::finish_sending);
        if self.process.wait(Some(Instant::now() + GRACE)).is_err() {
            self.process.signal(Signal::KILL)?;
        }
        let end = self.process.wait(Some(Instant::now() + KILL_TIMEOUT))?;
        end.returned(pid)?;
        end.status.ok_or(Error::StatusLost { pid })
    }
}
