//! Work on input that nobody trusts: what a child may take, what it may do, and what is left for
//! one that has been taken over.
//!
//! A parser of files from elsewhere runs in a pool's worker. If a file makes it loop, it is ended;
//! if a file makes it crash, one task fails. If a file takes it over, its code can do what the
//! worker's process can do: so the process is confined, once it is ready and before its first task.
//!
//! | call | what it holds a child to | what the task gets that goes beyond |
//! |---|---|---|
//! | [`limits`](crate::pool::Builder::limits) | how much it takes: memory, processor time, files | an error that [names the limit](crate::Error::limit), or what the system call returns |
//! | [`own_process_group`](crate::pool::Builder::own_process_group) | what it starts ends with it | - |
//! | [`no_new_privs`](crate::pool::Builder::no_new_privs) | no privileges by an exec | what the exec returns |
//! | [`sealed_results`](crate::pool::Builder::sealed_results) | its own results | an error, as have all that are left of the pool |
//! | `landlock` (feature `landlock`) | files that it may open | "permission denied" |
//! | `seccomp` (feature `seccomp`) | system calls that it may make | an error that names the filter |
//!
//! [`process::Builder`](crate::process::Builder) has the same calls, but for results that are
//! sealed: nobody shares its memory.
//!
//! ```
//! use procession::Context;
//! use procession::confinement::Limits;
//! use std::time::Duration;
//!
//! # fn main() -> procession::Result<()> {
//! fn parse(text: String) -> Option<i64> {
//!     text.trim().parse().ok() // instead of this, a parser that nobody would call safe
//! }
//!
//! let limits = Limits {
//!     memory: Some(512 << 20),
//!     cpu_time: Some(Duration::from_secs(2)),
//!     files: Some(32),
//!     ..Limits::default()
//! };
//! let builder = Context::fork().pool_builder(2).limits(limits).own_process_group().no_new_privs().sealed_results();
//! #[cfg(feature = "landlock")]
//! let builder = builder.landlock(procession::confinement::Landlock::new());
//! #[cfg(feature = "seccomp")]
//! let builder = builder.seccomp(procession::confinement::Seccomp::new());
//! let pool = builder.start()?.timeout(Duration::from_secs(10));
//! assert_eq!(pool.apply(parse, " 42".into())?, Some(42));
//! # Ok(()) }
//! ```
//!
//! # The trust boundary
//!
//! The boundary is the pool, or the process: its parent does not trust it. Workers of one pool
//! share memory, and trust each other. Give each source of input that may attack another a pool of
//! its own.
//!
//! **What a worker that has been taken over cannot do**, with every limit and filter on:
//!
//! - hang or crash its parent, or have it read past the end of something. The parent checks each
//!   number that it reads from shared memory, and waits for no worker without a bound;
//! - have its parent take memory by a number that it tells: messages, lines and results have
//!   bounds, or take no more than the worker has;
//! - make files, connections or processes, or open files, that its rules do not allow; get
//!   privileges;
//! - outlive its parent or its pool, or leave behind what it has started.
//!
//! **What it can do:**
//!
//! - answer its own tasks with anything. The results are decoded in the parent by their types (in
//!   the Rust face: serde, from bytes that are checked). The content of a result is untrusted
//!   input;
//! - spoil its own pool: overwrite the pool's shared memory, or keep the lock of the task ring, for
//!   which it is killed after some 2 s. If the parent finds the memory overwritten, the pool ends,
//!   and all that is left of its tasks gets that error. If numbers are overwritten by others that
//!   make sense, only a pool with
//!   [`sealed_results`](crate::pool::Builder::sealed_results) finds it. Without, a task of the same
//!   pool that another worker runs may get wrong arguments, and its caller a wrong result. Large
//!   [`Bytes`](crate::Bytes) and [`Slice`](crate::Slice)s are read in place and not sealed;
//! - ask for the file descriptors that travel with any task of its pool;
//! - fill the pool's shared memory, which [`Limits::memory`] does not count and
//!   [`Limits::file_size`] bounds;
//! - print anything, also what controls a terminal: have
//!   [`Output::callback`](crate::Output::callback) take what it prints, or
//!   [`Output::Null`](crate::Output::Null);
//! - without Landlock on Linux 6.12, or a seccomp filter, signal and trace every process of its
//!   user, its parent and other pools' workers among them. Without a filter it can also talk to the
//!   network.
//!
//! Under `fork` a worker has a copy of all that its parent had in memory: keys, passwords and other
//! people's data. Start workers for untrusted input by `forkserver` or `spawn`.
//!
//! **Python:** the Python package unpickles results in the parent, and unpickling runs code that
//! the pickle names. So a Python worker that has been taken over has taken over its parent: these
//! limits help against accidents there, and not against attacks.

#[cfg(feature = "landlock")]
pub use procession_core::confinement::Landlock;
#[cfg(feature = "seccomp")]
pub use procession_core::confinement::Seccomp;
pub use procession_core::confinement::{Limit, Limits};
