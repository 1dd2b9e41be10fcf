//! Tells a process, before it calls MPI, whether a launcher has started it as a rank: a
//! program that was started by hand would become a job of its own, of one rank. Used in any
//! process.

use std::env;

/// The variables that launchers set for each rank, and whose they are.
pub const LAUNCHERS: [(&str, &str); 5] = [
    ("OMPI_COMM_WORLD_RANK", "Open MPI"),
    ("PMIX_RANK", "PMIx"),
    ("PMI_RANK", "MPICH or Intel MPI"),
    ("PMI_ID", "Slurm with PMI"),
    ("MPI_LOCALRANKID", "Intel MPI"),
];

/// Returns the kind of the launcher that has started this process as a rank; `None` if none has.
pub fn launcher() -> Option<&'static str> {
    LAUNCHERS.into_iter().find(|(variable, _)| env::var_os(variable).is_some()).map(|(_, launcher)| launcher)
}
