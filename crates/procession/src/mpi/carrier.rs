//! A pool's workers on ranks: how each is started, and how its chunks get to its agent. Used in the
//! driver: [`OnRanks`] in the threads that start workers, [`RankCarrier`] in the thread of each.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use procession_core::child::{Child, Elsewhere, Popen};
use procession_core::pool::carried::{self, Carrier, Departed, Load};
use procession_core::pool::role::Worker;
use procession_core::preparation::Preparation;
use procession_core::start::{Start, StartMethod};
use procession_core::wire::Reader;
use procession_core::{Error, Result};

use super::job::{Hired, Job};
use super::message::{self, BEGIN, BEGUN, ENDED, FAILED, KILL, LEAVE, READY, RESULTS, Recent};
use super::post_office::{Mailbox, PostOffice, Waited};

/// Starts workers on the ranks that a pool has hired, one on each.
pub(super) struct OnRanks {
    job: &'static Job,
    hired: Arc<Mutex<Hired>>,
}

impl OnRanks {
    pub(super) fn new(job: &'static Job, hired: Arc<Mutex<Hired>>) -> OnRanks {
        OnRanks { job, hired }
    }

    /// The rank of a slot. A pool that grows hires another.
    fn rank_of(&self, slot: usize) -> Result<usize> {
        let mut hired = self.hired.lock().unwrap_or_else(PoisonError::into_inner);
        if hired.ranks().len() <= slot {
            hired.reach(slot + 1).map_err(Error::Invalid)?;
        }
        Ok(hired.ranks()[slot])
    }
}

impl Start for OnRanks {
    /// That of the children of agents.
    fn method(&self) -> StartMethod {
        StartMethod::ForkServer
    }

    fn popen(&self, _: Preparation<'_>) -> Result<Popen> {
        Err(Error::Bug("a worker on a rank is started whole"))
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let Preparation { name, daemon, role, .. } = preparation;
        let Some(role) = role.as_any().and_then(|role| role.downcast_ref::<Worker>()) else {
            return Err(Error::Bug("a rank has workers only"));
        };
        let rank = self.rank_of(role.slot as usize)?;
        let (job, office) = (self.job, &self.job.office);
        let (worker, mailbox) = office.open_mailbox();
        let mut way = RankCarrier { job, rank, worker, mailbox, states: Recent::new(), has_ended: false };
        let initializer = role.service.initializer.as_ref();
        let begin = message::begin(BEGIN, worker).u8(role.service.ignores_interrupt.into());
        let begin = match initializer {
            None => begin.u8(0),
            Some(initializer) => begin.u8(1).u64(initializer.entry.to_raw()).rest(&initializer.argument),
        };
        office.send(rank, begin.0);
        let host = self.job.host(rank);
        let pid = way.begun().map_err(|why| {
            Error::Invalid(format!("rank {rank} on {host} cannot start a process for worker {}: {why}", role.slot))
        })?;
        let child = Elsewhere::new(pid, host)?;
        carried::start(role, (name, daemon), child, |_, told| {
            way.mailbox.set_told(told);
            let (mailbox, rank, worker) = (way.mailbox.clone(), way.rank, way.worker);
            let on_kill = move || {
                job.office.send(rank, message::begin(KILL, worker).0);
                PostOffice::end_wait(&mailbox);
            };
            (Box::new(way) as Box<dyn Carrier>, Box::new(on_kill) as carried::OnKill)
        })
    }
}

impl fmt::Debug for OnRanks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRanks").field("hired", &self.hired).finish_non_exhaustive()
    }
}

/// The way of one worker to the child of its agent.
struct RankCarrier {
    job: &'static Job,
    rank: usize,
    worker: u64,
    mailbox: Arc<Mailbox>,
    /// The states that the agent has.
    states: Recent<()>,
    /// The agent has said that the child has ended.
    has_ended: bool,
}

impl RankCarrier {
    /// Waits until the child is started, and returns its pid.
    ///
    /// # Errors
    ///
    /// The reason for which it is not.
    fn begun(&mut self) -> std::result::Result<u32, String> {
        let message = match self.job.office.wait(&self.mailbox) {
            Waited::Message(message) => message,
            Waited::Over => return Err("it was killed".into()),
            Waited::Failed => return Err(self.job.office.failure().unwrap_or_default().to_owned()),
        };
        let (kind, mut reader) = opened(&message);
        match kind {
            BEGUN => reader.u32().ok_or_else(|| "its answer is cut short".into()),
            FAILED => {
                self.has_ended = true;
                Err(String::from_utf8_lossy(reader.0).into_owned())
            }
            other => Err(format!("it answers by a message of kind {other}")),
        }
    }

    /// Waits for a message that is not the last one.
    fn next(&mut self) -> std::result::Result<Vec<u8>, Departed> {
        let Waited::Message(message) = self.job.office.wait(&self.mailbox) else { return Err(Departed::killed()) };
        let (kind, reader) = opened(&message);
        if kind == ENDED {
            self.has_ended = true;
            return Err(message::read_ended(reader).unwrap_or_else(Departed::killed));
        }
        Ok(message)
    }
}

impl Carrier for RankCarrier {
    fn begin(&mut self) -> std::result::Result<(), Departed> {
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
        self.job.office.send(self.rank, message::run(self.worker, load, is_new));
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
        self.job.office.send(self.rank, message::begin(LEAVE, self.worker).0);
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

impl Drop for RankCarrier {
    fn drop(&mut self) {
        if !self.has_ended {
            self.job.office.send(self.rank, message::begin(KILL, self.worker).0);
        }
        self.job.office.close_mailbox(self.worker);
    }
}

/// The kind of a message of an agent, and its fields. The post office has seen that both are there.
fn opened(message: &[u8]) -> (u8, Reader<'_>) {
    let mut reader = Reader(message);
    let kind = reader.u8().unwrap_or_default();
    let _ = reader.u64();
    (kind, reader)
}
