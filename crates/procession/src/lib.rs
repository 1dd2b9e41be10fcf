//! Process-based parallelism: processes that are as easy to use as threads, and pools of them.
//!
//! It is Python's `multiprocessing` for Rust: [`Context`]s with three start methods, [`Process`],
//! [`Pool`]. Code in another process can crash, leak, be killed or time out, and costs nobody else
//! anything.
//!
//! ```
//! use procession::{Pool, Process};
//!
//! fn hello(name: String) -> usize {
//!     println!("hello {name}");
//!     name.len()
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let mut process = Process::new(hello, "bob".to_owned()).start()?;
//!     assert_eq!(process.join()?, 3);
//!
//!     let pool = Pool::new(4)?;
//!     let squares: Vec<u64> = pool.map(|x: u64| x * x, 0..100)?;
//!     assert_eq!(squares[9], 81);
//!     Ok(())
//! }
//! ```
//!
//! The [guide](crate::_guide) goes through the topics: what crosses, what a child has, state,
//! errors, tests, libraries, async, crashes, hostile input, performance, other libraries' names.
//!
//! # What can run in another process
//!
//! Any `fn`, or closure that captures nothing, of one argument (a tuple for more), whose argument
//! and result are [serde] types. There is nothing to register and no macro. A closure that captures
//! exists in one process only: under fork it may be used, and may even borrow ([`Process::fork`]);
//! elsewhere it does not compile:
//!
//! ```compile_fail,E0080
//! # fn main() -> procession::Result<()> {
//! let factor = 3;
//! let pool = procession::Pool::new(2)?;
//! pool.map(move |x: u64| x * factor, 0..10)?; // captures `factor`
//! # Ok(()) }
//! ```
//!
//! Data that a closure would capture is given to it as a state: any message, sent once
//! ([`Pool::map_with`] and its like).
//!
//! ```
//! # fn main() -> procession::Result<()> {
//! # let pool = procession::Context::fork().pool(2)?;
//! let factor = 3;
//! let tripled = pool.map_with(factor, |factor, x: u64| x * factor, 0..10)?;
//! assert_eq!(tripled[9], 27);
//! # Ok(()) }
//! ```
//!
//! The compiler knows only when it makes code whether a closure captures. So `cargo build` refuses
//! a closure that does, and `cargo check` does not.
//!
//! All of serde's data model crosses, with every attribute of its derive, and arrives as it was
//! sent: what cannot is an error that names type and field ([`Error::is_encode`],
//! [`Error::is_decode`]). The form is binary and human-readable in serde's sense, so that an IP
//! address is text. Values may be nested 1000 levels deep. No form can promise more than serde
//! itself: of an `untagged` enum the first variant that fits arrives, and 128-bit integers do not
//! pass through `flatten`, `untagged` or an internal tag.
//!
//! # Start methods
//!
//! | | the child | costs | use it |
//! |---|---|---|---|
//! | [`forkserver`](Context::forkserver), the default | a fork of a small clean process | little | nearly always |
//! | [`spawn`](Context::spawn) | executes the program anew | an exec | when nothing at all may be shared |
//! | [`fork`](Context::fork) | a copy of this process | little, grows with its memory | to hand over what cannot be sent; refused with other threads alive |
//!
//! # Where a child begins
//!
//! A child that executes the program (by `spawn`, as the fork server, or as the tracker of named
//! memory) does its work before `main` and never gets there. So nothing need be called or arranged:
//! a `#[test]`, a doctest, a bench, a library, a program with `#[tokio::main]` starts processes as
//! it starts threads.
//!
//! This crate has a constructor in each program that it is linked into. The C library calls it
//! before `main`. In a child it first calls the constructors that stand behind it, so that other
//! libraries and C++ objects are ready. Then it sets up what Rust's runtime would have: closed
//! standard streams are opened, SIGPIPE is ignored, and a stack overflow is named. In any other
//! process it looks at the program's name and returns.
//!
//! In a shared object (`cdylib`: an extension of Python or Node, a plug-in) it is the same for the
//! code that calls in. The child executes the host program with the shared object preloaded
//! (`LD_PRELOAD`), and begins in the object. The host's own code never runs, so what it would set
//! up is not there: an extension of Python has no interpreter in its children.
//! [`set_executable`] names another program for that, such as `/bin/true`; any will do that is
//! linked dynamically, unless the object takes symbols from its host. Such a child has no arguments
//! but the program's name.
//!
//! Three things differ from code that `main` has called. The messages of panics call a child's main
//! thread `<unnamed>`. A stack overflow in another thread of a child is a plain SIGSEGV. And what
//! `main` sets up (a logger, a panic hook) is not there: set it up in the function, or in a pool's
//! [`initializer`](pool::Builder::initializer).
//!
//! | program | what to do |
//! |---|---|
//! | one that is linked with `-nostartfiles`, whose constructors nobody calls | call [`init`] first in `main` |
//! | one that decides itself when a child begins | turn off the feature `startup`, and call [`init`] there |
//! | one that is linked statically, and not position-independent | nothing; a child begins before constructors that the linker has put behind this crate's |
//! | a `#[test]` that needs `fork` | give it a `main` of its own (`harness = false`), since libtest's threads are in the way |
//! | any other | nothing |
//!
//! # Between processes
//!
//! A [`Queue`] carries items from any process to any other. The locks, semaphores, conditions,
//! events and barriers of [`sync`] are those of threads, between processes. [`SharedMemory`] is
//! bytes that processes have in common, with a name if other programs are to find it;
//! [`SharedArray`] and [`SharedValue`] give them a type. [`share`] puts a value there once, for any
//! number of processes; a [`SharedSlice`] is a read-only table that all read in place. All travel
//! to a child as (part of) its argument.
//!
//! A [`Connection`] carries values back and forth between two; it comes from [`pipe`], or by
//! address from a [`Listener`] and a [`Client`], who may be a Python program's. [`wait`] waits for
//! the first of several. Files and sockets travel as [`Handle`]s.
//!
//! Large [`Bytes`] and [`Slice`]s in the arguments and results of a pool's tasks cross in shared
//! memory, and are copied once.
//!
//! # Async
//!
//! An [`AsyncResult`] is a future, in any runtime. With the feature `futures`, lazy maps, queues
//! and connections are streams and sinks (`Async`). Dropping what was awaited cancels it.
//!
//! # Features
//!
//! Only `startup` is on by default.
//!
//! | feature | what it adds | crates of others |
//! |---|---|---|
//! | `startup` | a child begins before `main`; see above | none |
//! | `auth` | keys for [`Listener`] and [`Client`]: `Listener::authkey`, `Client::connect_with` | 13 |
//! | `futures` | `Async`: streams and sinks | 2 |
//! | `tracing` | spans and events of pools, their tasks and workers, those of children too | 10 |
//! | `log` | log records of children, in this program's logger | 7 |
//! | `landlock` | which files a child may open | 10 |
//! | `seccomp` | which system calls a child may make | 1 |
//! | `mpi` | `Context::mpi`: pools on the ranks of an MPI job; links libmpi | 27, most of them to build |
//! | `bridge` | `Context::bridge`: pools on a Ray or Dask cluster, through a Python program | none |
//!
//! Without a feature it is 6 crates of others, and no macro is compiled. To derive `Serialize` and
//! `Deserialize`, add `serde` with its feature `derive`; to derive [`Pod`], add `bytemuck` with its
//! own.
//!
//! # Versions
//!
//! The oldest Rust supported is 1.88. Only a new minor version (0.2, 0.3, ...) raises it, to a Rust
//! that is at least six months old.
//!
//! # When something dies
//!
//! A worker that is killed, aborts, exits or segfaults fails the task it ran
//! ([`Error::is_worker_lost`]), and nothing else: results committed before count, tasks it had only
//! claimed run elsewhere, a replacement starts. A parent that is killed takes its children with it
//! at once; nothing stays behind in `/dev/shm` or `/tmp`.
//!
//! # Input that nobody trusts
//!
//! [`confinement`] says how a worker is limited and confined that parses what comes from elsewhere,
//! and where the trust boundary is: what a worker that has been taken over can do, and what not.
//!
//! # What children print and log
//!
//! [`output`] brings home what children print, line by line, and `records` (features `log`,
//! `tracing`) what they log.
//!
//! # Differences from `multiprocessing`
//!
//! - Nothing stands for `if __name__ == "__main__"`: a child does not get to `main`.
//! - A function takes one argument; `join` gives its value; a panic comes back as an error and not
//!   only as an exit code.
//! - A daemonic process may start processes: they end with it.
//! - Panics of pool tasks are not printed in the worker; the error carries message, location and,
//!   by `RUST_BACKTRACE`, the stack. Where panics abort (`panic = "abort"`) they are printed, and
//!   the task's worker is lost.
//! - A task can be given a time limit, retries after a lost worker, and can be cancelled while it
//!   runs ([`Pool::timeout`], [`Pool::retries`], [`AsyncResult::cancel`]).
//! - A pool that is dropped is terminated.
//!
//! [serde]: https://serde.rs

#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(doc, doctest))]
pub mod _guide;
mod argument;
mod arrival;
mod backtrace;
#[cfg(feature = "bridge")]
mod bridge;
mod codec;
pub mod confinement;
pub mod connection;
mod context;
mod current;
mod error;
mod failure;
mod function;
mod handle;
mod integer;
mod message;
#[cfg(feature = "mpi")]
mod mpi;
pub mod output;
pub mod pool;
pub mod process;
pub mod queue;
pub mod records;
#[cfg(any(feature = "bridge", feature = "mpi"))]
mod remote;
mod shared;
mod shared_array;
mod shared_memory;
mod shared_slice;
mod shared_value;
mod slice;
mod slow_call;
mod start_method;
mod startup;
#[cfg(feature = "futures")]
pub mod stream;
pub mod sync;
mod task;

#[doc(no_inline)]
pub use bytemuck::Pod;
#[doc(inline)]
pub use connection::{Address, Client, Connection, Listener, Waitable, pipe, wait};
pub use context::Context;
pub use current::{CurrentProcess, ParentProcess, active_children, current_process, parent_process};
pub use error::{Error, Result};
pub use handle::Handle;
pub use message::Message;
#[doc(inline)]
pub use output::Output;
#[doc(inline)]
pub use pool::{AbortHandle, AsyncResult, MapIn, Pool};
#[doc(inline)]
pub use process::{ActiveChild, Listed, Process};
pub use procession_core::{Atomic, RawMemory, ThreadsAtFork, available_parallelism};
#[doc(inline)]
pub use queue::{JoinableQueue, Queue, SimpleQueue};
pub use shared::{Shared, share};
pub use shared_array::{Integer, SharedArray};
pub use shared_memory::SharedMemory;
pub use shared_slice::SharedSlice;
pub use shared_value::SharedValue;
pub use slice::{Bytes, Slice};
#[doc(inline)]
pub use start_method::{ParseStartMethodError, StartMethod};
pub use start_method::{set_executable, set_start_method, start_method};
#[cfg(feature = "futures")]
#[doc(inline)]
pub use stream::Async;

/// Lets a child begin its work here, in a program without the feature `startup`: call it first in
/// `main`.
///
/// With the feature, which is on unless it is turned off, a child never gets here, and the call
/// does nothing. Without it, the call does a child's work in a child and never returns; in any
/// other process it returns at once. Code before it in `main` runs in every child too. Only `fork`
/// can do without it: `spawn` and `forkserver` execute the program again, and refuse
/// ([`Error::is_not_initialized`]) if nothing is there that a child could begin in.
///
/// ```
/// // fn main() {
/// procession::init();
/// // ... the program
/// // }
/// ```
pub fn init() {
    procession_core::init::init();
    #[cfg(feature = "bridge")]
    bridge::init();
}
