//! The state that one process has of its own: its identity, its children, the calls at its exit. A
//! forked child begins with a fresh one ([`PerProcess`]), so that it never meets a lock of its
//! parent.
//!
//! Other state of a process is kept by its owner, in the same way: its fork server by
//! `start/running_server.rs`, its link to the tracker by `tracker_link.rs`.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use procession_sys::Signal;
use procession_sys::per_process::PerProcess;
use procession_sys::pidfd::PidFd;

use crate::child::Child;
use crate::{Error, Result};

/// This process's engine.
pub fn engine() -> &'static Engine {
    static ENGINE: PerProcess<Engine> = PerProcess::new(Engine::default);
    ENGINE.get()
}

/// See the module.
#[derive(Debug, Default)]
pub struct Engine {
    identity: OnceLock<Identity>,
    me: Mutex<Option<Arc<PidFd>>>,
    children: Mutex<Vec<Arc<Child>>>,
    starting: Mutex<()>,
    started: AtomicU64,
    /// The functions to call at exit, after the children have ended.
    last: Mutex<Vec<fn()>>,
    /// Set once [`leave`] is registered as an exit handler.
    hooked: AtomicBool,
    /// Set once [`leave`] has begun.
    leaving: AtomicBool,
}

/// The identity of a process.
#[derive(Debug)]
pub struct Identity {
    /// `MainProcess` in a process that procession did not start.
    pub name: String,
    /// See [`crate::preparation::Preparation::daemon`].
    pub daemon: bool,
    /// The process that started it; `None` in one that procession did not start.
    pub parent: Option<Arc<PidFd>>,
}

/// The object through which an executed child gets to its bootstrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// The program, which runs the bootstrap before `main` or by `init()`.
    Program,
    /// A shared object, which runs it if it is preloaded.
    SharedObject,
}

// A forked child inherits the answer, an executed one finds its own.
static HOME: OnceLock<Home> = OnceLock::new();

/// Notes where a child will get to its bootstrap, as this process did.
pub(crate) fn set_home(home: Home) {
    // The place does not change: a second call of `init()` notes the same one.
    let _ = HOME.set(home);
}

/// Returns the object through which an executed child gets to its bootstrap, if there is one.
pub(crate) fn home() -> Option<Home> {
    HOME.get().copied()
}

impl Engine {
    /// Returns the identity of this process.
    pub fn identity(&self) -> &Identity {
        self.identity.get_or_init(|| Identity { name: "MainProcess".into(), daemon: false, parent: None })
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        // The bootstrap sets it before the child can ask for it.
        let _ = self.identity.set(identity);
    }

    /// A pidfd of this process, for its children.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn me(&self) -> Result<Arc<PidFd>> {
        let mut known = self.me.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(me) = known.take() {
            if me.is_own() {
                return Ok(known.insert(me).clone());
            }
            // The program has closed it, and its number may be another file's by now.
            mem::forget(me);
        }
        let me = PidFd::of_self().map_err(Error::os(
            "cannot open a pidfd (Linux 5.10 or later is needed, and a container's seccomp filter that lets pidfd_open through)",
        ))?;
        Ok(known.insert(Arc::new(me)).clone())
    }

    /// The name of the next process, as `multiprocessing` numbers them: `Process-2`, and
    /// `Process-2:1` for its child.
    pub fn next_name(&self) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        match (&self.identity().parent, self.identity().name.strip_prefix("Process-")) {
            (Some(_), Some(ours)) => format!("Process-{ours}:{number}"),
            _ => format!("Process-{number}"),
        }
    }

    /// The children that have not ended. It reaps those that have.
    pub fn active_children(&self) -> Vec<Arc<Child>> {
        let mut children = self.children();
        children.retain(|child| !matches!(child.try_wait(), Ok(Some(_))));
        children.clone()
    }

    /// Locks out other starts: a child that is forked meanwhile would hold a copy of a link that is
    /// not in the list yet.
    pub(crate) fn starting(&self) -> Result<MutexGuard<'_, ()>> {
        let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_staying()?;
        Ok(starting)
    }

    pub(crate) fn check_staying(&self) -> Result<()> {
        if self.leaving.load(Ordering::SeqCst) { Err(Error::Leaving) } else { Ok(()) }
    }

    pub(crate) fn adopt(&self, child: &Arc<Child>) -> Result<()> {
        let mut children = self.children();
        children.retain(|child| !matches!(child.try_wait(), Ok(Some(_))));
        children.push(child.clone());
        drop(children);
        self.hook_exit()
    }

    /// Runs the hook at this process's exit, after its children have ended. Hooks run in the order
    /// in which they were registered.
    ///
    /// # Errors
    ///
    /// If the C library refuses an exit handler.
    pub fn on_leave(&self, hook: fn()) -> Result<()> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
        self.hook_exit()
    }

    fn hook_exit(&self) -> Result<()> {
        if self.hooked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        procession_sys::exit::at_exit(leave).map_err(Error::os("cannot register what must happen at exit"))
    }

    /// Takes a child that has ended off the list of active ones.
    pub(crate) fn release(&self, child: &Arc<Child>) {
        self.children().retain(|known| !Arc::ptr_eq(known, child));
    }

    pub(crate) fn children(&self) -> MutexGuard<'_, Vec<Arc<Child>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs at the exit of a process that has children. Terminates daemons and waits for the other
/// children, then calls the functions that [`on_leave`](Engine::on_leave) registered. Runs in the
/// thread that exits. In forked children the bootstrap calls it, since they leave by `_exit`.
pub(crate) fn leave() {
    const PATIENCE: Duration = Duration::from_millis(500);
    const KILL_TIMEOUT: Duration = Duration::from_secs(5);
    // A process that exits in an orderly way does not break the barriers it has waited at.
    crate::sync::leave_barriers();
    // Other threads may start processes, such as a pool's that replaces workers: they must stop.
    engine().leaving.store(true, Ordering::SeqCst);
    drop(engine().starting());
    let children = mem::take(&mut *engine().children());
    let (daemons, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.is_daemon());
    // At exit nothing more can be done about a child that cannot be signalled or waited for.
    for daemon in &daemons {
        let _ = daemon.signal(Signal::TERM);
    }
    let deadline = Instant::now() + PATIENCE;
    for daemon in &daemons {
        if daemon.wait(Some(deadline)).is_err() {
            // A daemon that cannot be killed is left behind.
            if daemon.signal(Signal::KILL).is_ok() {
                let _ = daemon.wait(Some(Instant::now() + KILL_TIMEOUT));
            }
        }
    }
    for child in &others {
        let _ = child.wait(None);
    }
    let last = mem::take(&mut *engine().last.lock().unwrap_or_else(PoisonError::into_inner));
    last.into_iter().for_each(|hook| hook());
}
