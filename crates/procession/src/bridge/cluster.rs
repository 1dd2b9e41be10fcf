//! A Ray or Dask cluster, as the driver sees it through its bridge program. Used in the driver, in
//! any thread; what the bridge program says is read by a thread of the engine's.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use procession_core::current_pid;
use procession_core::engine::engine;
use procession_core::pool::{self as engine_pool, Service};
use procession_core::wire::{Reader, Writer};

use super::frame::{self, ASK, CAPACITY, DONE, Frame, HIRE, LOST, MESSAGE, NOT_STARTED, REFUSED, RELEASE, START};
use super::hired::{Act, Agents, Heard};
use super::program::Program;
use crate::remote::lock;
use crate::remote::mailbox::{Mailbox, Mailboxes, Waited};
use crate::remote::message::{HELLO, RUN};
use crate::remote::office::Office;
use crate::{Error, Result, remote};

/// The engines, and what their clusters are called.
const ENGINES: [(&str, &str); 2] = [("ray", "the Ray cluster"), ("dask", "the Dask cluster")];
/// The time in which the bridge program lets go of its cluster.
const PATIENCE: Duration = Duration::from_secs(10);

static CLUSTERS: Mutex<Vec<&'static Cluster>> = Mutex::new(Vec::new());

/// See the module.
pub(crate) struct Cluster {
    engine: &'static str,
    address: String,
    /// Its name in errors.
    called: &'static str,
    /// Of the driver.
    pid: u32,
    program: Mutex<Program>,
    writer: Mutex<UnixStream>,
    mailboxes: Mailboxes,
    inner: Mutex<Inner>,
    news: Condvar,
    next: AtomicU32,
}

#[derive(Default)]
struct Inner {
    agents: Agents,
    /// Answers that nobody has taken yet.
    answers: HashMap<u32, std::result::Result<u32, String>>,
}

impl Cluster {
    /// The cluster at an address, through the bridge program that this process has for it, or a new
    /// one.
    ///
    /// # Errors
    ///
    /// See `Context::bridge`.
    pub(crate) fn reach(engine_name: &str, address: &str) -> Result<&'static Cluster> {
        let Some((engine_name, called)) = ENGINES.into_iter().find(|(name, _)| *name == engine_name) else {
            return Err(Error::invalid(format!(
                "Context::bridge has no engine `{engine_name}`: it takes \"ray\" or \"dask\""
            )));
        };
        crate::startup::keep_entry();
        let mut clusters = lock(&CLUSTERS);
        let is_it = |cluster: &&Cluster| {
            (cluster.engine, &cluster.address[..], cluster.pid) == (engine_name, address, current_pid())
                && cluster.mailboxes.failure().is_none()
        };
        if let Some(cluster) = clusters.iter().copied().find(is_it) {
            return Ok(cluster);
        }
        let (program, socket) = Program::start(engine_name, address)?;
        let no_thread =
            |error| Error::invalid(format!("cannot start the thread that reads the bridge program: {error}"));
        let reader = socket.try_clone().map_err(no_thread)?;
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster {
            engine: engine_name,
            address: address.to_owned(),
            called,
            pid: current_pid(),
            program: Mutex::new(program),
            writer: Mutex::new(socket),
            mailboxes: Mailboxes::default(),
            inner: Mutex::default(),
            news: Condvar::new(),
            next: AtomicU32::new(1),
        }));
        if clusters.iter().all(|other| other.pid != current_pid()) {
            engine().on_leave(leave)?;
        }
        clusters.push(cluster);
        procession_core::spawn_engine_thread("bridge", move || cluster.read_all(reader)).map_err(no_thread)?;
        Ok(cluster)
    }

    /// Starts a pool of so many workers on the cluster.
    pub(crate) fn start_pool(&'static self, workers: usize, service: Service) -> Result<engine_pool::Pool> {
        self.check_owner()?;
        remote::start_pool(self, "Context::bridge", workers, service)
    }

    /// Returns how many workers have room in the whole cluster.
    ///
    /// # Errors
    ///
    /// If the bridge program has ended, or the cluster does not say.
    pub(crate) fn capacity(&self) -> Result<usize> {
        self.check_owner()?;
        self.ask_capacity().map_err(Error::invalid)
    }

    fn ask_capacity(&self) -> std::result::Result<usize, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.ask(CAPACITY, number, &[]).map(|capacity| capacity as usize)
    }

    fn check_owner(&self) -> Result<()> {
        if self.pid == current_pid() {
            return Ok(());
        }
        Err(Error::invalid("this context is of the process that this one was forked from: call Context::bridge here"))
    }

    fn ask(&self, kind: u8, number: u32, body: &[u8]) -> std::result::Result<u32, String> {
        self.write(kind, number, body);
        let mut inner = lock(&self.inner);
        loop {
            if let Some(answer) = inner.answers.remove(&number) {
                return answer;
            }
            inner = self.wait_for_news(inner)?;
        }
    }

    /// Waits for a change of the state.
    ///
    /// # Errors
    ///
    /// If there will be none, as the bridge program has ended.
    fn wait_for_news<'a>(
        &self,
        inner: std::sync::MutexGuard<'a, Inner>,
    ) -> std::result::Result<std::sync::MutexGuard<'a, Inner>, String> {
        match self.mailboxes.failure() {
            Some(why) => Err(why.to_owned()),
            None => Ok(self.news.wait(inner).unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Writes a frame to the bridge program. If that has ended, its reader says so.
    fn write(&self, kind: u8, subject: u32, body: &[u8]) {
        let _ = frame::write(&mut *lock(&self.writer), kind, subject, body);
    }

    /// Reads what the bridge program says, until it ends.
    fn read_all(&self, mut socket: UnixStream) {
        let why = loop {
            match frame::read(&mut socket) {
                Ok(Some(frame)) => self.hear(frame),
                Ok(None) => break "has ended".to_owned(),
                Err(error) => break format!("is not understood ({error})"),
            }
        };
        // Nobody is at its other end, or nobody who is understood.
        let _ = socket.shutdown(Shutdown::Both);
        let (pid, status) = {
            let mut program = lock(&self.program);
            (program.pid(), program.end(PATIENCE))
        };
        self.mailboxes.fail(format!(
            "the bridge program to {} (process {pid}) {why} ({status}), and with it the workers: call Context::bridge \
             again for another, and make new pools",
            self.called
        ));
        // Under the lock, so that nobody is between a look and a sleep.
        drop(lock(&self.inner));
        self.news.notify_all();
    }

    fn hear(&self, frame: Frame) {
        let Frame { kind, subject, body } = frame;
        let text = || String::from_utf8_lossy(&body).into_owned();
        let mut inner = lock(&self.inner);
        let delivered = match kind {
            MESSAGE if body.first() == Some(&HELLO) => match inner.agents.hears_hello(subject, &body) {
                Heard::Nothing => None,
                Heard::Send(message) => {
                    self.write(MESSAGE, subject, &message);
                    None
                }
                Heard::Deliver(message) => Some(message),
            },
            MESSAGE => {
                drop(inner);
                return self.mailboxes.deliver(body);
            }
            NOT_STARTED => inner.agents.fails(subject, text()),
            LOST => inner.agents.loses(subject, text()),
            DONE => {
                inner.answers.insert(subject, Reader(&body).u32().ok_or_else(|| "its answer is cut short".into()));
                None
            }
            REFUSED => {
                inner.answers.insert(subject, Err(text()));
                None
            }
            _ => None,
        };
        drop(inner);
        if let Some(message) = delivered {
            self.mailboxes.deliver(message);
        }
        self.news.notify_all();
    }

    /// Waits until agents that were hired are up.
    fn await_start(&self, agents: &[usize]) -> std::result::Result<(), String> {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(settled) = inner.agents.settled(agents) {
                return settled;
            }
            inner = self.wait_for_news(inner)?;
        }
    }
}

impl Office for Cluster {
    fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    fn send(&self, agent: usize, message: Vec<u8>) {
        let act = lock(&self.inner).agents.sends(agent as u32, message);
        match act {
            Act::Send(message) => {
                let kind = if message.first() == Some(&RUN) { ASK } else { MESSAGE };
                self.write(kind, agent as u32, &message);
            }
            Act::Start => self.write(START, agent as u32, &[]),
            Act::Nothing => {}
        }
    }

    fn wait(&self, mailbox: &Arc<Mailbox>) -> Waited {
        loop {
            if let Some(waited) = self.mailboxes.look(mailbox) {
                return waited;
            }
            mailbox.sleep();
        }
    }

    fn host(&self, agent: usize) -> Arc<str> {
        let inner = lock(&self.inner);
        inner.agents.get(agent as u32).map_or_else(|| "a machine that is gone".into(), |its| its.host.clone())
    }

    fn shown(&self, agent: usize) -> String {
        format!("agent {agent}")
    }

    fn hire(&self, total: usize, further: usize) -> std::result::Result<Vec<usize>, String> {
        let capacity = self.ask_capacity()?;
        if total > capacity {
            return Err(format!(
                "a pool of {total} workers needs as many processors, and {} has {capacity} of them: take at most \
                 {capacity}",
                self.called
            ));
        }
        let first = self.next.fetch_add(further as u32, Ordering::Relaxed);
        let agents: Vec<usize> = (first as usize..).take(further).collect();
        let unknown = format!("a machine of {}", self.called).into();
        lock(&self.inner).agents.add((first..).take(further), &unknown);
        let count = Writer::default().u32(further as u32).0;
        let hired = self.ask(HIRE, first, &count).map(drop).and_then(|()| self.await_start(&agents));
        match hired {
            Ok(()) => Ok(agents),
            Err(why) => {
                self.release(agents);
                Err(why)
            }
        }
    }

    fn release(&self, agents: Vec<usize>) {
        for agent in agents {
            lock(&self.inner).agents.remove(agent as u32);
            self.write(RELEASE, agent as u32, &[]);
        }
    }
}

/// Runs at the exit of the driver: has the bridge programs end, and with them their agents.
fn leave() {
    let clusters: Vec<_> = lock(&CLUSTERS).iter().copied().filter(|cluster| cluster.pid == current_pid()).collect();
    for cluster in &clusters {
        // It is closed already if the program has ended.
        let _ = lock(&cluster.writer).shutdown(Shutdown::Both);
    }
    for cluster in clusters {
        lock(&cluster.program).end(PATIENCE);
    }
}

impl PartialEq for Cluster {
    fn eq(&self, other: &Cluster) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Cluster {}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("engine", &self.engine).field("address", &self.address).finish_non_exhaustive()
    }
}
