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
//! Handles that belong to several jobs (see [`state`](super::state)) are kept under an id of their
//! own, as long as one of these jobs is there.
//!
//! The requests' link is the pool's, with one end for all workers; each message is whole or not
//! sent. The reply end is the request's own, so a worker that is killed while it waits is in
//! nobody's way. A job that is over, and a parent that is gone, close the reply end. The thread
//! begins with the first job that has handles, and ends when the pool and its workers are gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use procession_sys::link::{Link, Message};
use procession_sys::per_process::forks;
use procession_sys::thread::spawn_engine_thread;

use crate::beside::Ask;
use crate::value_cache::ValueCache;
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

/// The parent's part.
#[derive(Debug)]
pub(super) struct HandleBroker {
    requests: Arc<Link>,
    /// The end that workers get.
    workers: Arc<Link>,
    /// Handles have been kept here: the thread is there.
    has_begun: AtomicBool,
    kept: Arc<Kept>,
    /// The number of ids that are no job's.
    ids: AtomicU64,
}

/// The handles and context of each job that has any and is not over.
#[derive(Debug, Default)]
struct Kept(Mutex<HashMap<u64, Beside>>);

#[derive(Debug)]
struct Beside {
    own: Vec<OwnedFd>,
    /// See `context.rs`.
    context: Option<Vec<u8>>,
    /// The handles that the job shares with other jobs.
    _common: Option<Arc<KeptHandles>>,
}

/// In the place of an fd's index: the job's context.
const CONTEXT: u32 = u32::MAX;

/// Handles that are kept under an id of their own as long as this is there.
#[derive(Debug)]
pub(super) struct KeptHandles {
    id: u64,
    kept: Arc<Kept>,
    /// The value of `forks` when the process began to keep the handles.
    forks: u64,
}

/// In every id that is no job's: the half of a job's id that counts its uses never comes as far.
const COMMON: u64 = 1 << 63;

impl HandleBroker {
    pub(super) fn new() -> io::Result<HandleBroker> {
        let (ours, theirs) = Link::pair()?;
        let (requests, workers) = (Arc::new(ours), Arc::new(theirs));
        Ok(HandleBroker {
            requests,
            workers,
            has_begun: AtomicBool::new(false),
            kept: Arc::default(),
            ids: AtomicU64::new(COMMON),
        })
    }

    /// The end of the requests' link that a worker gets.
    pub(super) fn workers_end(&self) -> Arc<Link> {
        self.workers.clone()
    }

    /// Keeps a job's fds and its context until it is over, and what it has together with other
    /// jobs.
    pub(super) fn keep(
        &self,
        job: u64,
        own: Vec<OwnedFd>,
        common: Option<Arc<KeptHandles>>,
        context: Option<Vec<u8>>,
    ) -> Result<()> {
        if own.is_empty() && common.is_none() && context.is_none() {
            return Ok(());
        }
        self.begin()?;
        self.kept.with(|kept| kept.insert(job, Beside { own, context, _common: common }));
        Ok(())
    }

    /// An id for what several jobs have.
    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps fds under an id of [`new_id`](Self::new_id); `None` if there are none.
    pub(super) fn keep_by_id(&self, id: u64, own: Vec<OwnedFd>) -> Result<Option<Arc<KeptHandles>>> {
        if own.is_empty() {
            return Ok(None);
        }
        self.begin()?;
        self.kept.with(|kept| kept.insert(id, Beside { own, context: None, _common: None }));
        Ok(Some(Arc::new(KeptHandles { id, kept: self.kept.clone(), forks: forks() })))
    }

    fn begin(&self) -> Result<()> {
        if !self.has_begun.swap(true, Ordering::SeqCst) {
            let (requests, kept) = (self.requests.clone(), self.kept.clone());
            spawn_engine_thread("pool-handles", move || kept.answer_all(&requests))
                .inspect_err(|_| self.has_begun.store(false, Ordering::SeqCst))
                .map_err(Error::os("cannot start the thread that passes handles to workers"))?;
        }
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
                Ok(None) if requests.is_peer_closed() => return,
                // An empty message. A worker may send anything.
                Ok(None) => {}
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
        let reply = Link::from(reply);
        // Sent under no lock: the reply end may be any file. Refused if the worker has ended
        // meanwhile.
        let _ = if index == CONTEXT {
            let context = self.with(|kept| kept.get(&job)?.context.clone());
            context.map(|context| reply.send_now(&[IoSlice::new(&context)], &[]))
        } else {
            let fd = self.with(|kept| kept.get(&job)?.own.get(index as usize)?.try_clone().ok());
            fd.map(|fd| reply.send_now(&[IoSlice::new(&[0])], &[fd.as_fd()]))
        };
    }

    fn with<R>(&self, work: impl FnOnce(&mut HashMap<u64, Beside>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for KeptHandles {
    fn drop(&mut self) {
        // A child that was forked since has copies of its own, and a lock that another thread of
        // its parent may have held.
        if forks() == self.forks {
            drop(self.kept.with(|kept| kept.remove(&self.id)));
        }
    }
}

/// The worker's part: what it has been given for the job that it runs.
#[derive(Debug)]
pub(super) struct Asker {
    broker: Arc<Link>,
    given: RefCell<Given>,
    values: Rc<ValueCache>,
}

/// The id of no job.
pub(super) const NO_JOB: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Given {
    job: u64,
    fds: Vec<(u32, OwnedFd)>,
}

impl Asker {
    pub(super) fn new(broker: Arc<Link>) -> Asker {
        Asker { broker, given: RefCell::default(), values: Rc::default() }
    }

    /// Returns one that asks for handles under another id, with the same values of the worker.
    pub(super) fn of(&self, id: u64) -> Asker {
        let given = RefCell::new(Given { job: id, fds: Vec::new() });
        Asker { broker: self.broker.clone(), given, values: self.values.clone() }
    }

    /// The job whose task runs now.
    pub(super) fn set_job(&self, job: u64) {
        let mut given = self.given.borrow_mut();
        if given.job != job {
            *given = Given { job, fds: Vec::new() };
        }
    }
}

impl Asker {
    /// The context of a job; `None` if the job is over.
    pub(super) fn context(&self, job: u64) -> Option<Vec<u8>> {
        self.request(job, CONTEXT).ok()?.map(|reply| reply.bytes)
    }

    /// Sends a request, and waits for its reply. `None`: there is none.
    fn request(&self, job: u64, index: u32) -> io::Result<Option<Message>> {
        let (ours, theirs) = Link::pair()?;
        let request = Writer::default().u64(job).u32(index).0;
        self.broker.send(&[IoSlice::new(&request)], &[theirs.as_fd()])?;
        // The other copy is in the message, and closed with it.
        drop(theirs);
        ours.recv(None)
    }
}

impl Ask for Asker {
    /// The fd that stands at `index` among the job's.
    fn ask(&self, index: u32) -> io::Result<OwnedFd> {
        let mut given = self.given.borrow_mut();
        if let Some((_, fd)) = given.fds.iter().find(|(known, _)| *known == index) {
            return fd.try_clone();
        }
        let reply = self.request(given.job, index)?.and_then(|reply| reply.fds.into_iter().next());
        let fd = reply.ok_or_else(|| io::Error::other("the call that it belongs to has ended"))?;
        let own = fd.try_clone()?;
        given.fds.push((index, fd));
        Ok(own)
    }

    fn values(&self) -> &ValueCache {
        &self.values
    }
}
