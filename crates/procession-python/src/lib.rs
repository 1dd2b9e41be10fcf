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
//! | `streams` | keeps what Python makes off the numbers of the standard streams |
//! | `codec`, `buffer` | pickling, and memory that Python reads in place |
//! | `wait`, `pending`, `error` | waits that hear signals, the engine's errors as exceptions |

mod buffer;
mod codec;
mod connection;
mod error;
mod fork;
mod fork_server;
mod pending;
mod pool;
mod process;
mod queue;
mod streams;
mod sync;
mod wait;

use procession_core::start::Method;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// procession's engine.
#[pymodule(gil_used = false)]
mod _engine {
    use super::*;

    #[pymodule_export]
    use crate::buffer::Block;
    #[pymodule_export]
    use crate::codec::set_pickler;
    #[pymodule_export]
    use crate::connection::{Listener, answer_challenge, deliver_challenge};
    #[pymodule_export]
    use crate::fork::{Server, flush_stdio, is_single_threaded};
    #[pymodule_export]
    use crate::fork_server::{ensure_server, server_pid, start_by_server, stop_server};
    #[pymodule_export]
    use crate::pool::{ApplyResult, IMapIterator, MapResult, Pool, give_handle, name_worker, run_worker, take_handle};
    #[pymodule_export]
    use crate::process::{Child, Link, disown_children, pidfd_of_self};
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::streams::HeldStreams;
    #[pymodule_export]
    use crate::sync::{Barrier, Condition, Event, SemLock};
    #[pymodule_export]
    use crate::wait::end_engine_calls;

    /// How many processes can usefully run at once: by the affinity mask and the control group's
    /// quota.
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
        Method::ALL.map(Method::as_str).to_vec()
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
