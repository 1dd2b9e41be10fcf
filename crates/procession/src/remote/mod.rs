//! Pools whose workers are on other machines. A cluster (an MPI job; what a bridge program drives)
//! places *agents* there, each of which runs tasks in a process of its own. This is what all
//! clusters have in common: each has an [`Office`], by which its agents are reached.
//!
//! ```text
//! the program                                            another machine
//! pool ─▶ thread of a worker ─▶ office ── the cluster ──▶ agent ─▶ local pool of one process
//!        (core's pool/carried.rs)
//! ```
//!
//! | file | what it is | runs in |
//! |---|---|---|
//! | `office.rs` | what a cluster can do, and the agents that a pool has hired of it | the driver |
//! | `mailbox.rs` | the messages that have come for each worker | the driver |
//! | `carrier.rs` | how a pool's workers start at agents, and how their chunks get there | the driver |
//! | `agent.rs` | the work of an agent | the agents |
//! | `hello.rs` | who an agent is, and whether it can serve | both |
//! | `message.rs` | what both say to each other | both |
//! | `pace.rs` | how a thread waits that has to look | both |

pub(crate) mod agent;
mod carrier;
pub(crate) mod hello;
pub(crate) mod mailbox;
pub(crate) mod message;
pub(crate) mod office;
pub(crate) mod pace;

use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_core::confinement::Confinement;
use procession_core::output::Output;
use procession_core::pool::{self as engine, Service};

use carrier::OnAgents;
use office::{Hired, Office};

use crate::{Error, Result};

/// Starts a pool of so many workers at agents of a cluster. `context` is what its user calls it.
pub(crate) fn start_pool(
    office: &'static dyn Office,
    context: &str,
    workers: usize,
    service: Service,
) -> Result<engine::Pool> {
    check(&service, context)?;
    if let Some(why) = office.mailboxes().failure() {
        return Err(Error::invalid(why.to_owned()));
    }
    if workers == 0 {
        return Err(Error::invalid("a pool needs at least 1 worker, not 0"));
    }
    let hired = Hired::new(office, workers).map_err(Error::invalid)?;
    let starter = OnAgents::new(office, hired, workers, &service).map_err(Error::invalid)?;
    let hired = starter.hired().clone();
    let pool = engine::Pool::new(workers, starter, Service { is_inline: true, ..service })?;
    // Before the pool's end is told to whoever waits for it, who may start the next.
    pool.on_end(Box::new(move || lock(&hired).release()));
    Ok(pool)
}

/// Refuses what the workers cannot do on other machines.
fn check(service: &Service, context: &str) -> Result<()> {
    let Service { initializer, confinement, output, records, propagation, .. } = service;
    let is_confined = confinement.encode() != Confinement::default().encode();
    let refused = [
        (initializer.as_ref().is_some_and(|initializer| !initializer.handles.is_empty()), "handles of an initializer"),
        (service.max_memory.is_some(), "max_memory_per_worker"),
        (!matches!(output, Output::Inherit), "output"),
        (records.is_some(), "the forwarding of records"),
        (propagation.is_some(), "trace_context"),
        (service.leads_group, "own_process_group"),
        (service.is_sealed, "sealed_results"),
        (service.measures, "insights"),
        (is_confined, "limits and other confinement"),
    ];
    match refused.into_iter().find(|(is_there, _)| *is_there) {
        None => Ok(()),
        Some((_, what)) => Err(Error::invalid(format!(
            "{what}: that is for workers on this machine, and a pool of {context} has its workers on others"
        ))),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
