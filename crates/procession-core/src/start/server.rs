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

/// The key of the requests; children have those from 1 on.
const REQUESTS: u64 = 0;

/// See the module.
#[derive(Debug)]
pub struct Server {
    requests: Link,
    poller: Poller,
    children: HashMap<u64, (PidFd, Link)>,
    started: u64,
    child_signal: DefaultChildSignal,
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

    /// Waits for the next request and returns the child's end of its link. `None`: the owner is
    /// gone. Reaps children that end meanwhile, and reports their exit statuses.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn next_request(&mut self) -> io::Result<Option<Link>> {
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
            if let Some(fd) = message.fds.into_iter().next() {
                return Ok(Some(Link::from(fd)));
            }
        }
    }

    /// Enters a child that was just forked, and its end of its link.
    ///
    /// # Errors
    ///
    /// If no fd is left. The child lives on, and its owner learns how it ended once this server has
    /// ended.
    pub fn keep_child(&mut self, child: PidFd, link: Link) -> io::Result<()> {
        self.started += 1;
        self.poller.add(child.as_fd(), self.started)?;
        self.children.insert(self.started, (child, link));
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
        let Some((child, link)) = self.children.remove(&key) else { return Ok(()) };
        self.poller.remove(child.as_fd())?;
        // Code that was preloaded may have reaped it. Then nobody here knows, but the kernel may.
        let status = child.try_reap().unwrap_or(None);
        // An owner that cannot hear it sees the end of the link when it drops here, and asks the
        // kernel.
        let _ = outcome::send_exited(&link, status);
        Ok(())
    }
}
