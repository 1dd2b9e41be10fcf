//! The workers of a pool, by slot: which there are, how each is started and stopped, and when the
//! pool gives up replacing them. In the parent, in any thread.
//!
//! A start may take long: a fork server may be stopped, an interpreter busy. So it happens under no
//! lock. The thread that starts a worker reserves its slot first, and enters the worker when it is
//! there.
//!
//! A worker that cannot be started, or ends before it is ready, is tried again after a pause that
//! grows. When that has failed so often in a row that no worker is left, there is no hope for the
//! pool: [`Crew::hopeless`] says why.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::{Control, Snapshot};
use procession_sys::Signal;
use procession_sys::link::Link;

use super::oom::OomWatch;
use super::role::Worker;
use super::running::RunningTasks;
use super::worker::Service;
use crate::child::{Child, End};
use crate::outcome::Loss;
use crate::preparation::Preparation;
use crate::start::{self, Method, Start};
use crate::{Error, Result};

/// Workers that end before they are ready, or cannot be started, in a row: then the pool is broken.
const MAX_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Crew {
    starter: Box<dyn Start + Send>,
    service: Arc<Service>,
    workers: Mutex<Workers>,
    /// How many workers are to be kept: those of the first slots. Changed under the lock.
    size: AtomicUsize,
    /// Some slot has no worker: the next thread that may start processes is to look.
    is_vacant: AtomicBool,
    oom: OomWatch,
    running: RunningTasks,
}

#[derive(Debug)]
struct Workers {
    slots: Vec<Slot>,
    /// Workers started in the place of others.
    respawns: u64,
    /// Workers for which a slot was reserved.
    named: u64,
    /// Starts that have failed, since the last worker that became ready.
    failures: u32,
    last_failure: Option<Arc<Error>>,
    /// When a vacancy may be tried again.
    not_before: Option<Instant>,
}

#[derive(Debug, Default)]
struct Slot {
    state: State,
    /// Tasks begun in the slot before its worker came.
    begun_before: u64,
}

/// The worker of a slot.
#[derive(Debug, Default)]
enum State {
    /// No worker.
    #[default]
    Vacant,
    /// A worker that some thread is starting.
    Starting,
    /// A worker, and why its task is stopped if it is.
    Serving(Arc<Child>, Option<Cause>),
    /// A dead worker, whose tasks are being accounted for.
    Ending,
}

/// Why a worker's task is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// It ran longer than its timeout.
    Timeout,
    /// It is wanted no more.
    Cancelled,
}

/// A slot that the caller has reserved, and is to start a worker in.
#[derive(Debug)]
#[must_use]
pub(super) struct Reserved {
    pub(super) slot: usize,
    name: String,
}

/// How a worker has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) loss: Loss,
    /// Why its task was stopped, if that was the end of it.
    pub(super) cause: Option<Cause>,
}

impl Crew {
    /// A crew of `size` workers in up to `room` slots, none of which is started yet.
    pub(super) fn new(starter: Box<dyn Start + Send>, service: Service, size: usize, room: usize) -> Crew {
        let workers = Workers {
            slots: (0..room).map(|_| Slot::default()).collect(),
            respawns: 0,
            named: 0,
            failures: 0,
            last_failure: None,
            not_before: None,
        };
        Crew {
            starter,
            service: Arc::new(service),
            workers: Mutex::new(workers),
            size: AtomicUsize::new(size),
            is_vacant: AtomicBool::new(false),
            oom: OomWatch::begin(),
            running: RunningTasks::default(),
        }
    }

    /// Returns the task that each worker runs now, and since when as far as is known.
    pub(super) fn look(&self, control: &Control) -> Vec<Option<(Snapshot, Instant)>> {
        self.running.look(control)
    }

    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    pub(super) fn method(&self) -> Method {
        self.starter.method()
    }

    /// Whether workers are forked by threads of the program alone, and not by the pool's: a fork
    /// copies whatever lock another thread holds.
    pub(super) fn is_forked(&self) -> bool {
        self.method() == Method::Fork
    }

    /// Reserves the slots of the first workers.
    pub(super) fn reserve_first(&self) -> Vec<Reserved> {
        let mut workers = self.workers();
        (0..self.size()).map(|slot| workers.reserve(slot, self.method())).collect()
    }

    /// Reserves an empty slot that is to have a worker, if there is one and it is time.
    pub(super) fn reserve_vacant(&self) -> Option<Reserved> {
        if !self.has_vacancy() {
            return None;
        }
        let mut workers = self.workers();
        if workers.not_before.is_some_and(|then| then > Instant::now()) {
            return None;
        }
        let slot = (0..self.size()).find(|slot| matches!(workers.slots[*slot].state, State::Vacant));
        if slot.is_none() {
            // A slot that another thread has reserved is that thread's.
            self.set_vacant(false);
        }
        slot.map(|slot| workers.reserve(slot, self.method()))
    }

    /// Starts a worker in a reserved slot, which then is still reserved. Under no lock.
    ///
    /// # Errors
    ///
    /// What the start method says.
    pub(super) fn start(&self, reserved: &Reserved, control: &Arc<Control>, broker: Arc<Link>) -> Result<Arc<Child>> {
        let (slot, service) = (reserved.slot as u32, self.service.clone());
        let role = Box::new(Worker { control: control.clone(), slot, service, broker });
        let preparation = Preparation { name: reserved.name.clone(), daemon: true, role };
        start::start(&*self.starter, preparation)
    }

    /// Enters the worker that was started in a reserved slot, in which so many tasks had been begun
    /// before.
    pub(super) fn enter(&self, slot: usize, child: Arc<Child>, begun_before: u64) {
        self.workers().slots[slot] = Slot { state: State::Serving(child, None), begun_before };
    }

    /// Makes a slot empty that was reserved, or whose worker is dead.
    pub(super) fn vacate(&self, slot: usize) {
        self.workers().slots[slot].state = State::Vacant;
    }

    /// Changes how many workers are kept: makes shared memory for them, dismisses the others, and
    /// reserves the slots that are to have one besides. Returns the size before.
    ///
    /// # Errors
    ///
    /// What the system refuses; `InvalidData` if the shared memory was overwritten.
    pub(super) fn resize(&self, control: &Control, size: usize) -> io::Result<(usize, Vec<Reserved>)> {
        let mut workers = self.workers();
        control.grow(size)?;
        let before = self.size.swap(size, Ordering::SeqCst);
        (0..size.max(before)).for_each(|slot| control.slot(slot).dismiss(slot >= size));
        let is_vacant = |slot: &usize| matches!(workers.slots[*slot].state, State::Vacant);
        let vacant: Vec<_> = (before..size).filter(is_vacant).collect();
        Ok((before, vacant.into_iter().map(|slot| workers.reserve(slot, self.method())).collect()))
    }

    /// Changes the size back, as workers could not be started; unless another thread has changed it
    /// since.
    pub(super) fn resize_back(&self, control: &Control, size: usize, before: usize) {
        let _workers = self.workers();
        if self.size.compare_exchange(size, before, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            (before..size).for_each(|slot| control.slot(slot).dismiss(true));
        }
    }

    /// Notes how a worker has ended: what is known of the chances of replacing it, and why it was
    /// stopped. From now on nobody stops its task any more. Its slot is [vacated](Crew::vacate)
    /// once its tasks are accounted for.
    pub(super) fn note_end(
        &self,
        slot: usize,
        child: &Child,
        end: &End,
        was_ready: bool,
        is_wanted: bool,
    ) -> Departure {
        let mut workers = self.workers();
        let State::Serving(_, cause) = mem::replace(&mut workers.slots[slot].state, State::Ending) else {
            unreachable!("the death of a worker is told once, and only of one that serves");
        };
        if was_ready {
            workers.failures = 0;
        } else if is_wanted {
            workers.note_failure(Arc::new(failure_of(child, end)));
        }
        drop(workers);
        let is_killed = cause.is_none() && end.code() == Some(-Signal::KILL.as_raw());
        let by_oom_killer = if is_killed { self.oom.blames() } else { Some(false) };
        Departure { loss: Loss { pid: child.pid(), code: end.code(), by_oom_killer }, cause }
    }

    /// Notes that a worker could not be started.
    pub(super) fn note_failure(&self, error: Error) {
        self.workers().note_failure(Arc::new(error));
    }

    /// Notes that a worker was started in the place of another.
    pub(super) fn note_respawn(&self) {
        self.workers().respawns += 1;
    }

    /// Why no worker is left, and none will come.
    pub(super) fn hopeless(&self) -> Option<Arc<Error>> {
        let workers = self.workers();
        let is_hopeless = workers.failures >= MAX_FAILURES && workers.serving().next().is_none();
        workers.last_failure.clone().filter(|_| is_hopeless)
    }

    /// Whether a slot may be empty that is to have a worker.
    pub(super) fn has_vacancy(&self) -> bool {
        self.is_vacant.load(Ordering::SeqCst)
    }

    pub(super) fn set_vacant(&self, is_vacant: bool) {
        self.is_vacant.store(is_vacant, Ordering::SeqCst);
    }

    /// How long until a vacancy may be tried again; `None` if there is none.
    pub(super) fn pause_before_refill(&self, now: Instant) -> Option<Duration> {
        if !self.has_vacancy() {
            return None;
        }
        Some(self.workers().not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now)))
    }

    /// Stops the task that a worker was seen at, by the end of the worker, unless the task has
    /// ended meanwhile.
    pub(super) fn stop_task(&self, control: &Control, slot: usize, snapshot: Snapshot, cause: Cause) {
        let mut workers = self.workers();
        let State::Serving(child, stopped) = &mut workers.slots[slot].state else { return };
        if control.slot(slot).running().stop_stretch(snapshot) {
            *stopped = Some(cause);
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }

    /// Kills the worker of a slot, if there is one.
    pub(super) fn kill(&self, slot: usize) {
        if let State::Serving(child, _) = &self.workers().slots[slot].state {
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }

    /// Kills every worker.
    pub(super) fn kill_all(&self) {
        for (_, child) in self.workers().serving() {
            // Refused only when it has ended, which the supervisor reports.
            let _ = child.signal(Signal::KILL);
        }
    }

    /// The workers that there are, each with its slot.
    pub(super) fn serving(&self) -> Vec<(usize, Arc<Child>)> {
        self.workers().serving().map(|(slot, child)| (slot, child.clone())).collect()
    }

    /// Whether there is a worker.
    pub(super) fn has_worker(&self) -> bool {
        self.workers().serving().next().is_some()
    }

    /// Whether there is no worker, and none to come of a start that has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.workers().slots.iter().all(|slot| matches!(slot.state, State::Vacant))
    }

    /// Whether a slot has no worker, and none to come of a start that has begun.
    pub(super) fn is_slot_empty(&self, slot: usize) -> bool {
        matches!(self.workers().slots[slot].state, State::Vacant)
    }

    /// The pid of a slot's worker.
    pub(super) fn pid(&self, slot: usize) -> Option<u32> {
        match &self.workers().slots[slot].state {
            State::Serving(child, _) => Some(child.pid()),
            _ => None,
        }
    }

    /// Each worker's slot and pid, and the tasks begun in the slot before it came; and how many
    /// workers were started in the place of others.
    pub(super) fn roll(&self) -> (Vec<(usize, u32, u64)>, u64) {
        let workers = self.workers();
        let of = |(slot, child): (usize, &Arc<Child>)| (slot, child.pid(), workers.slots[slot].begun_before);
        (workers.serving().map(of).collect(), workers.respawns)
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    fn serving(&self) -> impl Iterator<Item = (usize, &Arc<Child>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.state {
            State::Serving(child, _) => Some((index, child)),
            _ => None,
        })
    }

    fn reserve(&mut self, slot: usize, method: Method) -> Reserved {
        self.slots[slot].state = State::Starting;
        self.named += 1;
        let prefix = match method {
            Method::Fork => "Fork",
            Method::Spawn => "Spawn",
            Method::ForkServer => "ForkServer",
        };
        Reserved { slot, name: format!("{prefix}PoolWorker-{}", self.named) }
    }

    fn note_failure(&mut self, error: Arc<Error>) {
        self.failures += 1;
        self.not_before = Some(Instant::now() + FIRST_PAUSE * (1 << self.failures.min(6)));
        self.last_failure = Some(error);
    }
}

/// Why a worker ended before it was ready.
fn failure_of(child: &Child, end: &End) -> Error {
    match end.returned(child.pid()) {
        Err(error) => error,
        Ok(Some((tag, payload))) => Error::Initializer { tag, payload: payload.to_vec() },
        Ok(None) => Error::WorkerFailed { pid: child.pid(), status: end.status },
    }
}

/// A start method that starts nothing.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Never;

#[cfg(test)]
impl Start for Never {
    fn method(&self) -> Method {
        Method::Spawn
    }

    fn popen(&self, _: Preparation<'_>) -> Result<crate::child::Popen> {
        Err(Error::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(size: usize, room: usize) -> Crew {
        Crew::new(Box::new(Never), Service::default(), size, room)
    }

    #[test]
    fn a_slot_is_reserved_once() {
        let crew = crew(2, 4);
        crew.set_vacant(true);
        let names = [(); 2].map(|()| crew.reserve_vacant().map(|reserved| (reserved.slot, reserved.name)));
        assert_eq!(names, [Some((0, "SpawnPoolWorker-1".into())), Some((1, "SpawnPoolWorker-2".into()))]);
        assert!(crew.reserve_vacant().is_none() && !crew.has_vacancy(), "the other slots are to stay empty");
        assert!(!crew.is_empty());
        [0, 1].into_iter().for_each(|slot| crew.vacate(slot));
        assert!(crew.is_empty());
    }

    #[test]
    fn a_crew_that_grows_reserves_what_it_misses() {
        let (crew, control) = (crew(1, 4), Control::with_room(1, 4).unwrap());
        let (before, reserved) = crew.resize(&control, 3).unwrap();
        assert_eq!((before, reserved.iter().map(|reserved| reserved.slot).collect::<Vec<_>>()), (1, vec![1, 2]));
        crew.resize_back(&control, 3, 1);
        assert_eq!(crew.size(), 1);
        crew.resize_back(&control, 3, 2);
        assert_eq!(crew.size(), 1, "another thread has changed it since");
    }

    #[test]
    fn failures_in_a_row_end_hope_and_pause_starts() {
        let crew = crew(1, 1);
        crew.set_vacant(true);
        for _ in 0..MAX_FAILURES {
            assert!(crew.hopeless().is_none());
            crew.note_failure(Error::Cancelled);
        }
        assert!(matches!(crew.hopeless().as_deref(), Some(Error::Cancelled)));
        assert!(crew.reserve_vacant().is_none(), "not before the pause is over");
        assert!(crew.pause_before_refill(Instant::now()).is_some_and(|pause| pause > Duration::ZERO));
    }
}
