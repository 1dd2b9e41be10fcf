//! A pool's workers at agents: how each is started, and how its chunks get to its agent. Used in
//! the driver: [`OnAgents`] in the threads that start workers, [`AgentCarrier`] in the thread of
//! each.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use procession_core::child::{Child, Elsewhere, Popen};
use procession_core::outcome::tag;
use procession_core::pool::Service;
use procession_core::pool::carried::{self, Carrier, Departed, Load};
use procession_core::pool::role::Worker;
use procession_core::preparation::Preparation;
use procession_core::start::{Start, StartMethod};
use procession_core::wire::{Reader, Writer};
use procession_core::{Error, Result};

use super::lock;
use super::mailbox::{Mailbox, Waited};
use super::message::{self, BEGIN, BEGUN, ENDED, FAILED, KILL, LEAVE, READY, RESULTS, Recent};
use super::office::{Hired, Office};

/// Starts workers at the agents that a pool has hired, one at each.
pub(super) struct OnAgents {
    office: &'static dyn Office,
    /// The first workers: each agent starts the process of one while the pool waits for another.
    /// Those that are left are dropped before their agents are released.
    starting: Mutex<HashMap<u32, AgentCarrier>>,
    hired: Arc<Mutex<Hired>>,
    /// The fields of BEGIN, which are the same for all workers.
    terms: Vec<u8>,
}

impl OnAgents {
    /// Has each agent that was hired start the process of its first worker.
    ///
    /// # Errors
    ///
    /// If an agent is missing.
    pub(super) fn new(
        office: &'static dyn Office,
        hired: Hired,
        workers: usize,
        service: &Service,
    ) -> std::result::Result<OnAgents, String> {
        let terms = Writer::default().u8(service.ignores_interrupt.into());
        let terms = match &service.initializer {
            None => terms.u8(0),
            Some(initializer) => terms.u8(1).u64(initializer.entry.to_raw()).rest(&initializer.argument),
        };
        let on_agents =
            OnAgents { office, starting: Mutex::default(), hired: Arc::new(Mutex::new(hired)), terms: terms.0 };
        for slot in 0..workers {
            let agent = lock(&on_agents.hired).agent(slot)?;
            let starting = AgentCarrier::start(office, agent, slot as u32, &on_agents.terms);
            lock(&on_agents.starting).insert(slot as u32, starting);
        }
        Ok(on_agents)
    }

    /// The agents that the pool has.
    pub(super) fn hired(&self) -> &Arc<Mutex<Hired>> {
        &self.hired
    }
}

impl Start for OnAgents {
    /// That of the children of agents.
    fn method(&self) -> StartMethod {
        StartMethod::ForkServer
    }

    fn popen(&self, _: Preparation<'_>) -> Result<Popen> {
        Err(Error::Bug("a worker on another machine is started whole"))
    }

    /// Returns once the first worker of a slot has begun. A replacement begins later: its agent may
    /// have to be replaced before, and the pool's thread does not wait for that.
    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let Preparation { name, daemon, role, .. } = preparation;
        let Some(role) = role.as_any().and_then(|role| role.downcast_ref::<Worker>()) else {
            return Err(Error::Bug("agents have workers only"));
        };
        let (agent, is_first) = lock(&self.hired).begin(role.slot as usize).map_err(Error::Invalid)?;
        let office = self.office;
        let starting = lock(&self.starting).remove(&role.slot);
        let mut way = starting.unwrap_or_else(|| AgentCarrier::start(office, agent, role.slot, &self.terms));
        let worker = way.worker;
        let pid = if is_first { way.begun().map_err(Error::Invalid)? } else { 0 };
        let child = Elsewhere::new(pid, office.host(agent))?;
        carried::start(role, (name, daemon), child, |child, told| {
            way.mailbox.set_told(told);
            way.child = Some(child);
            let mailbox = way.mailbox.clone();
            let on_kill = move || {
                office.send(agent, message::begin(KILL, worker).0);
                mailbox.end_wait();
            };
            (Box::new(way) as Box<dyn Carrier>, Box::new(on_kill) as carried::OnKill)
        })
    }
}

impl fmt::Debug for OnAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnAgents").field("hired", &self.hired).finish_non_exhaustive()
    }
}

/// The way of one worker to the child of its agent.
struct AgentCarrier {
    office: &'static dyn Office,
    agent: usize,
    worker: u64,
    slot: u32,
    mailbox: Arc<Mailbox>,
    /// The object that stands for the child, once there is a thread for it.
    child: Option<Arc<Elsewhere>>,
    /// The states that the agent has.
    states: Recent<()>,
    /// The agent has said that the child has ended.
    has_ended: bool,
}

impl AgentCarrier {
    /// Has an agent start the process of a worker.
    fn start(office: &'static dyn Office, agent: usize, slot: u32, terms: &[u8]) -> AgentCarrier {
        let (worker, mailbox) = office.mailboxes().open();
        office.send(agent, message::begin(BEGIN, worker).rest(terms).0);
        AgentCarrier { office, agent, worker, slot, mailbox, child: None, states: Recent::new(), has_ended: false }
    }

    /// Waits until the child is started, and returns its pid.
    ///
    /// # Errors
    ///
    /// The reason for which it is not.
    fn begun(&mut self) -> std::result::Result<u32, String> {
        let begun = match self.office.wait(&self.mailbox) {
            Waited::Message(message) => self.answered(&message),
            Waited::Over => Err("it was killed".into()),
            Waited::Failed => Err(self.office.mailboxes().failure().unwrap_or_default().to_owned()),
        };
        begun.map_err(|why| {
            let (agent, host) = (self.office.shown(self.agent), self.office.host(self.agent));
            format!("{agent} on {host} cannot start a process for worker {}: {why}", self.slot)
        })
    }

    fn answered(&mut self, message: &[u8]) -> std::result::Result<u32, String> {
        let (kind, mut reader) = opened(message);
        match kind {
            BEGUN => reader.u32().ok_or_else(|| "its answer is cut short".into()),
            FAILED => {
                self.has_ended = true;
                Err(String::from_utf8_lossy(reader.0).into_owned())
            }
            ENDED => {
                self.has_ended = true;
                Err("it has ended meanwhile".into())
            }
            other => Err(format!("it answers by a message of kind {other}")),
        }
    }

    /// Waits for a message that is not the last one.
    fn next(&mut self) -> std::result::Result<Vec<u8>, Departed> {
        let Waited::Message(message) = self.office.wait(&self.mailbox) else { return Err(Departed::killed()) };
        let (kind, reader) = opened(&message);
        if kind == ENDED {
            self.has_ended = true;
            return Err(message::read_ended(reader).unwrap_or_else(Departed::killed));
        }
        Ok(message)
    }
}

impl Carrier for AgentCarrier {
    fn begin(&mut self) -> std::result::Result<(), Departed> {
        if let Some(child) = self.child.take()
            && child.pid() == 0
        {
            match self.begun() {
                Ok(pid) => child.begin(pid, self.office.host(self.agent)),
                Err(why) => {
                    let outcome = Some((tag::NOT_STARTED, why.into_bytes()));
                    return Err(Departed { outcome, has_lost: false, ..Departed::killed() });
                }
            }
        }
        loop {
            if opened(&self.next()?).0 == READY {
                return Ok(());
            }
        }
    }

    fn carry(&mut self, load: &Load<'_>, deliver: &mut dyn FnMut(&[u8])) -> std::result::Result<(), Departed> {
        let is_new = load.state.is_some_and(|(id, _)| {
            let is_new = self.states.get(id).is_none();
            if is_new {
                self.states.keep(id, ());
            }
            is_new
        });
        self.office.send(self.agent, message::run(self.worker, load, is_new));
        let mut left = load.count;
        while left > 0 {
            let message = self.next()?;
            let (kind, mut reader) = opened(&message);
            if kind == RESULTS
                && let Some(count) = reader.u32()
            {
                deliver(reader.0);
                left = left.saturating_sub(count);
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Departed {
        self.office.send(self.agent, message::begin(LEAVE, self.worker).0);
        self.departed()
    }

    fn departed(&mut self) -> Departed {
        loop {
            if let Err(departed) = self.next() {
                return departed;
            }
        }
    }
}

impl Drop for AgentCarrier {
    fn drop(&mut self) {
        if !self.has_ended {
            self.office.send(self.agent, message::begin(KILL, self.worker).0);
        }
        self.office.mailboxes().close(self.worker);
    }
}

/// The kind of a message of an agent, and its fields. The mailboxes have seen that both are there.
fn opened(message: &[u8]) -> (u8, Reader<'_>) {
    let mut reader = Reader(message);
    let kind = reader.u8().unwrap_or_default();
    let _ = reader.u64();
    (kind, reader)
}
