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
//!   │   worker handler ◀───┼─take───┤   lease, hands        │                  │ ends
//!   │     (own thread)     │  back  └───────────────────────┘                  │
//!   │        ▲             │                                                   │
//!   │   supervisor ◀───────┼───────────────────── pidfd ───────────────────────┘
//!   └──────────────────────┘
//! ```
//!
//! The parent's state has owners. None knows another, and each has its locks to itself; `shared.rs`
//! holds them all:
//!
//! | owner | file | holds |
//! |---|---|---|
//! | `Lifecycle` | `lifecycle.rs` | whether tasks are taken, and why not |
//! | `Table` | `table.rs`, `job.rs` | the jobs, and what has come back of their tasks |
//! | `Intake` | `intake.rs` | the ends of the result streams; whose turn it is to take from them |
//! | `Crew` | `crew.rs`, `running.rs` | the workers, how many there are to be, how they are started, what they run |
//! | `Lending` | `lending.rs` | blocks that jobs have been lent |
//! | `HandleBroker` | `handle_broker.rs` | handles in arguments and states, and long states |
//! | `Mail` | `mail.rs` | what the pool's thread is told |
//! | `Backlog` | `backlog.rs` | what waits until the task ring can be had |
//! | `Collector` | `../output/collector.rs` | the pipes of what workers print and log |
//! | `JobSpans` | `job_spans.rs` | the spans of jobs, for records of their tasks |
//! | `Meters` | `meters.rs` | where the time of workers went, in a pool that measures |
//! | `Hooks` | `hooks.rs` | what a face has asked of the pool as a whole |
//!
//! The work on this state is ordered by roles:
//!
//! | role | file | runs in |
//! |---|---|---|
//! | task handler | `task_handler.rs`, `feeder.rs` | the thread that submits |
//! | | `feed/`: lazy maps | the thread that takes results, or joins |
//! | result handler | `result_handler.rs` | the thread that waits for a result; else the pool's thread |
//! | worker handler | `worker_handler.rs` | the pool's thread |
//! | | `workers.rs`: starting and replacing workers | the pool's thread; under fork the program's |
//! | | `stop.rs`: time limits and cancelling | the pool's thread; the thread that cancels |
//! | | `watch.rs`: limits of processor time and memory | the pool's thread |
//! | | `queued.rs`: giving up what has not begun | the thread that asks |
//! | | `callback.rs`: what is to be done with results | the pool's thread |
//! | | `ring.rs`: the task ring, which a stopped worker may keep locked | each of these |
//! | | `overwritten.rs`: shared memory that a task's native code has overwritten | the pool's thread; whoever finds it |
//! | | `stats.rs`, `memory.rs`, `oom.rs`, `insights.rs`: what the pool is doing | the thread that asks |
//! | | `measured.rs`: when what workers measured is collected | whoever finds a job or a worker ended; the thread that asks |
//! | what goes beside a job | `context.rs` | the thread that submits; the worker |
//! | results that are sealed | `seal.rs` | the worker for each; the thread that takes results |
//! | large buffers | `blocks.rs`; `outbox.rs` for arguments, `result_blocks.rs` for results | whoever encodes or decodes |
//! | workers on other machines | `carried.rs`; `carrier.rs`: what brings their chunks there | a thread for each |
//! | worker | `worker.rs`; `chunk.rs`: its way through a chunk; `state.rs`: the state of jobs; `role.rs`: its spawn message | the worker process |
//!
//! **Invariants.** A task is at any moment in exactly one place: in the ring, in one worker's
//! inbox, or accounted for in its job. A result counts from the one store that commits it to the
//! worker's stream. If a worker dies, its committed results count, and the task that it ran is
//! lost. Tasks that it had only claimed go back to the ring.

mod backlog;
pub mod blocks;
mod callback;
pub mod carried;
mod carrier;
mod chunk;
mod context;
mod crew;
mod feed;
mod feeder;
mod frame;
#[cfg(all(fuzzing, feature = "auth"))]
pub(crate) mod fuzzing;
mod handle;
mod handle_broker;
mod hooks;
mod insights;
mod intake;
mod items;
mod job;
mod job_spans;
mod lending;
mod lifecycle;
mod mail;
mod measured;
mod memory;
mod meters;
mod oom;
mod outbox;
mod overwritten;
mod queued;
mod result_blocks;
mod result_handler;
mod results;
mod ring;
pub mod role;
mod running;
mod seal;
mod shared;
mod state;
mod stats;
mod stop;
mod table;
mod task_handler;
mod trace;
mod watch;
pub mod worker;
mod worker_handler;
mod workers;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use procession_shm::{Control, Meter};

use crate::child::Child;
use crate::start::Start;
use crate::{Error, Result};
pub use chunk::{Answer, Calls, Chunk, ChunkEntry};
pub use context::Propagation;
pub use feed::{Ahead, Encoded, Feed, Order, Source, Submitted, Window};
pub use feeder::Feeder;
pub use handle::{Callback, Handle};
pub use hooks::{EndCallback, VacancyCallback};
pub use insights::{Insights, Shares, SlowTask, Times, WorkerInsights};
pub use items::Items;
pub use job::Terms;
use lifecycle::Phase;
use memory::Memory;
pub use results::{Arrived, Results};
use shared::Shared;
pub use shared::smallest_size;
pub use state::State;
pub use stats::{RunningTask, Stats, WorkerStats};
pub use task_handler::{explicit_chunks, guided_chunks};
pub use worker::{Initializer, Service};

/// The most workers a pool can have.
pub const MAX_WORKERS: usize = 1024;

/// A pool of worker processes.
///
/// Dropping it terminates the workers; results that were not ready become [`Error::Terminated`].
pub struct Pool {
    shared: Arc<Shared>,
}

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
        if service.max_memory.is_some() || service.confinement.limits.memory.is_some() {
            Memory::of_self()
                .map_err(Error::os("cannot keep workers to their memory: /proc does not say what they have"))?;
        }
        let shared = Arc::new(Shared::new(workers, Box::new(starter), service)?);
        shared.scope_records();
        // From here on the drop of `pool` ends what was started.
        let pool = Pool { shared };
        pool.shared.start_first_workers()?;
        pool.shared.begin_worker_handler()?;
        Ok(pool)
    }

    /// Returns the number of workers that the pool keeps.
    pub fn size(&self) -> usize {
        self.shared.crew.size()
    }

    /// Keeps so many workers from now on. More are started at once; of fewer, those that are too
    /// many end after the task that they run.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for no worker, or more than there is room for; what the start method
    /// says, and then the pool keeps as many as before. [`Error::Closed`], [`Error::Broken`],
    /// [`Error::Inherited`].
    pub fn resize(&self, workers: usize) -> Result<()> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.resize(workers)
    }

    /// Returns a snapshot of its workers and tasks.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn stats(&self) -> Result<Stats> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.refill_if_mine();
        Ok(self.shared.stats())
    }

    /// Returns where the time of its workers went; `None` unless its [`Service`] asks to measure
    /// that.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a forked child.
    pub fn insights(&self) -> Result<Option<Insights>> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.refill_if_mine();
        Ok(self.shared.insights())
    }

    /// The pids of the workers that are alive now; none in a forked child, which has no workers.
    pub fn worker_pids(&self) -> Vec<u32> {
        match self.shared.lifecycle.check_owner("Pool") {
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

    /// A state for jobs of this pool, which has been encoded to these bytes, with the handles in
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the system refuses memory, an fd or a thread; [`Error::Inherited`] in a
    /// forked child.
    pub fn state(&self, bytes: &[u8], handles: Vec<OwnedFd>) -> Result<State> {
        self.shared.lifecycle.check_owner("Pool")?;
        if self.shared.crew.is_inline() && !handles.is_empty() {
            return Err(Error::Invalid(
                "a queue, a lock and other handles are for processes of one machine, and the tasks of this pool run on \
                 others: give them a state of plain values"
                    .into(),
            ));
        }
        State::new(&self.shared.broker, bytes, handles)
    }

    /// Submits a job: `entry` over each item.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] after `close` or `terminate`; [`Error::Broken`]; [`Error::Inherited`] in a
    /// forked child; [`Error::Invalid`] for a chunk of 0, or when the shared memory cannot take the
    /// job.
    pub fn submit(&self, entry: ChunkEntry, items: Items, terms: Terms) -> Result<Handle> {
        self.shared.lifecycle.check_owner("Pool")?;
        self.shared.refill_if_mine();
        let job = self.shared.submit(entry, items, terms, false)?;
        Ok(Handle { shared: self.shared.clone(), job })
    }

    /// Leave to submit from now on, whether or not the pool is closed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`submit`](Pool::submit).
    pub fn feeder(&self) -> Result<Feeder> {
        Feeder::new(&self.shared)
    }

    /// Takes no more tasks. Workers end when those that were taken are finished.
    pub fn close(&self) {
        if self.shared.lifecycle.check_owner("Pool").is_ok() {
            // A job that was entered is seen by whoever sees the pool closed.
            self.shared.table.locked(|_| self.shared.lifecycle.advance_to(Phase::Closed));
            self.shared.poke();
        }
    }

    /// Has it close by itself once it has had no task for so long. The first limit counts.
    pub fn close_when_idle(&self, limit: Duration) {
        self.shared.hooks.set_idle_limit(limit);
    }

    /// Returns whether every worker has been ready for tasks.
    pub fn is_ready(&self) -> bool {
        (0..self.size()).all(|slot| self.shared.control.slot(slot).was_ready())
    }

    /// The worker that has ended last, once its tasks are accounted for, in a pool that replaces
    /// none: see [`Service::is_final`].
    pub fn last_ended(&self) -> Option<Arc<Child>> {
        self.shared.crew.last_ended()
    }

    /// Why it can run no more tasks, if that is so.
    pub fn broken(&self) -> Option<Arc<Error>> {
        self.shared.lifecycle.broken()
    }

    /// Returns the number of jobs that are not finished, as far as results have been taken.
    pub fn outstanding(&self) -> usize {
        self.shared.table.outstanding()
    }

    /// Has no task run again from now on whose worker is lost, whatever its terms are.
    pub fn end_retries(&self) {
        self.shared.hooks.end_retries();
    }

    /// Under fork, where the program's threads start the workers: has `callback` called, now and
    /// again, in the pool's thread while one is missing and there are tasks. It is to have such
    /// threads call [`worker_pids`](Pool::worker_pids). The first counts.
    pub fn on_vacancy(&self, callback: VacancyCallback) {
        self.shared.hooks.set_vacancy_callback(callback);
    }

    /// Has `callback` run once every worker is gone, in the pool's thread as the last that it does;
    /// at once if that thread has done so.
    pub fn on_end(&self, callback: EndCallback) {
        if let Some(callback) = self.shared.hooks.add_end_callback(callback) {
            callback();
        }
    }

    /// Returns whether the pool takes no more tasks, from anybody but feeders.
    pub fn is_closed(&self) -> bool {
        !self.shared.lifecycle.is_open()
    }

    /// As [`terminate`](Pool::terminate), but returns at once. [`on_end`](Pool::on_end) says when
    /// they are gone.
    pub fn begin_to_terminate(&self) {
        if self.shared.lifecycle.check_owner("Pool").is_ok() {
            self.shared.terminate();
        }
    }

    /// Kills the workers and gives up what is not finished. Returns when they are gone.
    pub fn terminate(&self) {
        // D state aside, a killed process is gone in no time; a bound all the same, so that no drop
        // blocks for ever.
        const PATIENCE: Duration = Duration::from_secs(5);
        if self.shared.lifecycle.check_owner("Pool").is_ok() {
            self.shared.terminate();
            let deadline = Instant::now() + PATIENCE;
            if self.shared.mail.is_own_thread() {
                // In a callback: the thread that would say so waits here. It goes when the callback
                // has returned.
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
    /// [`Error::Invalid`] before `close` or `terminate`, since it would wait for ever;
    /// [`Error::Timeout`] if a signal has [ended](crate::interrupt) the wait.
    pub fn join(&self) -> Result<()> {
        self.shared.lifecycle.check_owner("Pool")?;
        if self.shared.lifecycle.is_open() {
            return Err(Error::Invalid(
                "join() waits for workers to end, and those of an open pool never do: call \
                                       close() (finish all tasks) or terminate() (give them up) first"
                    .into(),
            ));
        }
        if self.shared.mail.is_own_thread() {
            return Err(Error::Invalid(
                "join() in a callback would wait for the pool's thread, which runs the callback: join from another"
                    .into(),
            ));
        }
        let is_done = || !self.shared.lifecycle.is_fed() && self.shared.table.outstanding() == 0;
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
        f.debug_struct("Pool")
            .field("workers", &self.size())
            .field("start_method", &self.shared.crew.method())
            .field("phase", &self.shared.lifecycle.phase())
            .field("outstanding", &self.shared.table.outstanding())
            .finish()
    }
}
