//! Pools whose workers are on the ranks of an MPI job. Rank 0 is the driver: it runs the program.
//! The other ranks are agents. What is not MPI's own is in `remote`.
//!
//! | file | what it is | runs in |
//! |---|---|---|
//! | `job.rs` | which ranks there are, and which are free | the driver |
//! | `post_office.rs` | who of the driver's threads uses MPI | the driver |
//! | `rank.rs` | a rank that serves | the other ranks |

mod job;
mod post_office;
mod rank;

use procession_core::pool::{self as engine, Service};

use job::Job;

use crate::{Result, remote};

/// Joins the MPI job that this process was started in. Returns in rank 0 only.
pub(crate) fn join() -> Result<()> {
    Job::join().map(drop)
}

/// Returns the number of ranks that can serve.
pub(crate) fn capacity() -> Result<usize> {
    Job::joined().map(Job::capacity)
}

/// Starts a pool of so many workers on ranks.
pub(crate) fn start_pool(workers: usize, service: Service) -> Result<engine::Pool> {
    remote::start_pool(Job::joined()?, "Context::mpi", workers, service)
}
