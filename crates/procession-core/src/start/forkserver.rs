//! `forkserver`: a small clean process that executed this program once forks every child. The children cost a fork of
//! almost nothing, and no thread, lock or memory of their parent's reaches them.
//!
//! The server is single-threaded and never runs a user's code. A request is one message with the child's end of the
//! child's link; the server makes the child a *sibling* of itself, so that it is this process's child in every way:
//! waited for through its pidfd, its exit status nobody else's. The answer comes from the child itself, on its link:
//! its hello, with its pidfd. So the owner waits for exactly one thing, and every death is unambiguous:
//!
//! | killed | the owner sees on the child's link |
//! |---|---|
//! | server, before the request | send refused, or end of file: nobody holds the child's end; another server, once more |
//! | server, after the child exists | the hello all the same |
//! | child, before its hello | end of file: it is reaped, by the pid that the kernel left for its owner ([`Newborn`]); another attempt |
//! | server and child, in that moment | the same |
//! | owner | the server's link closes and the kernel ends it; a child without preparation data ends by itself |
//!
//! The server starts with the first request, is started anew when it is found dead, and is ended at the owner's exit.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::Newborn;
use procession_sys::fork::clone_as_sibling;
use procession_sys::link::{Link, Message};
use procession_sys::pidfd::PidFd;
use procession_sys::{ExitStatus, Signal};

use super::{Method, Popen, Start, spawn};
use crate::bootstrap;
use crate::child::Child;
use crate::engine::engine;
use crate::outcome;
use crate::preparation::{self, Preparation, Target};
use crate::{Error, Result};

/// Starts by `forkserver`.
#[derive(Clone, Copy, Debug)]
pub struct ForkServer;

const TRIES: usize = 3;

impl Start for ForkServer {
    fn method(&self) -> Method {
        Method::ForkServer
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        let engine = engine();
        let mut server = engine.server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = None;
        for _ in 0..TRIES {
            let running = match server.take() {
                Some(running) => running,
                None => Server::start()?,
            };
            let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to a new process"))?;
            let me = engine.me()?;
            preparation::send(&ours, &preparation, &me).map_err(Error::os("cannot send the preparation data"))?;
            running.newborn.expect();
            let sent = running.requests.send(&[IoSlice::new(b"fork")], &[theirs.as_fd()]);
            // From here on the server, or the child, is the only holder: end of file means that there is none.
            drop(theirs);
            if sent.is_ok()
                && let Some(message) = ours.recv(None).map_err(Error::os("cannot hear from the fork server"))?
            {
                *server = Some(running);
                return Ok(Popen { pidfd: answer(message)?, link: ours, began: true });
            }
            let newborn = running.newborn.clone();
            lost = Some((running.process.pid(), running.end()?));
            newborn.reap().map_err(Error::os("cannot reap a child that was killed before it could say who it is"))?;
        }
        let (pid, status) = lost.unwrap_or((0, ExitStatus::exited(0)));
        Err(Error::ForkServerLost { pid, status, tries: TRIES })
    }
}

fn answer(message: Message) -> Result<PidFd> {
    if let Some(failure) = outcome::parse_failure(&message) {
        return Err(Error::Os { what: "the fork server cannot fork".into(), source: failure });
    }
    outcome::parse_hello(message).ok_or_else(|| Error::Invalid("the fork server's child said no hello".into()))
}

/// The owner's side of the server.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    requests: Link,
    newborn: Arc<Newborn>,
}

impl Server {
    fn start() -> Result<Server> {
        let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to the fork server"))?;
        let newborn = Arc::new(Newborn::create().map_err(Error::os("cannot make the memory of the fork server"))?);
        let name = "forkserver".to_owned();
        let target = Target::Server { requests: theirs, newborn: newborn.clone() };
        let preparation = Preparation { name: name.clone(), daemon: false, target };
        let popen = spawn::execute(&preparation, Method::ForkServer)?;
        Ok(Server { process: Child::new(name, true, popen), requests: ours, newborn })
    }

    /// Ends and reaps it. Says why it could not serve, if that was not just a kill.
    pub(crate) fn end(self) -> Result<ExitStatus> {
        // Without requests it ends by itself, and it may have something to say first.
        const PATIENCE: Duration = Duration::from_secs(1);
        let pid = self.process.pid();
        drop(self.requests);
        if self.process.wait(Some(Instant::now() + PATIENCE)).is_err() {
            self.process.signal(Signal::KILL)?;
        }
        let end = self.process.wait(None)?;
        end.returned(pid)?;
        end.status.ok_or(Error::StatusLost { pid })
    }
}

/// The server's loop, in the server: its only thread. Returns its exit code once the owner is gone.
pub(crate) fn serve(requests: Link, newborn: &Newborn, mut own: Option<Link>) -> i32 {
    let mut requests = Some(requests);
    loop {
        let Some(link) = requests.as_ref() else { return 0 };
        match link.recv(None) {
            Ok(Some(message)) => {
                let Some(fd) = message.fds.into_iter().next() else { continue };
                let mut link = Some(Link::from(fd));
                let made = clone_as_sibling(newborn.pid(), || {
                    (requests, own) = (None, None);
                    link.take().map_or(1, bootstrap::served)
                });
                if let (Err(error), Some(link)) = (made, link) {
                    // If the owner cannot hear it either, it sees the end of file when `link` drops here.
                    let _ = outcome::send_failure(&link, &error);
                }
            }
            Ok(None) | Err(_) => return 0,
        }
    }
}
