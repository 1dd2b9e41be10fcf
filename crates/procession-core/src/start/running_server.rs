//! A fork server as its owner holds it, and the one that this process has. Used in the owner, from
//! any thread.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::link::Link;
use procession_sys::per_process::PerProcess;
use procession_sys::{ExitStatus, Signal, poller};

use crate::child::Child;
use crate::engine::engine;
use crate::{Error, Result};

/// How long a server may take to read a request, and to end once it is killed.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A fork server.
#[derive(Debug)]
pub(super) struct RunningServer {
    pub(super) process: Arc<Child>,
    requests: Link,
}

/// The server of a process.
#[derive(Debug, Default)]
pub(super) struct OwnServer {
    running: Option<Arc<RunningServer>>,
    /// Its end is registered as what happens at exit.
    ends_at_exit: bool,
}

/// This process's. A forked child gets another, and takes along what it must [disown].
///
/// [disown]: OwnServer::disown
pub(super) fn own_server() -> &'static Mutex<OwnServer> {
    static SERVER: PerProcess<Mutex<OwnServer>> = PerProcess::new(Mutex::default);
    SERVER.get()
}

fn locked() -> MutexGuard<'static, OwnServer> {
    own_server().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the server that runs, or the one that `start` makes. Other threads wait for no more than
/// that start: not for the server's answers.
pub(super) fn current(start: impl FnOnce() -> Result<RunningServer>) -> Result<Arc<RunningServer>> {
    let mut own = locked();
    if let Some(running) = &own.running {
        return Ok(running.clone());
    }
    let running = Arc::new(start()?);
    own.running = Some(running.clone());
    if !own.ends_at_exit {
        engine().on_leave(end_own)?;
        own.ends_at_exit = true;
    }
    Ok(running)
}

/// At exit.
fn end_own() {
    let running = locked().running.take();
    if let Some(server) = running {
        // One that cannot be ended is left behind; the kernel ends it with this process.
        let _ = server.end();
    }
}

impl OwnServer {
    /// In a forked child: closes the child's copies of the parent's ends.
    pub(super) fn disown(&mut self) {
        if let Some(server) = self.running.take() {
            // Children whose reaper it is hold the process as well.
            server.process.disown();
        }
    }
}

impl RunningServer {
    pub(super) fn new(process: Child, requests: Link) -> RunningServer {
        RunningServer { process: Arc::new(process), requests }
    }

    /// Makes the next start start another.
    pub(super) fn forget(&self) {
        locked().running.take_if(|running| ptr::eq(&raw const **running, self));
    }

    /// Asks for a child with that end of a link. `false`: the server is gone, or does not read what
    /// it is asked.
    pub(super) fn request(&self, theirs: &Link) -> io::Result<bool> {
        loop {
            match self.requests.send_now(&[IoSlice::new(b"fork")], &[theirs.as_fd()]) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !poller::wait_writable(self.requests.as_fd(), Some(Instant::now() + SERVER_TIMEOUT))? {
                        return Ok(false);
                    }
                }
                Err(_) => return Ok(false),
            }
        }
    }

    /// Ends and reaps it. Says why it could not serve, if that was not just a kill.
    pub(super) fn end(&self) -> Result<ExitStatus> {
        // Without requests it ends by itself, and it may have something to say first.
        const GRACE: Duration = Duration::from_secs(1);
        let pid = self.process.pid();
        // Refused if it has ended already.
        let _ = self.requests.finish_sending();
        if self.process.wait(Some(Instant::now() + GRACE)).is_err() {
            self.process.signal(Signal::KILL)?;
        }
        let end = self.process.wait(Some(Instant::now() + SERVER_TIMEOUT))?;
        end.returned(pid)?;
        end.status.ok_or(Error::StatusLost { pid })
    }
}
