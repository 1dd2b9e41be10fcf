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

use super::meters::Meters;
use super::oom::OomWatch;
use super::role::Worker;
use super::running::{CpuTimes, RunningTasks};
use super::seal::Seal;
use super::worker::Service;
use crate::child::{Child, End};
use crate::confinement::{Limit, Limits};
use crate::outcome::{Loss, tag};
use crate::output::{Collector, Recording, Streams};
use crate::preparation::Preparation;
use crate::setting::Setting;
use crate::start::{self, Start, StartMethod};
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
    /// The number of workers to keep: those of the first slots. Changed under the lock.
    size: AtomicUsize,
    /// Some slot has no worker: the next thread that may start processes is to look.
    is_vacant: AtomicBool,
    oom: OomWatch,
    running: RunningTasks,
    cpu_times: CpuTimes,
    /// Reads what the workers print and log.
    output: Collector,
    /// In a pool that measures.
    meters: Option<Meters>,
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
    /// The worker that has ended last, in a pool that replaces none.
    last_ended: Option<Arc<Child>>,
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
    /// It took more than it may.
    Limit(Limit),
}

/// A slot that the caller has reserved, and is to start a worker in.
#[derive(Debug)]
#[must_use]
pub(super) struct Reserved {
    pub(super) slot: usize,
    name: String,
}

/// The end of a worker.
#[derive(Clone, Debug)]
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
            last_ended: None,
            not_before: None,
        };
        Crew {
            starter,
            output: Collector::new(service.output.clone(), service.records.clone(), service.entering.clone()),
            meters: service.measures.then(Meters::default),
            service: Arc::new(service),
            workers: Mutex::new(workers),
            size: AtomicUsize::new(size),
            is_vacant: AtomicBool::new(false),
            oom: OomWatch::begin(),
            running: RunningTasks::default(),
            cpu_times: CpuTimes::default(),
        }
    }

    /// Returns the task that each worker runs now, and since when as far as is known.
    pub(super) fn look(&self, control: &Control) -> Vec<Option<(Snapshot, Instant)>> {
        self.running.look(control)
    }

    /// Returns the processor time that a task has used since it was first seen; `now` is what its
    /// worker has used by now.
    pub(super) fn cpu_time_since(&self, slot: usize, task: Snapshot, pid: u32, now: Duration) -> Duration {
        self.cpu_times.since(slot, task, pid, now)
    }

    /// The reader of what the workers print and log.
    pub(super) fn output(&self) -> &Collector {
        &self.output
    }

    /// The sums of the workers' meters; `None` in a pool that does not measure.
    pub(super) fn meters(&self) -> Option<&Meters> {
        self.meters.as_ref()
    }

    pub(super) fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    /// The context of a job that this thread submits.
    pub(super) fn capture_context(&self) -> Option<Vec<u8>> {
        self.service.propagation.as_ref()?.capture()
    }

    /// Returns the limits of what each worker may take.
    pub(super) fn limits(&self) -> &Limits {
        &self.service.confinement.limits
    }

    pub(super) fn method(&self) -> StartMethod {
        self.starter.method()
    }

    /// Returns whether workers are forked by threads of the program alone, and not by the pool's
    /// thread: a fork copies whatever lock another thread holds.
    pub(super) fn is_forked(&self) -> bool {
        self.method() == StartMethod::Fork
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
    /// The error of the start method.
    pub(super) fn start(
        &self,
        reserved: &Reserved,
        control: &Arc<Control>,
        broker: Arc<Link>,
        (streams, recording): (Option<Streams>, Option<Recording>),
        seal: Option<Seal>,
    ) -> Result<Arc<Child>> {
        let (slot, service) = (reserved.slot as u32, self.service.clone());
        let setting =
            Setting { streams, recording, leads_group: service.leads_group, confinement: service.confinement.clone() };
        let role = Box::new(Worker { control: control.clone(), slot, service, broker, seal });
        let preparation = Preparation { name: reserved.name.clone(), daemon: true, setting, role };
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
    /// An error of the system; `InvalidData` if the shared memory was overwritten.
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
        let is_here = child.host().is_none();
        let is_killed = is_here && cause.is_none() && end.code() == Some(-Signal::KILL.as_raw());
        let by_oom_killer = if is_killed { self.oom.blames() } else { Some(false) };
        let limit = match cause {
            Some(Cause::Limit(limit)) => Some(limit),
            Some(Cause::Timeout | Cause::Cancelled) => None,
            None => self.service.confinement.limit_behind(end.code()),
        };
        let (pid, code, host) = (child.pid(), end.code(), child.host());
        Departure { loss: Loss { pid, code, by_oom_killer, limit, call: 0, host }, cause }
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

    /// Returns whether arguments and results hold all that belongs to them.
    pub(super) fn is_inline(&self) -> bool {
        self.service.is_inline
    }

    /// Returns whether lost workers are replaced.
    pub(super) fn is_replaced(&self) -> bool {
        !self.service.is_final
    }

    /// A worker's tasks are accounted for, and it is not replaced.
    pub(super) fn keep_ended(&self, child: &Arc<Child>) {
        self.workers().last_ended = Some(child.clone());
    }

    /// The worker that has ended last, in a pool that replaces none.
    pub(super) fn last_ended(&self) -> Option<Arc<Child>> {
        self.workers().last_ended.clone()
    }

    /// Returns whether a slot that is to have a worker may be empty.
    pub(super) fn has_vacancy(&self) -> bool {
        self.is_vacant.load(Ordering::SeqCst)
    }

    pub(super) fn set_vacant(&self, is_vacant: bool) {
        self.is_vacant.store(is_vacant, Ordering::SeqCst);
    }

    /// Returns the time until a vacancy may be tried again; `None` if there is no vacancy.
    pub(super) fn pause_before_refill(&self, now: Instant) -> Option<Duration> {
        if !self.has_vacancy() {
            return None;
        }
        Some(self.workers().not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now)))
    }

    /// Stops the task that a worker was seen at, by the end of the worker, unless the task has
    /// ended meanwhile. Returns `false` if that cannot be done yet, and is to be tried again at the
    /// next tick: the worker is at work before the thread that starts it knows of it.
    pub(super) fn stop_task(&self, control: &Control, slot: usize, snapshot: Snapshot, cause: Cause) -> bool {
        match &mut self.workers().slots[slot].state {
            State::Vacant | State::Ending => true,
            State::Starting => false,
            State::Serving(child, stopped) => {
                if control.slot(slot).running().stop_stretch(snapshot) {
                    *stopped = Some(cause);
                    // Refused only when it has ended, which the supervisor reports.
                    let _ = child.signal(Signal::KILL);
                }
                true
            }
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

    /// Returns whether there is a worker.
    pub(super) fn has_worker(&self) -> bool {
        self.workers().serving().next().is_some()
    }

    /// Returns whether there is no worker, and none to come of a start that has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.workers().slots.iter().all(|slot| matches!(slot.state, State::Vacant))
    }

    /// Returns whether a slot has no worker, and none to come of a start that has begun.
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

    /// Each worker with its slot, and the tasks begun in the slot before it came; and how many
    /// workers were started in the place of others.
    pub(super) fn roll(&self) -> (Vec<(usize, Arc<Child>, u64)>, u64) {
        let workers = self.workers();
        let of = |(slot, child): (usize, &Arc<Child>)| (slot, child.clone(), workers.slots[slot].begun_before);
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

    fn reserve(&mut self, slot: usize, method: StartMethod) -> Reserved {
        self.slots[slot].state = State::Starting;
        self.named += 1;
        let prefix = match method {
            StartMethod::Fork => "Fork",
            StartMethod::Spawn => "Spawn",
            StartMethod::ForkServer => "ForkServer",
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
        Ok(Some((tag::UNCONFINED, why))) => {
            Error::Unconfined { pid: child.pid(), why: String::from_utf8_lossy(why).into_owned() }
        }
        Ok(Some((tag::NOT_STARTED, why))) => Error::Invalid(String::from_utf8_lossy(why).into_owned()),
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
    fn method(&self) -> StartMethod {
        StartMethod::Spawn
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
    fn a_task_cannot_be_stopped_while_its_worker_is_being_started() {
        let (crew, control) = (crew(1, 1), Control::with_room(1, 1).unwrap());
        let running = control.slot(0);
        running.running().begin(7);
        let stop_task = || crew.stop_task(&control, 0, running.running().look().unwrap(), Cause::Cancelled);
        assert!(stop_task(), "there is no worker to stop");
        crew.set_vacant(true);
        let reserved = crew.reserve_vacant().unwrap();
        assert!(!stop_task() && running.running().look().is_some());
        crew.vacate(reserved.slot);
        assert!(stop_task());
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
