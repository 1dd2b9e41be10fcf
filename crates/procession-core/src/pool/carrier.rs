//! The way of a worker's chunks to another machine, as the worker's loop uses it: see `carried.rs`,
//! which starts such a worker. Used in the worker's thread; a [`Told`] in any.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_shm::Control;
use procession_sys::{ExitStatus, Signal};

use crate::child::Elsewhere;

/// The tasks of a chunk, or one of them, on their way to where they run.
#[derive(Debug)]
pub struct Load<'a> {
    /// The function, as [`Entry::to_raw`](procession_sys::image::Entry::to_raw) names it.
    pub entry: u64,
    /// The number of tasks.
    pub count: u32,
    /// Their encoded arguments, in the form of [`record`](procession_shm::record).
    pub items: &'a [u8],
    /// The id of the state that they share, and the state, if they have one.
    pub state: Option<(u64, &'a [u8])>,
}

/// The end of a process elsewhere.
#[derive(Debug)]
pub struct Departed {
    /// Its exit status; `None`: unknown.
    pub status: Option<ExitStatus>,
    /// The outcome of its initializer, by tag and payload, if that did not let the process begin.
    pub outcome: Option<(u32, Vec<u8>)>,
    /// It may have been at the first of the tasks without an outcome. Otherwise no task was begun
    /// whose outcome has not come.
    pub has_lost: bool,
}

impl Departed {
    /// One that was killed, or is not there any more.
    pub fn killed() -> Departed {
        Departed { status: Some(ExitStatus::signaled(Signal::KILL.as_raw())), outcome: None, has_lost: true }
    }
}

/// The way to the process elsewhere, for one worker. Each call waits, and ends early with
/// [`Departed`] if the process has ended or the worker was told to.
pub trait Carrier: Send {
    /// Waits until the process is ready for tasks.
    fn begin(&mut self) -> Result<(), Departed>;

    /// Runs tasks there. `deliver` is called with their outcomes as they come, some at a time and
    /// in order, in the form of [`record`](procession_shm::record).
    fn carry(&mut self, load: &Load<'_>, deliver: &mut dyn FnMut(&[u8])) -> Result<(), Departed>;

    /// Has the process leave once it is idle, and waits for its end.
    fn leave(&mut self) -> Departed;

    /// Returns how the process has ended, of which the worker has been [told](Told::tell_end).
    fn departed(&mut self) -> Departed;
}

/// Has the process elsewhere killed, and wakes a [`Carrier`] that waits. Called in any thread.
pub type OnKill = Box<dyn Fn() + Send + Sync>;

/// The way to tell a worker that waits for tasks that its process has ended.
pub struct Told {
    control: Arc<Control>,
    slot: usize,
    has_ended: AtomicBool,
}

impl Told {
    /// For the worker of a slot, which has mapped the pool's memory.
    pub(super) fn new(control: Arc<Control>, slot: usize) -> Told {
        Told { control, slot, has_ended: AtomicBool::new(false) }
    }

    /// Has the worker ask its carrier how its process has ended.
    pub fn tell_end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn wake(&self) {
        // All, as another of the pool's workers may sleep there too.
        self.control.task_gate().wake(u32::MAX);
        self.control.stream(self.slot).wake_producer();
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// The carrier of a worker, in its thread.
pub(super) struct Way {
    pub(super) carrier: Box<dyn Carrier>,
    pub(super) child: Arc<Elsewhere>,
    pub(super) told: Arc<Told>,
    pub(super) departed: Option<Departed>,
}

impl Way {
    /// Returns whether the worker claims and commits no more.
    pub(super) fn is_over(&self) -> bool {
        self.departed.is_some() || self.has_news()
    }

    /// Returns whether something has come that ends the worker.
    pub(super) fn has_news(&self) -> bool {
        is_to_end(&self.child, &self.told)
    }

    /// Tells, without a borrow of the way, whether something has come that ends the worker.
    pub(super) fn watch(&self) -> impl Fn() -> bool + use<> {
        let (child, told) = (self.child.clone(), self.told.clone());
        move || is_to_end(&child, &told)
    }

    /// Tells, without a borrow of the way, whether the worker was killed. One whose process has
    /// ended may still have outcomes to commit.
    pub(super) fn watch_kill(&self) -> impl Fn() -> bool + use<> {
        let child = self.child.clone();
        move || child.signal().is_some()
    }

    /// Returns whether the process has ended between two tasks.
    pub(super) fn has_left(&self) -> bool {
        self.departed.as_ref().is_some_and(|departed| !departed.has_lost)
    }

    /// Runs tasks; `false` if the worker has ended with them.
    pub(super) fn carry(&mut self, load: &Load<'_>, deliver: &mut dyn FnMut(&[u8])) -> bool {
        match self.carrier.carry(load, deliver) {
            Ok(()) => true,
            Err(departed) => {
                self.departed = Some(departed);
                false
            }
        }
    }
}

fn is_to_end(child: &Elsewhere, told: &Told) -> bool {
    child.signal().is_some() || told.has_ended.load(Ordering::SeqCst)
}
