//! The supervisor: the one thread of a process that waits for deaths. Pools ask it to be told of a worker's death, and
//! a dropped handle leaves its process to it to be reaped. It begins with the first request and costs nothing while
//! nobody dies. Children do not need one: the kernel ends them through their link when their parent dies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use procession_sys::per_process::PerProcess;
use procession_sys::poller::Poller;
use procession_sys::thread::spawn_engine_thread;

use crate::child::Child;
use crate::{Error, Result};

/// Runs `on_end` in the supervisor's thread once the child has ended; at once if it has already.
/// The callback must be brief and must not block.
///
/// # Errors
///
/// If the thread or its epoll instance cannot be made.
pub fn watch(child: &Arc<Child>, on_end: impl FnOnce(&Arc<Child>) + Send + 'static) -> Result<()> {
    static SUPERVISOR: PerProcess<OnceLock<Arc<Supervisor>>> = PerProcess::new(OnceLock::new);
    static BEGINNING: PerProcess<Mutex<()>> = PerProcess::new(Mutex::default);
    let cell = SUPERVISOR.get();
    if cell.get().is_none() {
        let _beginning = BEGINNING.get().lock().unwrap_or_else(PoisonError::into_inner);
        if cell.get().is_none() {
            let supervisor = Supervisor::begin().map_err(Error::os("cannot start the supervisor thread"))?;
            let _ = cell.set(supervisor);
        }
    }
    let supervisor = cell.get().expect("set above, under the lock");
    supervisor.add(child, Box::new(on_end))
}

type OnEnd = Box<dyn FnOnce(&Arc<Child>) + Send>;

struct Supervisor {
    poller: Poller,
    watched: Mutex<HashMap<u64, (Arc<Child>, OnEnd)>>,
    next: AtomicU64,
}

impl Supervisor {
    fn begin() -> std::io::Result<Arc<Supervisor>> {
        let (watched, next) = (Mutex::default(), AtomicU64::new(0));
        let supervisor = Arc::new(Supervisor { poller: Poller::new()?, watched, next });
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

    fn run(&self) {
        let mut keys = Vec::new();
        loop {
            // Only a closed epoll fd could make this fail, and the supervisor owns it for good.
            self.poller.wait(&mut keys, None).expect("the supervisor's epoll instance is open");
            for key in keys.drain(..) {
                let Some((child, on_end)) = self.watched().remove(&key) else { continue };
                let removed = self.poller.remove(child.sentinel());
                debug_assert!(removed.is_ok(), "a watched pidfd is registered");
                on_end(&child);
            }
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Arc<Child>, OnEnd)>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
