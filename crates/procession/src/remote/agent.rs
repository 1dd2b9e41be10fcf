//! The work of an agent. It runs the tasks of one worker of the driver's in a process of its own,
//! the only one of a local pool. So a task that crashes costs neither the agent nor what the
//! cluster thinks of it (MPI would end the job). Runs in the main thread of the agent.
//!
//! | from the driver | the agent |
//! |---|---|
//! | BEGIN | makes a local pool of one process, which it will not replace: BEGUN, READY |
//! | RUN | submits the tasks as one chunk: RESULTS, as they come |
//! | KILL | terminates the pool |
//! | LEAVE | closes the pool: ENDED |
//! | | if the process ends: ENDED, behind the results that it has left |
//! | QUIT | ends |

use std::time::{Duration, Instant};

use super::hello::hello;
use super::message::{self, BEGIN, BEGUN, FAILED, KILL, LEAVE, QUIT, READY, RESULTS, RUN, Recent, Run};
use super::pace::Pace;
use procession_core::outcome::{self, Outcome, tag};
use procession_core::pool::carried::Departed;
use procession_core::pool::{ChunkEntry, Handle, Initializer, Items, Pool, Service, State, Terms};
use procession_core::start::{StartMethod, starter};
use procession_core::wire::Reader;
use procession_core::{Entry, ExitStatus};

/// Results of a chunk that is not complete are sent after so long, or when they are so many bytes.
const SEND_INTERVAL: Duration = Duration::from_millis(2);
const MAX_HELD: usize = 1 << 20;
/// The exit code of a process that could not serve.
pub(crate) const CANNOT_SERVE: i32 = 70;

/// The way of an agent to the driver. The errors are of the driver or the network.
pub(crate) trait Line {
    /// See [`Sleeps`].
    const SLEEPS: Sleeps;

    /// Returns the name of the agent in messages: `rank 3`.
    fn name(&self) -> String;

    /// The name of this machine.
    fn host(&self) -> Result<String, String>;

    /// Sends a message to the driver.
    fn send(&mut self, message: Vec<u8>) -> Result<(), String>;

    /// Returns a message that has come.
    fn receive(&mut self) -> Result<Option<Vec<u8>>, String>;

    /// Waits for a message or for the worker.
    fn pause(&mut self, pace: &mut Pace);
}

/// The longest sleeps between two looks.
pub(crate) struct Sleeps {
    /// While tasks run.
    pub(crate) running: Duration,
    /// While a worker waits for tasks.
    pub(crate) waiting: Duration,
    /// Without a worker.
    pub(crate) vacant: Duration,
}

/// Serves until the driver ends.
///
/// # Errors
///
/// Those of the line.
pub(crate) fn serve_until_quit<L: Line>(line: &mut L) -> Result<(), String> {
    let host = line.host()?;
    line.send(hello(&host))?;
    let mut worker: Option<Worker> = None;
    let mut pace = Pace::new(L::SLEEPS.vacant);
    loop {
        let received = line.receive()?;
        let mut has_news = received.is_some();
        if let Some(message) = received {
            let mut reader = Reader(&message);
            let (kind, number) = (reader.u8(), reader.u64());
            match (kind, number) {
                (Some(QUIT), _) => return Ok(()),
                (Some(BEGIN), Some(number)) => {
                    // The last one was killed, or has ended.
                    drop(worker.take());
                    worker = Worker::begin(line, number, reader)?;
                }
                (Some(kind), Some(number)) => {
                    if let Some(its) = worker.as_mut().filter(|worker| worker.number == number)
                        && !its.obey(kind, reader)
                    {
                        worker = None;
                    }
                }
                _ => {}
            }
        }
        if let Some(its) = &mut worker {
            has_news |= its.report(line)?;
            if its.has_ended {
                worker = None;
            }
        }
        if has_news {
            pace.restart(match &worker {
                None => L::SLEEPS.vacant,
                Some(its) if its.is_at_work() => L::SLEEPS.running,
                Some(_) => L::SLEEPS.waiting,
            });
        } else {
            line.pause(&mut pace);
        }
    }
}

/// A worker of the driver's: the process that runs its tasks.
struct Worker {
    number: u64,
    pool: Pool,
    is_ready: bool,
    is_leaving: bool,
    has_ended: bool,
    running: Option<Running>,
    states: Recent<State>,
    /// The reason for which tasks cannot be run.
    failure: Option<String>,
}

/// A chunk that runs.
struct Running {
    handle: Handle,
    /// The bytes of its results that have been sent, and the time at which the last were.
    sent: usize,
    sent_at: Instant,
    /// Tasks without a result.
    left: u32,
}

impl Worker {
    /// Starts the process, and tells the driver whether it could.
    fn begin(line: &mut impl Line, number: u64, reader: Reader<'_>) -> Result<Option<Worker>, String> {
        let started = service(reader)
            .and_then(|service| Pool::new(1, starter(StartMethod::ForkServer), service).map_err(|why| why.to_string()));
        let begun = started.and_then(|pool| {
            let pid = pool.worker_pids().first().copied().or_else(|| pool.last_ended().map(|child| child.pid()));
            pid.map(|pid| (pool, pid)).ok_or_else(|| "it has ended at once".to_owned())
        });
        match begun {
            Ok((pool, pid)) => {
                line.send(message::begin(BEGUN, number).u32(pid).0)?;
                let states = Recent::new();
                let (is_ready, is_leaving, has_ended, running, failure) = (false, false, false, None, None);
                Ok(Some(Worker { number, pool, is_ready, is_leaving, has_ended, running, states, failure }))
            }
            Err(why) => {
                line.send(message::begin(FAILED, number).rest(why.as_bytes()).0)?;
                Ok(None)
            }
        }
    }

    /// Does what the driver says; `false` if that ends the worker.
    fn obey(&mut self, kind: u8, reader: Reader<'_>) -> bool {
        match kind {
            RUN => {
                if let Err(why) = self.run(reader) {
                    self.failure = Some(why);
                }
            }
            LEAVE => {
                self.is_leaving = true;
                self.pool.close();
            }
            KILL => return false,
            _ => {}
        }
        true
    }

    /// Returns whether something is to come of the process soon: it begins, runs tasks, or leaves.
    fn is_at_work(&self) -> bool {
        !self.is_ready || self.running.is_some() || self.is_leaving
    }

    fn run(&mut self, reader: Reader<'_>) -> Result<(), String> {
        let torn = || "a message of the driver's is cut short".to_owned();
        let Run { entry, count, state, items } = Run::read(reader).ok_or_else(torn)?;
        let state = match state {
            None => None,
            Some((id, None)) => Some(self.states.get(id).cloned().ok_or_else(torn)?),
            Some((id, Some(bytes))) => {
                let state = self.pool.state(bytes, Vec::new()).map_err(|error| error.to_string())?;
                self.states.keep(id, state.clone());
                Some(state)
            }
        };
        let items = Items::of_records(items, count).ok_or_else(torn)?.with_state(state);
        let terms = Terms { chunk: Some(count as usize), ..Terms::default() };
        let handle = match self.pool.submit(ChunkEntry::from_raw(entry), items, terms) {
            Ok(handle) => handle,
            // It is about to be told that the process has ended.
            Err(_) if self.pool.last_ended().is_some() || self.pool.broken().is_some() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        self.running = Some(Running { handle, sent: 0, sent_at: Instant::now(), left: count });
        Ok(())
    }

    /// Tells the driver what is new; whether anything was.
    fn report(&mut self, line: &mut impl Line) -> Result<bool, String> {
        if let Some(why) = self.failure.take() {
            eprintln!("procession: {} cannot run tasks: {why}", line.name());
            return self.end(line, &cannot_serve());
        }
        let mut has_news = false;
        if !self.is_ready && self.pool.is_ready() {
            self.is_ready = true;
            has_news = true;
            line.send(message::begin(READY, self.number).0)?;
        }
        // Before its results are looked at: what it has left is there by then.
        let ended = self.pool.last_ended();
        let mut has_lost = false;
        if let Some(running) = &mut self.running {
            let arrived = running.handle.arrived(running.sent);
            let is_complete = arrived.count == running.left;
            has_lost = arrived.is_lost;
            let is_due = || running.sent_at.elapsed() >= SEND_INTERVAL || arrived.records.len() >= MAX_HELD;
            if arrived.count > 0 && (is_complete || ended.is_some() || is_due()) {
                has_news = true;
                running.sent += arrived.records.len();
                running.sent_at = Instant::now();
                running.left -= arrived.count;
                let results = message::begin(RESULTS, self.number).u32(arrived.count).rest(&arrived.records);
                line.send(results.0)?;
            }
            if running.left == 0 {
                self.running = None;
            }
        }
        if let Some(child) = ended {
            let (status, outcome) = match child.end() {
                None => (None, None),
                Some(end) => (end.status, left_by(&end.outcome)),
            };
            return self.end(line, &Departed { status, outcome, has_lost });
        }
        if self.pool.broken().is_some() {
            return self.end(line, &cannot_serve());
        }
        Ok(has_news)
    }

    fn end(&mut self, line: &mut impl Line, departed: &Departed) -> Result<bool, String> {
        self.has_ended = true;
        line.send(message::ended(self.number, departed))?;
        Ok(true)
    }
}

/// The end of a worker whose process or pool cannot be used.
fn cannot_serve() -> Departed {
    Departed { status: Some(ExitStatus::exited(CANNOT_SERVE)), outcome: None, has_lost: true }
}

/// Returns the outcome that the initializer of a process has left which did not begin.
fn left_by(outcome: &Outcome) -> Option<(u32, Vec<u8>)> {
    match outcome {
        outcome::Outcome::Returned { tag, payload } if *tag != tag::VALUE => Some((*tag, payload.clone())),
        _ => None,
    }
}

/// Reads the terms on which the process of a worker serves.
fn service(mut reader: Reader<'_>) -> Result<Service, String> {
    let torn = || "a message of the driver's is cut short".to_owned();
    let ignores_interrupt = reader.u8().ok_or_else(torn)? != 0;
    let initializer = match reader.u8().ok_or_else(torn)? {
        0 => None,
        _ => {
            let entry = Entry::from_raw(reader.u64().ok_or_else(torn)?);
            Some(Initializer { entry, argument: reader.0.to_vec(), handles: Vec::new() })
        }
    };
    Ok(Service { initializer, ignores_interrupt, is_inline: true, is_final: true, ..Service::default() })
}
