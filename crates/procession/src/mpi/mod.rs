//! Pools whose workers are on the ranks of an MPI job. Rank 0 is the driver: it runs the program.
//! The other ranks are agents, each of which runs tasks in a process of its own.
//!
//! ```text
//! rank 0: the program                                    rank 1, 2, ...: an agent
//! pool ─▶ thread of a worker ─▶ post office ── MPI ──▶ agent ─▶ local pool of one process
//!        (core's pool/carried.rs)
//! ```
//!
//! | file | what it is | runs in |
//! |---|---|---|
//! | `job.rs` | which ranks there are, and which are free | the driver |
//! | `carrier.rs` | how a pool's workers start on ranks, and how their chunks get there | the driver |
//! | `post_office.rs` | who of the driver's threads uses MPI | the driver |
//! | `agent.rs` | a rank that serves | the other ranks |
//! | `hello.rs` | who an agent is, and whether it can serve | both |
//! | `message.rs` | what both say to each other | both |
//! | `pace.rs` | how a thread waits for MPI | both |

mod agent;
mod carrier;
mod hello;
mod job;
mod message;
mod pace;
mod post_office;

use std::sync::{Arc, Mutex, PoisonError};

use procession_core::confinement::Confinement;
use procession_core::output::Output;
use procession_core::pool::{self as engine, Service};

use carrier::OnRanks;
use job::Job;

use crate::{Error, Result};

/// Joins the MPI job that this process was started in. Returns in rank 0 only.
pub(crate) fn join() -> Result<()> {
    Job::join().map(drop)
}

/// Starts a pool of so many workers on ranks.
pub(crate) fn start_pool(workers: usize, service: Service) -> Result<engine::Pool> {
    check(&service)?;
    let job = Job::joined()?;
    if let Some(why) = job.office.failure() {
        return Err(Error::invalid(format!("the MPI job has failed: {why}")));
    }
    if workers == 0 {
        return Err(Error::invalid("a pool needs at least 1 worker, not 0"));
    }
    let hired = Arc::new(Mutex::new(job.hire(workers)?));
    let starter = OnRanks::new(job, hired.clone());
    let pool = engine::Pool::new(workers, starter, Service { is_inline: true, ..service })?;
    // Before the pool's end is told to whoever waits for it, who may start the next.
    pool.on_end(Box::new(move || hired.lock().unwrap_or_else(PoisonError::into_inner).release()));
    Ok(pool)
}

/// Refuses what the workers cannot do on other machines.
fn check(service: &Service) -> Result<()> {
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
            "{what}: that is for workers on this machine, and a pool of Context::mpi has its workers on others"
        ))),
    }
}
