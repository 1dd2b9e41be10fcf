//! The engine of procession.
//!
//! It starts processes, keeps pools of them and moves *payloads* (bytes) between them; it never
//! sees a value of the user's. The faces (`procession` for Rust, `procession-python` for Python)
//! bring the codec and the language's habits. This crate promises no stable interface: use a face.
//!
//! | room | what it is |
//! |---|---|
//! | [`init`] | where a child begins, before `main` or in its first line, and the table of what it may become |
//! | [`start`] | the three start methods behind one small trait |
//! | [`role`] | what a child becomes, as a trait; [`target`]: one that runs a user's function |
//! | [`preparation`] | what a child must know to begin, and its form on the wire |
//! | [`setting`] | what is put in place around a child's role: streams, process group |
//! | [`confinement`] | what a child may take and do: limits, files, system calls |
//! | [`output`] | what children print, brought home line by line |
//! | `bootstrap` | what a child does before its role, and how it leaves |
//! | [`child`] | a started process as its parent holds it: sentinel, signals, end |
//! | [`outcome`] | what a target left behind: a value, a panic, or nothing because it died |
//! | [`engine`] | what one process has of its own: identity, children, exit |
//! | `beside` | what goes beside a message, by the thread |
//! | [`handle`] | fds that travel inside of arguments |
//! | `value_cache` | the decoded values that a worker keeps between tasks |
//! | [`queue`] | frames from any process to any process |
//! | [`connection`] | frames between two processes, and where connections come from |
//! | [`sync`] | locks, semaphores, conditions, events and barriers between processes |
//! | [`shared_memory`] | memory that processes share, by a handle or by a name |
//! | `tracker` | the process that unlinks names left behind; `tracker_link`: a process's hold on it |
//! | [`supervisor`] | the one thread that waits for deaths |
//! | [`reactor`] | futures that wait for queues and sockets |
//! | [`pool`] | workers over one shared segment |

mod beside;
mod bootstrap;
pub mod child;
pub mod confinement;
pub mod connection;
pub mod engine;
mod error;
#[cfg(all(fuzzing, feature = "auth"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
pub mod init;
pub mod observe;
pub mod outcome;
pub mod output;
pub mod pool;
pub mod preparation;
pub mod queue;
pub mod reactor;
pub mod role;
pub mod setting;
pub mod shared_memory;
pub mod start;
pub mod supervisor;
pub mod sync;
pub mod target;
mod tracker;
mod tracker_link;
mod value_cache;
pub mod wire;

pub use error::{Error, Result};
#[cfg(procession_fault_injection)]
pub use procession_shm::fault;
pub use procession_shm::interrupt;
pub use procession_shm::record::Word;
pub use procession_shm::{Atomic, Elements, Held, RawMemory};
pub use procession_sys::before_main;
pub use procession_sys::bytes::append;
pub use procession_sys::descriptor;
pub use procession_sys::exit::flush_stdio;
pub use procession_sys::fork::ThreadsAtFork;
pub use procession_sys::image::{BuildId, Entry, EntryFn, Stateless};
pub use procession_sys::link::Link;
pub use procession_sys::memfd;
pub use procession_sys::named::Identity;
pub use procession_sys::per_process::{PerProcess, fork_generation};
pub use procession_sys::pidfd::{self, PidFd, current_pid};
pub use procession_sys::poller::Poller;
pub use procession_sys::startup::Place;
pub use procession_sys::stdio::take_stdin;
pub use procession_sys::thread::{SignalsBlocked, other_threads, process_name, set_process_name, spawn_engine_thread};
pub use procession_sys::{ExitStatus, Signal};
pub use rustix::io::Errno;

/// Returns the number of processes that can usefully run at once: the cores that this process may
/// use, by its affinity mask and its control group's quota.
pub fn available_parallelism() -> std::num::NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN)
}
