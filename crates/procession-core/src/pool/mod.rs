//! The pool: workers that take tasks from one shared segment.
//!
//! ```text
//!            parent                          segment                       worker 0..n
//!   ┌──────────────────────┐        ┌───────────────────────┐       ┌───────────────────────┐
//!   │ caller: map, apply   │        │                       │       │                       │
//!   │   task handler ──────┼─push──▶│ task ring             ├─claim▶│ inbox: claimed frames │
//!   │   result handler ◀───┼─drain──┤ result stream, one    │◀write─┤ run, one item a time  │
//!   │     (in whoever      │        │   for each worker     │       │                       │
//!   │      waits)          │        │ slot, one for each:   │       └──────────┬────────────┘
//!   │   worker handler ◀───┼─take───┤   lease, hands        │                  │ dies
//!   │     (own thread)     │  back  └───────────────────────┘                  │
//!   │        ▲             │                                                   │
//!   │   supervisor ◀───────┼───────────────────── pidfd ───────────────────────┘
//!   └──────────────────────┘
//! ```
//!
//! | role | file | runs in |
//! |---|---|---|
//! | task handler | `task_handler.rs` | the thread that submits |
//! | result handler | `result_handler.rs` | the thread that waits for a result; else the pool's thread |
//! | worker handler | `worker_handler.rs` | the pool's thread |
//! | | `workers.rs`: starting and replacing them | the pool's thread; under fork the program's |
//! | | `stop.rs`: time limits and cancelling | the pool's thread; the thread that cancels |
//! | | `callback.rs`: what is to be done with results | the pool's thread |
//! | | `ring.rs`: the ring's locks, of which a stopped worker may hold one | each of these |
//! | | `overwritten.rs`: shared memory that a task's native code has overwritten | the pool's thread; whoever finds it |
//! | | `feeder.rs`: who submits bit by bit | the thread that submits |
//! | | `stats.rs`: what it is doing | the thread that asks |
//! | | `memory.rs`, `oom.rs`: memory of workers, and deaths for want of it | worker and parent |
//! | | `blocks.rs`: large buffers | whoever encodes or decodes them |
//! | | `desk.rs`: handles in arguments | a thread of its own, once there are any |
//! | worker | `worker.rs`; `tasks.rs`: its way through a chunk | the worker process |
//!
//! **Invariants.** A task is at any moment in exactly one place: in the ring, in one worker's inbox, or accounted for in
//! its job. A result counts from the one store that commits it to the worker's stream. What a dead worker had
//! committed counts, the task it ran is lost, what it had only claimed goes back to the ring.
//! Lock order: `workers`, then `readers`, then `jobs`; under the ring's lock, and under those of `events`, `abandoned`,
//! `postponed` and `notes`, nothing is locked. No process is started and no lock of the ring's is waited for under any of them.

pub mod blocks;
mod callback;
mod chunk;
mod desk;
mod feeder;
mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod handle;
mod items;
mod job;
mod jobs;
mod memory;
mod oom;
mod overwritten;
mod result_handler;
mod ring;
mod stats;
mod stop;
mod task_handler;
mod tasks;
mod trace;
pub mod worker;
mod worker_handler;
mod workers;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

pub use procession_shm::Control;
use procession_shm::Spin;
use procession_sys::image::Entry;
use procession_sys::per_process::fork_generation;

use crate::start::Start;
use crate::{Error, Result};
use blocks::Arguments;
pub use callback::Callback;
pub use chunk::Results;
use desk::Desk;
pub use feeder::Feeder;
pub use handle::Handle;
pub use items::Items;
pub use job::Terms;
use jobs::Jobs;
use memory::Memory;
use oom::OomWatch;
use result_handler::{Reader, Turn};
use ring::Postponed;
use stats::Sights;
pub use stats::{RunningTask, Stats, WorkerStats};
pub use task_handler::{explicit_chunks, guided_chunks};
pub use tasks::{Tasks, tasks};
use trace::Notes;
pub use worker::{Initializer, Service};
use worker_handler::Events;
use workers::Workers;

/// The most workers a pool can have.
pub const MAX_WORKERS: usize = 1024;

/// How often its first size a pool may grow to, and how far a small one may in any case. The room is addresses only.
const ROOM: usize = 4;
const LEAST_ROOM: usize = 64;

/// A pool of worker processes.
///
/// Dropping it terminates the workers; results that were not ready become [`Error::Terminated`].
pub struct Pool {
    shared: Arc<Shared>,
}

/// What the pool's threads share.
struct Shared {
    control: Arc<Control>,
    starter: Box<dyn Start + Send>,
    service: Arc<Service>,
    desk: Desk,
    arguments: Mutex<Arguments>,
    generation: u64,
    state: AtomicU8,
    jobs: Mutex<Jobs>,
    /// How many jobs are not finished; the table's own count, readable without its lock.
    outstanding: AtomicUsize,
    /// Jobs that futures await, and callbacks that have not run.
    awaited: AtomicUsize,
    /// Of finished jobs, on their way out of the locks under which these were finished.
    wakers: Mutex<Vec<Vec<Waker>>>,
    readers: Mutex<Vec<Reader>>,
    spin: Spin,
    turn: Mutex<Turn>,
    turned: Condvar,
    workers: Mutex<Workers>,
    /// How many workers are to be kept: those of the first slots. Changed under the lock of `workers`.
    size: AtomicUsize,
    sights: Mutex<Sights>,
    oom: OomWatch,
    notes: Notes,
    /// Jobs that have ended though tasks of theirs are queued.
    abandoned: Mutex<Vec<u64>>,
    has_abandoned: AtomicBool,
    postponed: Mutex<Postponed>,
    /// Threads that have frames in their own hands.
    carrying: AtomicUsize,
    /// Of the pool's thread, so far.
    ticks: AtomicUsize,
    /// Some slot has no worker: the next thread that may start processes is to look.
    vacant: AtomicBool,
    events: Mutex<Events>,
    happened: Condvar,
    /// The pool's thread sleeps without a tick, and whoever gives it work must wake it.
    dozing: AtomicBool,
    /// A callback runs.
    calling_back: AtomicBool,
    /// One has run since the pool's thread slept last.
    has_called_back: AtomicBool,
    /// Who may submit though the pool is closed.
    feeders: AtomicUsize,
    /// Why no more tasks can be run, once that is so.
    broken: OnceLock<Arc<Error>>,
}

/// Tasks are taken.
const OPEN: u8 = 0;
/// No more tasks are taken; those that were are finished.
const CLOSED: u8 = 1;
/// Workers are killed, tasks are given up.
const TERMINATED: u8 = 2;

impl Pool {
    /// Starts `workers` workers.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for no or too many workers; what the start method says.
    pub fn new(workers: usize, starter: impl Start + Send + 'static, service: Service) -> Result<Pool> {
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(Error::Invalid(format!(
                "a pool needs 1 to {MAX_WORKERS} workers, not {workers}: try available_parallelism()"
            )));
        }
        if service.max_memory.is_some() {
            Memory::of_self()
                .map_err(Error::os("cannot keep workers to their memory: /proc does not say what they have"))?;
        }
        let control = Control::with_room(workers, (workers * ROOM).max(LEAST_ROOM));
        let control = control.map_err(Error::os("cannot make the pool's shared memory"))?;
        let arguments = Arguments::new(&control).map_err(Error::os("cannot make the pool's shared memory"))?;
        let room = control.room();
        let shared = Arc::new(Shared {
            control: Arc::new(control),
            starter: Box::new(starter),
            service: Arc::new(service),
            desk: Desk::new().map_err(Error::os("cannot make the link by which workers ask for handles"))?,
            arguments: Mutex::new(arguments),
            generation: fork_generation(),
            state: AtomicU8::new(OPEN),
            jobs: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            awaited: AtomicUsize::new(0),
            wakers: Mutex::default(),
            readers: Mutex::new((0..room).map(|_| Reader::default()).collect()),
            spin: Spin::new(workers + 1),
            turn: Mutex::default(),
            turned: Condvar::new(),
            workers: Mutex::new(Workers::new(room)),
            size: AtomicUsize::new(workers),
            sights: Mutex::default(),
            oom: OomWatch::begin(),
            notes: Notes::default(),
            abandoned: Mutex::default(),
            has_abandoned: AtomicBool::new(false),
            postponed: Mutex::default(),
            carrying: AtomicUsize::new(0),
            ticks: AtomicUsize::new(0),
            vacant: AtomicBool::new(false),
            events: Mutex::default(),
            happened: Condvar::new(),
            dozing: AtomicBool::new(false),
            calling_back: AtomicBool::new(false),
            has_called_back: AtomicBool::new(false),
            feeders: AtomicUsize::new(0),
            broken: OnceLock::new(),
        });
        // From here on the drop of `pool` ends what was started.
        let pool = Pool { shared };
        for slot in 0..workers {
            pool.shared.hire(slot)?;
        }
        pool.shared.clone().begin_worker_handler()?;
        pool.shared.notes.tell();
        Ok(pool)
    }

    /// How many workers it keeps.
    pub fn size(&self) -> usize {
        self.shared.size()
    }

    /// Keeps so many workers from now on. More are started at once; of fewer, those that are too many end after the task
    /// that they run.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for no worker, or more than there is room for; what the start method says, and then the pool keeps
    /// as many as before. [`Error::Closed`], [`Error::Broken`], [`Error::Inherited`].
    pub fn resize(&self, workers: usize) -> Result<()> {
        self.shared.check_owner("Pool")?;
        self.shared.resize(workers)
    }

    /// What it is doing now.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn stats(&self) -> Result<Stats> {
        self.shared.check_owner("Pool")?;
        self.shared.refill_if_mine();
        Ok(self.shared.stats())
    }

    /// The pids of the workers that are alive now; none in a forked child, which has no workers.
    pub fn worker_pids(&self) -> Vec<u32> {
        match self.shared.check_owner("Pool") {
            Ok(()) => self.shared.worker_pids(),
            Err(_) => Vec::new(),
        }
    }

    /// So many arguments as `encode` pushes, which may hold handles and large buffers.
    ///
    /// # Errors
    ///
    /// The error of `encode`.
    pub fn items<E>(&self, capacity: usize, encode: impl FnOnce(&mut Items) -> Result<(), E>) -> Result<Items, E> {
        Items::encoded(&self.shared, capacity, encode)
    }

    /// Submits a job: `entry` over each item.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after `close` or `terminate`; [`Error::Broken`]; [`Error::Inherited`] in a forked child;
    /// [`Error::Invalid`] for a chunk of 0, or when the shared memory cannot take the job.
    pub fn submit(&self, entry: Entry, items: Items, terms: Terms) -> Result<Handle> {
        self.shared.check_owner("Pool")?;
        self.shared.refill_if_mine();
        let job = self.shared.submit(entry, items, terms, false)?;
        Ok(Handle { shared: self.shared.clone(), job })
    }

    /// Takes no more tasks. Workers end when those that were taken are finished.
    pub fn close(&self) {
        if self.shared.check_owner("Pool").is_ok() {
            let _ = self.shared.state.compare_exchange(OPEN, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
            self.shared.poke();
        }
    }

    /// Whether it takes no more tasks, from anybody but feeders.
    pub fn is_closed(&self) -> bool {
        self.shared.state() != OPEN
    }

    /// Kills the workers and gives up what is not finished. Returns when they are gone.
    pub fn terminate(&self) {
        // D state aside, a killed process is gone in no time; a bound all the same, so that no drop blocks for ever.
        const PATIENCE: Duration = Duration::from_secs(5);
        if self.shared.check_owner("Pool").is_ok() {
            self.shared.terminate();
            let deadline = Instant::now() + PATIENCE;
            if self.shared.is_own_thread() {
                // In a callback: the thread that would say so waits here. It goes when the callback has returned.
                self.shared.wait_for_workers(deadline);
            } else {
                self.shared.wait_gone(Some(deadline));
            }
        }
    }

    /// Waits until every task is finished and every worker has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] before `close` or `terminate`, since it would wait for ever; [`Error::Timeout`] if a signal has
    /// [ended](crate::interrupt) the wait.
    pub fn join(&self) -> Result<()> {
        self.shared.check_owner("Pool")?;
        if self.shared.state() == OPEN {
            return Err(Error::Invalid(
                "join() waits for workers to end, and those of an open pool never do: call \
                                       close() (finish all tasks) or terminate() (give them up) first"
                    .into(),
            ));
        }
        if self.shared.is_own_thread() {
            return Err(Error::Invalid(
                "join() in a callback would wait for the pool's thread, which runs the callback: join from another"
                    .into(),
            ));
        }
        let is_done = || !self.shared.is_fed() && self.shared.outstanding.load(Ordering::SeqCst) == 0;
        let is_joined = self.shared.wait_until(is_done, None) && {
            self.shared.poke();
            self.shared.wait_gone(None)
        };
        // Without a deadline only a signal ends a wait early.
        if is_joined { Ok(()) } else { Err(Error::Timeout { what: "the pool's workers ended" }) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = ["open", "closed", "terminated"][usize::from(self.shared.state())];
        f.debug_struct("Pool")
            .field("workers", &self.size())
            .field("start_method", &self.shared.starter.method())
            .field("state", &state)
            .field("outstanding", &self.shared.outstanding.load(Ordering::Relaxed))
            .finish()
    }
}

impl Shared {
    fn size(&self) -> usize {
        self.size.load(Ordering::SeqCst)
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::SeqCst)
    }

    fn check_owner(&self, what: &'static str) -> Result<()> {
        if self.generation != fork_generation() {
            return Err(Error::Inherited { what });
        }
        Ok(())
    }
}
