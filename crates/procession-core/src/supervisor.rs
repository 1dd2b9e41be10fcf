//! The supervisor: the one thread of a process that waits for deaths, and for sockets that futures
//! await. Pools ask it to be told of a worker's death, and a dropped handle leaves its process to
//! it to be reaped. It begins with the first request and costs nothing while nobody dies. Children
//! do not need one: the kernel ends them through their link when their parent dies.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_sys::per_process::PerProcess;
use procession_sys::poller::{Poller, Waker};
use procession_sys::thread::spawn_engine_thread;

use crate::child::Child;
use crate::{Error, Result};

/// Runs `on_end` in the supervisor's thread once the child has ended; at once if it has already.
/// The callback must be brief and must not block. It is called too, in some thread, if the program
/// has closed the fd that tells of the child's end; [`Child::check_open`] then says so.
///
/// # Errors
///
/// If the thread or its epoll instance cannot be made.
pub fn watch(child: &Arc<Child>, on_end: impl FnOnce(&Arc<Child>) + Send + 'static) -> Result<()> {
    let (supervisor, lost) = sound(&mut current())?;
    lost.into_iter().for_each(|(child, on_end)| on_end(&child));
    supervisor.add(child, Box::new(on_end))
}

/// Looks whether the program has closed the supervisor's fds, as one that becomes a daemon does. If
/// so there is another, and whoever watches a child whose own fd is closed is told.
pub(crate) fn check() -> Result<()> {
    let lost = {
        let mut current = current();
        if current.is_none() {
            return Ok(());
        }
        sound(&mut current)?.1
    };
    lost.into_iter().for_each(|(child, on_end)| on_end(&child));
    Ok(())
}

/// Runs `on_ready` in the supervisor's thread each time that the fd is ready for what it was armed
/// for. It must be brief and must not block. The caller ends the watch before it closes the fd.
///
/// # Errors
///
/// If the thread or its epoll instance cannot be made, or cannot take the fd.
pub(crate) fn watch_fd(fd: BorrowedFd<'_>, on_ready: OnReady) -> Result<FdWatch> {
    let (supervisor, lost) = sound(&mut current())?;
    lost.into_iter().for_each(|(child, on_end)| on_end(&child));
    let key = supervisor.next.fetch_add(1, Ordering::Relaxed);
    supervisor.fds().insert(key, on_ready);
    let watch = FdWatch { supervisor, key };
    watch.supervisor.poller.add_unarmed(fd, key).map_err(|error| {
        watch.supervisor.fds().remove(&key);
        Error::os("cannot wait for a socket")(error)
    })?;
    Ok(watch)
}

pub(crate) type OnReady = Arc<dyn Fn() + Send + Sync>;

/// An fd that the supervisor watches.
pub(crate) struct FdWatch {
    supervisor: Arc<Supervisor>,
    key: u64,
}

impl FdWatch {
    /// Has the callback run once, when the fd is ready.
    pub(crate) fn arm(&self, fd: BorrowedFd<'_>, reads: bool, writes: bool) -> std::io::Result<()> {
        self.supervisor.poller.arm(fd, self.key, reads, writes)
    }

    /// Ends the watch.
    pub(crate) fn end(&self, fd: BorrowedFd<'_>) {
        self.supervisor.fds().remove(&self.key);
        // Refused if the program has closed one of the two fds.
        let _ = self.supervisor.poller.remove(fd);
    }
}

type OnEnd = Box<dyn FnOnce(&Arc<Child>) + Send>;
type Watched = (Arc<Child>, OnEnd);

fn current() -> MutexGuard<'static, Option<Arc<Supervisor>>> {
    static SUPERVISOR: PerProcess<Mutex<Option<Arc<Supervisor>>>> = PerProcess::new(Mutex::default);
    SUPERVISOR.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The supervisor, new if there is none whose fds are open; and whom the last one watched and
/// nobody can watch any more.
fn sound(current: &mut Option<Arc<Supervisor>>) -> Result<(Arc<Supervisor>, Vec<Watched>)> {
    if let Some(supervisor) = current.as_ref().filter(|supervisor| supervisor.is_open()) {
        return Ok((supervisor.clone(), Vec::new()));
    }
    let supervisor = Supervisor::begin().map_err(Error::os("cannot start the supervisor thread"))?;
    let mut lost = Vec::new();
    if let Some(closed) = current.replace(supervisor.clone()) {
        for (_, (child, on_end)) in closed.watched().drain() {
            if child.check_open().is_ok() {
                supervisor.add(&child, on_end)?;
            } else {
                lost.push((child, on_end));
            }
        }
        // Its thread may sleep for ever, and the numbers of its fds may be other files' by now.
        mem::forget(closed);
    }
    Ok((supervisor, lost))
}

struct Supervisor {
    poller: Poller,
    /// Never lit: it is in the poller's set for as long as both are what they were.
    mark: Waker,
    watched: Mutex<HashMap<u64, Watched>>,
    fds: Mutex<HashMap<u64, OnReady>>,
    next: AtomicU64,
}

impl Supervisor {
    fn begin() -> std::io::Result<Arc<Supervisor>> {
        let (poller, mark) = (Poller::new()?, Waker::new()?);
        poller.add(mark.as_fd(), u64::MAX)?;
        let (watched, fds, next) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let supervisor = Arc::new(Supervisor { poller, mark, watched, fds, next });
        let its = supervisor.clone();
        spawn_engine_thread("supervisor", move || its.run())?;
        Ok(supervisor)
    }

    fn add(&self, child: &Arc<Child>, on_end: OnEnd) -> Result<()> {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.watched().insert(key, (child.clone(), on_end));
        self.poller.add(child.sentinel(), key).map_err(|error| {
            self.watched().remove(&key);
            Error::os(format!("cannot watch process {}", child.pid()))(error)
        })
    }

    fn is_open(&self) -> bool {
        self.poller.add(self.mark.as_fd(), u64::MAX).is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
    }

    fn run(&self) {
        let mut keys = Vec::new();
        // Refused once the program has closed its fd: then there is another supervisor, or there
        // will be.
        while self.poller.wait(&mut keys, None).is_ok() {
            for key in keys.drain(..) {
                let on_ready = self.fds().get(&key).cloned();
                if let Some(on_ready) = on_ready {
                    on_ready();
                    continue;
                }
                let Some((child, on_end)) = self.watched().remove(&key) else { continue };
                // Refused if the program has closed one of the two fds. The code that reaps the
                // child finds that out.
                let _ = self.poller.remove(child.sentinel());
                on_end(&child);
            }
        }
    }

    fn fds(&self) -> MutexGuard<'_, HashMap<u64, OnReady>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<u64, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
