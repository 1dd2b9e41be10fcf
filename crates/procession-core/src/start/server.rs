//! The fork server's own side: its requests, and the children that it has forked and reaps. Used in
//! the server, by its only thread. The face decides how it forks: by the engine's `fork` or
//! Python's.
//!
//! ```text
//! owner ── the child's end of a link ──▶ next_request() ─▶ fork ─┬▶ child: leave(), hello, role
//! owner ◀── exit status over that link ─ reaps ◀── keep_child() ─┘
//! ```
//!
//! The server keeps a copy of the child's end of the link, over which it reports the exit status,
//! and closes it then.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

use procession_sys::fork::DefaultChildSignal;
use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::poller::Poller;

use crate::outcome;

/// The requests: a child, and one that is to lead a process group.
pub(super) const FORK: &[u8] = b"fork";
pub(super) const FORK_A_GROUP: &[u8] = b"fork a group";

/// The key of the requests; children have those from 1 on.
const REQUESTS: u64 = 0;

/// See the module.
#[derive(Debug)]
pub struct Server {
    requests: Link,
    poller: Poller,
    children: HashMap<u64, Served>,
    started: u64,
    child_signal: DefaultChildSignal,
}

/// A request for a child.
#[derive(Debug)]
pub struct Request {
    /// The child's end of its link.
    pub link: Link,
    /// The child is to lead a process group.
    pub leads_group: bool,
}

/// A child that the server has forked.
#[derive(Debug)]
struct Served {
    child: PidFd,
    request: Request,
}

impl Server {
    /// A server whose owner sends its requests over this link. From now on SIGCHLD has its default
    /// action here, so that the server learns how its children end.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn new(requests: Link) -> io::Result<Server> {
        let poller = Poller::new()?;
        poller.add(requests.as_fd(), REQUESTS)?;
        let child_signal = DefaultChildSignal::set()?;
        Ok(Server { requests, poller, children: HashMap::new(), started: 0, child_signal })
    }

    /// Waits for the next request. `None`: the owner is gone. Reaps children that end meanwhile,
    /// and reports their exit statuses.
    ///
    /// # Errors
    ///
    /// An error of the system.
    pub fn next_request(&mut self) -> io::Result<Option<Request>> {
        let mut keys = Vec::new();
        loop {
            self.poller.wait(&mut keys, None)?;
            // Before requests are served, because somebody waits for a child that has ended.
            for key in keys.iter().filter(|key| **key != REQUESTS) {
                self.reap_child(*key)?;
            }
            if !keys.contains(&REQUESTS) {
                continue;
            }
            let Some(message) = self.requests.recv(None)? else { return Ok(None) };
            let leads_group = message.bytes == FORK_A_GROUP;
            if let Some(fd) = message.fds.into_iter().next() {
                return Ok(Some(Request { link: Link::from(fd), leads_group }));
            }
        }
    }

    /// Enters a child that was just forked for this request.
    ///
    /// # Errors
    ///
    /// If no fd is left. The child lives on, and its owner learns how it ended once this server has
    /// ended.
    pub fn keep_child(&mut self, child: PidFd, request: Request) -> io::Result<()> {
        self.started += 1;
        self.poller.add(child.as_fd(), self.started)?;
        self.children.insert(self.started, Served { child, request });
        Ok(())
    }

    /// In a forked child: closes what is the server's, and restores SIGCHLD.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn leave(self) -> io::Result<()> {
        self.child_signal.restore()
    }

    fn reap_child(&mut self, key: u64) -> io::Result<()> {
        let Some(Served { child, request }) = self.children.remove(&key) else { return Ok(()) };
        self.poller.remove(child.as_fd())?;
        if request.leads_group {
            // Before its number is free for others. Refused only by processes that have taken
            // another identity.
            let _ = child.kill_group();
        }
        // Code that was preloaded may have reaped it. Then nobody here knows, but the kernel may.
        let status = child.try_reap().unwrap_or(None);
        // An owner that cannot hear it sees the end of the link when it drops here, and asks the
        // kernel.
        let _ = outcome::send_exited(&request.link, status);
        Ok(())
    }
}
