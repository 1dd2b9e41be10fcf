//! The reactor: the one thread of a process that waits for all queues that its futures await. It
//! begins with the first that has to wait. It sleeps at the gates of these queues, where it is
//! woken as any process is that waits in `get` or `put`.
//!
//! A wake was perhaps meant for a process that waits elsewhere, so the reactor passes it on. A task
//! that was woken looks again, and waits again if another was quicker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use procession_shm::{self as shm, Gate, Side};
use procession_sys::per_process::PerProcess;
use procession_sys::thread::spawn_engine_thread;

use crate::{Error, Result};

static REACTOR: PerProcess<Mutex<Option<Arc<Reactor>>>> = PerProcess::new(Mutex::default);

/// One future's hold on a queue. Dropping it ends its waits.
#[derive(Debug)]
pub struct QueueWatch {
    queue: Arc<shm::Queue>,
    id: u64,
}

impl QueueWatch {
    pub(crate) fn of(queue: &Arc<shm::Queue>) -> QueueWatch {
        static IDS: AtomicU64 = AtomicU64::new(0);
        QueueWatch { queue: queue.clone(), id: IDS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Has `waker` woken once, when the queue has frames, or room, or is closed. It takes the place
    /// of an earlier one.
    ///
    /// # Errors
    ///
    /// If the reactor's thread cannot be started.
    pub fn wake_when(&self, side: Side, waker: &Waker) -> Result<()> {
        let reactor = reactor()?;
        let wait = Wait { queue: self.queue.clone(), waker: waker.clone() };
        let known = reactor.waits().insert((self.id, side), wait);
        drop(known);
        reactor.ring();
        Ok(())
    }
}

impl Drop for QueueWatch {
    fn drop(&mut self) {
        let Some(reactor) = current().clone() else { return };
        let waits = [Side::Frames, Side::Room].map(|side| reactor.waits().remove(&(self.id, side)));
        if waits.iter().any(Option::is_some) {
            // It lets go of the queue.
            reactor.ring();
        }
    }
}

#[derive(Debug)]
struct Reactor {
    waits: Mutex<HashMap<Key, Wait>>,
    /// Its thread sleeps here too.
    bell: Gate,
    has_rung: AtomicBool,
}

type Key = (u64, Side);

#[derive(Debug)]
struct Wait {
    queue: Arc<shm::Queue>,
    waker: Waker,
}

impl Reactor {
    fn begin() -> Result<Arc<Reactor>> {
        let reactor =
            Arc::new(Reactor { waits: Mutex::default(), bell: Gate::new(), has_rung: AtomicBool::new(false) });
        let its = reactor.clone();
        spawn_engine_thread("reactor", move || its.run())
            .map_err(Error::os("cannot start the thread that waits for queues"))?;
        Ok(reactor)
    }

    fn run(&self) {
        loop {
            self.has_rung.store(false, Ordering::SeqCst);
            let waits: Vec<(Key, Arc<shm::Queue>)> =
                self.waits().iter().map(|(key, wait)| (*key, wait.queue.clone())).collect();
            let sides: Vec<(&shm::Queue, Side)> = waits.iter().map(|((_, side), queue)| (&**queue, *side)).collect();
            shm::Queue::wait_any(&sides, &self.bell, || self.has_rung.load(Ordering::SeqCst));
            for (key, queue) in &waits {
                if !queue.has_news(key.1) {
                    continue;
                }
                let wait = self.waits().remove(key);
                if let Some(wait) = wait {
                    super::wake(wait.waker);
                }
                queue.pass_on(key.1);
            }
        }
    }

    /// Has the thread look what it is to wait for.
    fn ring(&self) {
        self.has_rung.store(true, Ordering::SeqCst);
        self.bell.wake(1);
    }

    fn waits(&self) -> MutexGuard<'_, HashMap<Key, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current() -> MutexGuard<'static, Option<Arc<Reactor>>> {
    REACTOR.get().lock().unwrap_or_else(PoisonError::into_inner)
}

fn reactor() -> Result<Arc<Reactor>> {
    let mut current = current();
    if let Some(reactor) = &*current {
        return Ok(reactor.clone());
    }
    Ok(current.insert(Reactor::begin()?).clone())
}
