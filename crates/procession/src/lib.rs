//! Process-based parallelism: processes that are as easy to use as threads, and pools of them.
//!
//! It is Python's `multiprocessing` for Rust: [`Context`]s with three start methods, [`Process`],
//! [`Pool`]. What runs in another process can crash, leak, be killed or time out, and costs nobody
//! else anything.
//!
//! ```no_run
//! use procession::{Pool, Process};
//!
//! fn hello(name: String) -> usize {
//!     println!("hello {name}");
//!     name.len()
//! }
//!
//! fn main() -> procession::Result<()> {
//!     procession::init(); // a child process starts here, does its work and never returns
//!
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
//! pool.map(move |x: u64| x * factor, 0..10)?; // captures `factor`: pass it in the argument
//! # Ok(()) }
//! ```
//!
//! All of serde's data model crosses, with every attribute of its derive, and arrives as it was
//! sent: what cannot is an error that names type and field ([`Error::is_encode`],
//! [`Error::is_decode`]). The form is binary and human-readable in serde's sense, so that an IP
//! address is text. Values may be nested 1000 levels deep. What serde itself does not promise, no
//! form can: of an `untagged` enum the first variant that fits arrives, and 128-bit integers do not
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
//! # Between processes
//!
//! A [`Queue`] carries items from any process to any other. The locks, semaphores, conditions,
//! events and barriers of [`sync`] are those of threads, between processes. [`SharedMemory`] is
//! bytes that processes have in common, with a name if other programs are to find it;
//! [`SharedArray`] and [`SharedValue`] give them a type. [`share`] puts a value there once, for any
//! number of processes. All travel to a child as (part of) its argument.
//!
//! A [`Connection`] carries values back and forth between two; it comes from [`pipe`], or by
//! address from a [`Listener`] and a [`Client`], who may be a Python program's. [`wait`] waits for
//! the first of several. Files and sockets travel as [`Handle`]s.
//!
//! Large [`Bytes`] and [`Slice`]s in the arguments and results of a pool's tasks cross in shared
//! memory, and are copied once.
//!
//! # When something dies
//!
//! A worker that is killed, aborts, exits or segfaults fails the task it ran
//! ([`Error::is_worker_lost`]), and nothing else: results committed before count, tasks it had only
//! claimed run elsewhere, a replacement starts. A parent that is killed takes its children with it
//! at once; nothing stays behind in `/dev/shm` or `/tmp`.
//!
//! # Differences from `multiprocessing`
//!
//! - `init()` in `main` stands for `if __name__ == "__main__"`.
//! - A function takes one argument; `join` gives its value; a panic comes back as an error and not
//!   only as an exit code.
//! - A daemonic process may start processes: they end with it.
//! - Panics of pool tasks are not printed in the worker; the error carries message, location and
//!   backtrace. Where panics abort (`panic = "abort"`) they are printed, and the task's worker is
//!   lost.
//! - A task can be given a time limit, retries after a lost worker, and can be cancelled while it
//!   runs ([`Pool::timeout`], [`Pool::retries`], [`AsyncResult::cancel`]).
//! - A pool that is dropped is terminated.

#![deny(missing_docs)]

mod codec;
pub mod connection;
mod context;
mod current;
mod error;
mod function;
mod handle;
mod integer;
mod message;
pub mod pool;
pub mod process;
pub mod queue;
mod shared;
mod shared_array;
mod shared_memory;
mod shared_value;
mod slice;
mod start_method;
pub mod sync;
mod task;

#[doc(no_inline)]
pub use bytemuck::Pod;
pub use connection::{Address, Client, Connection, Listener, Waitable, pipe, wait};
pub use context::Context;
pub use current::{CurrentProcess, ParentProcess, active_children, current_process, parent_process};
pub use error::{Error, Result};
pub use handle::Handle;
pub use message::Message;
pub use pool::{AsyncResult, Pool};
pub use process::{ActiveChild, Listed, Process};
pub use procession_core::{Atomic, RawMemory, ThreadsAtFork, available_parallelism};
pub use queue::{JoinableQueue, Queue, SimpleQueue};
pub use shared::{Shared, share};
pub use shared_array::{Integer, SharedArray};
pub use shared_memory::SharedMemory;
pub use shared_value::SharedValue;
pub use slice::{Bytes, Slice};
pub use start_method::{StartMethod, set_executable, set_start_method, start_method};

/// Makes this program able to start processes of itself: call it first in `main`.
///
/// In a process that procession started it does that process's work and never returns; in any other
/// it returns at once. What stands before it in `main` runs in every child too. Only `fork` can do
/// without it: `spawn` and `forkserver` execute the program again, and refuse
/// ([`Error::is_not_initialized`]) where it has not been called, rather than run `main` in every
/// child.
///
/// ```
/// // fn main() {
/// procession::init();
/// // ... the program
/// // }
/// ```
pub fn init() {
    procession_core::init::init();
}
