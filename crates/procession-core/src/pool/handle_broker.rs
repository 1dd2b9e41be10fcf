//! The handle broker: where a worker asks for the handles in a task's argument. An argument crosses
//! in shared memory, which no fd can, and nobody knows beforehand which worker will run it. So the
//! parent keeps the job's fds, and the argument says which one it needs:
//!
//! ```text
//! worker                                      parent
//! request (job, index, a reply end) ────────▶ the broker's thread: the job's fd
//! fd ◀─────────────────────────────────────── into the reply end
//! ```
//!
//! The requests' link is the pool's, with one end for all workers; each message is whole or not
//! sent. The reply end is the request's own, so a worker that is killed while it waits is in
//! nobody's way. A job that is over, and a parent that is gone, close the reply end. The thread
//! begins with the first job that has handles, and ends when the pool and its workers are gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use procession_sys::link::{Link, Message};
use procession_sys::thread::spawn_engine_thread;

use crate::beside::Ask;
use crate::wire::{Reader, Writer};

/// The parent's part.
#[derive(Debug)]
pub(super) struct HandleBroker {
    requests: Arc<Link>,
    /// The end that workers get.
    workers: Arc<Link>,
    /// Handles have been kept here: the thread is there.
    has_begun: AtomicBool,
    kept: Arc<Kept>,
}

/// The fds of each job that has any and is not over.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<u64, Vec<OwnedFd>>>);

impl HandleBroker {
    pub(super) fn new() -> io::Result<HandleBroker> {
        let (ours, theirs) = Link::pair()?;
        let (requests, workers) = (Arc::new(ours), Arc::new(theirs));
        Ok(HandleBroker { requests, workers, has_begun: AtomicBool::new(false), kept: Arc::default() })
    }

    /// The end of the requests' link that a worker gets.
    pub(super) fn workers_end(&self) -> Arc<Link> {
        self.workers.clone()
    }

    /// Keeps a job's fds until it is over.
    pub(super) fn keep(&self, job: u64, fds: Vec<OwnedFd>) -> io::Result<()> {
        if fds.is_empty() {
            return Ok(());
        }
        if !self.has_begun.swap(true, Ordering::SeqCst) {
            let (requests, kept) = (self.requests.clone(), self.kept.clone());
            spawn_engine_thread("pool-handles", move || kept.answer_all(&requests))
                .inspect_err(|_| self.has_begun.store(false, Ordering::SeqCst))?;
        }
        self.kept.with(|kept| kept.insert(job, fds));
        Ok(())
    }

    /// Lets go of the fds of a job that is over.
    pub(super) fn forget(&self, job: u64) {
        if self.has_begun.load(Ordering::SeqCst) {
            drop(self.kept.with(|kept| kept.remove(&job)));
        }
    }
}

impl Kept {
    fn answer_all(&self, requests: &Link) {
        loop {
            match requests.recv(None) {
                Ok(Some(request)) => self.answer(request),
                Ok(None) => return,
                // No request of a worker's. One that was has closed its reply end with this.
                Err(_) => {}
            }
        }
    }

    fn answer(&self, request: Message) {
        let mut reader = Reader(&request.bytes);
        let (Some(job), Some(index), Some(reply)) = (reader.u64(), reader.u32(), request.fds.into_iter().next()) else {
            return;
        };
        self.with(|kept| {
            if let Some(fd) = kept.get(&job).and_then(|fds| fds.get(index as usize)) {
                // Refused if the worker has ended meanwhile.
                let _ = Link::from(reply).send_now(&[IoSlice::new(&[0])], &[fd.as_fd()]);
            }
        });
    }

    fn with<R>(&self, work: impl FnOnce(&mut HashMap<u64, Vec<OwnedFd>>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The worker's part: what it has been given for the job that it runs.
#[derive(Debug)]
pub(super) struct Asker {
    broker: Arc<Link>,
    given: RefCell<Given>,
}

#[derive(Debug, Default)]
struct Given {
    job: u64,
    fds: Vec<(u32, OwnedFd)>,
}

impl Asker {
    pub(super) fn new(broker: Arc<Link>) -> Asker {
        Asker { broker, given: RefCell::default() }
    }

    /// The job whose task runs now.
    pub(super) fn set_job(&self, job: u64) {
        let mut given = self.given.borrow_mut();
        if given.job != job {
            *given = Given { job, fds: Vec::new() };
        }
    }
}

impl Ask for Asker {
    /// The fd that stands at `index` among the job's.
    fn ask(&self, index: u32) -> io::Result<OwnedFd> {
        let mut given = self.given.borrow_mut();
        if let Some((_, fd)) = given.fds.iter().find(|(known, _)| *known == index) {
            return fd.try_clone();
        }
        let (ours, theirs) = Link::pair()?;
        let request = Writer::default().u64(given.job).u32(index).0;
        self.broker.send(&[IoSlice::new(&request)], &[theirs.as_fd()])?;
        // The other copy is in the message, and closed with it.
        drop(theirs);
        let reply = ours.recv(None)?.and_then(|reply| reply.fds.into_iter().next());
        let fd = reply.ok_or_else(|| io::Error::other("the call that it belongs to has ended"))?;
        let own = fd.try_clone()?;
        given.fds.push((index, fd));
        Ok(own)
    }
}
