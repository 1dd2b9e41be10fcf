//! The Python face: the extension module `procession._engine`, on the same engine as the Rust face.
//! Called by the Python code of the package, in any process, with the interpreter attached; what
//! may wait detaches.
//!
//! | room | what it is |
//! |---|---|
//! | `pool` | pools: items, results, lazy maps, a worker's part |
//! | `queue`, `sync` | queues, locks and their kin |
//! | `connection` | who lets a listener's peers in |
//! | `process` | links to children, and their one reaper |
//! | `fork_server`, `fork` | the fork server's client, and its own side |
//! | `fork_gate` | keeps forks and threads that enter the interpreter apart |
//! | `streams` | keeps what Python makes off the numbers of the standard streams |
//! | `codec`, `buffer` | pickling, and memory that Python reads in place |
//! | `observe` | pools of other programs |
//! | `surroundings`, `output`, `records` | what is around a child: what it prints and logs, its process group |
//! | `wait`, `error` | waits that hear signals, the engine's errors as exceptions |
//! | `interpreter` | calls of the interpreter's that PyO3 does not wrap |

mod buffer;
mod codec;
mod connection;
mod error;
mod fork;
mod fork_gate;
mod fork_server;
mod interpreter;
mod memfd;
mod observe;
mod output;
mod pool;
mod process;
mod queue;
mod records;
mod streams;
mod surroundings;
mod sync;
mod wait;

use procession_core::start::StartMethod;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// procession's engine.
#[pymodule(gil_used = false)]
mod _engine {
    use super::*;

    #[pymodule_export]
    use crate::buffer::{Block, address_of};
    #[pymodule_export]
    use crate::codec::set_pickler;
    #[pymodule_export]
    use crate::connection::{Listener, answer_challenge, deliver_challenge};
    #[pymodule_export]
    use crate::fork::{Server, flush_stdio, is_single_threaded};
    #[pymodule_export]
    use crate::fork_gate::{hold_entries, release_entries};
    #[pymodule_export]
    use crate::fork_server::{ensure_server, server_pid, start_by_server, stop_server};
    #[pymodule_export]
    use crate::memfd::create_memfd;
    #[pymodule_export]
    use crate::observe::observe_pools;
    #[pymodule_export]
    use crate::output::Line;
    #[pymodule_export]
    use crate::pool::{
        ApplyResult, IMapIterator, MapResult, Pool, give_handle, name_worker, run_worker, serve_carrier, take_handle,
    };
    #[pymodule_export]
    use crate::process::{Child, Link, disown_children, pidfd_of_self};
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::records::send_record;
    #[pymodule_export]
    use crate::streams::HeldStreams;
    #[pymodule_export]
    use crate::surroundings::{Setting, Surroundings, enter_setting};
    #[pymodule_export]
    use crate::sync::{Barrier, Condition, Event, SemLock};
    #[pymodule_export]
    use crate::wait::{end_engine_calls, end_output_calls};

    /// Returns the number of processes that can usefully run at once, by the affinity mask and the
    /// control group's quota.
    #[pyfunction]
    fn available_parallelism() -> usize {
        procession_core::available_parallelism().get()
    }

    /// The smallest number of workers with which a pool may begin that is to grow to so many.
    #[pyfunction]
    fn smallest_size(workers: usize) -> usize {
        procession_core::pool::smallest_size(workers)
    }

    /// The names of the start methods that this platform has.
    #[pyfunction]
    fn get_all_start_methods() -> Vec<&'static str> {
        StartMethod::ALL.map(StartMethod::as_str).to_vec()
    }

    /// Names this process, in its main thread: the first 15 bytes show in `ps` and `top`.
    #[pyfunction]
    fn set_process_name(name: &str) {
        procession_core::set_process_name(name);
    }

    /// The name of this process, as bytes, in its main thread.
    #[pyfunction]
    fn process_name<'py>(py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &procession_core::process_name())
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
