//! The kernel as procession needs it, safe to call. Everything above this crate is free of `unsafe`
//! but for the shared-memory structures, and knows no platform.
//!
//! # What a platform must supply
//!
//! A platform is a folder with these modules. `linux` is the real one; `unsupported` compiles on
//! every Unix and refuses at run time with [`std::io::ErrorKind::Unsupported`], which keeps this
//! list honest (`RUSTFLAGS="--cfg procession_unsupported" cargo check`).
//!
//! | module | supplies | in one line |
//! |---|---|---|
//! | [`pidfd`] | [`PidFd`](pidfd::PidFd) | a process one can wait for and signal, never confused with a reused pid |
//! | | [`current_pid`](pidfd::current_pid) | the caller's pid |
//! | [`identity`] | [`Identity`](identity::Identity) | a process in one word of shared memory, and whether it lives |
//! | [`fork`](mod@fork) | [`fork`](fork::fork) | a child that is a copy of this process |
//! | | [`DefaultChildSignal`](fork::DefaultChildSignal) | exit statuses for a process whose parent ignored SIGCHLD |
//! | [`spawn`] | [`Spawn`](spawn::Spawn) | executes a program without copying this one; passes chosen fds and no others |
//! | | [`Preload`](spawn::Preload) | a shared object that is loaded into that program before it begins |
//! | | [`inherited_fd`](spawn::inherited_fd) | takes what the parent passed |
//! | | [`current_executable`](spawn::current_executable) | the image that runs, even if its file has been replaced |
//! | [`startup`] | [`before_main!`] | a function that runs before `main`, or where a shared object is loaded: there a child begins |
//! | [`link`] | [`Link`](link::Link) | a private pair of sockets: whole messages with fds; the lifeline |
//! | [`thread`] | [`spawn_engine_thread`](thread::spawn_engine_thread) | a thread that no signal reaches and no fork minds |
//! | | [`other_threads`](thread::other_threads) | how many threads stand in the way of a fork |
//! | | [`set_process_name`](thread::set_process_name), [`unblock_all_signals`](thread::unblock_all_signals) | what a new child sets up |
//! | | [`ignore_interrupt`](thread::ignore_interrupt) | a process that Ctrl-C does not end |
//! | | [`SignalsBlocked`](thread::SignalsBlocked) | a stretch in which no signal's handler runs in this thread |
//! | [`socket`] | [`receive`](socket::receive), [`send_all`](socket::send_all) | bytes with fds beside them over a stream socket, until a deadline |
//! | | [`pair`](socket::pair), [`kind`](socket::kind), [`peer`](socket::peer) | making one, and what is known of it |
//! | [`abstract_name`] | listen and connect | names of sockets that have no file |
//! | [`random`] | [`fill`](random::fill) | random bytes that nobody can guess |
//! | [`poller`] | [`Poller`](poller::Poller), [`Waker`](poller::Waker), [`wait_readable`](poller::wait_readable), [`wait_writable`](poller::wait_writable) | waiting for many fds |
//! | [`exit`](mod@exit) | [`exit_now`](exit::exit_now), [`exit`](exit::exit), [`flush_stdio`](exit::flush_stdio), [`at_exit`](exit::at_exit) | leaving |
//! | [`descriptor`] | [`above_streams`](descriptor::above_streams), [`duplicate`](descriptor::duplicate) | numbers of fds: none of the engine's is a standard stream's |
//! | | [`HeldStreams`](descriptor::HeldStreams) | keeps other code's new fds off these numbers |
//! | [`stdio`] | pipes, [`redirect`](stdio::redirect) | standard streams of a child that its parent reads |
//! | [`confine`] | [`limit`](confine::limit), [`lead_group`](confine::lead_group) | what a child takes from itself: resources, privileges, its group |
//! | | [`cpu_time`](confine::cpu_time) | the processor time that a process has used |
//! | [`memfd`] | anonymous files | memory and large messages that need no name on disk |
//! | [`mapping`] | [`Mapping`](mapping::Mapping) | a file's bytes in memory, shared with every process that maps it, between guard pages |
//! | [`named`] | named files | memory that other programs find by its name |
//! | [`session`] | leaving it | a process that outlives the others |
//! | [`futex`] | wait and wake | sleeping on a word of shared memory |
//! | [`mutex`] | a robust mutex | a lock in shared memory that survives its owner's death |
//! | `at_fork` | functions around each fork | where [`per_process`] counts forks |
//! | `object` | which ELF object holds an address | where [`image`] finds the running image and its build id |
//!
//! Neutral, and here once: [`image`] (function identity across an exec), [`other_objects`] (the
//! same in shared objects beside the image), [`per_process`] (what a forked child must not
//! inherit), [`bytes`] (short copies), [`ExitStatus`] and [`Signal`].
//!
//! # Architecture invariants
//!
//! - Every fd this crate makes is `CLOEXEC`, and above 2. A child gets an fd by
//!   [`spawn::Spawn::fds`] or in a message, or not at all.
//! - A process is signalled and waited for through its pidfd only.
//! - A wait interrupted by a signal is resumed with the time that is left; [`poller::Poller::wait`]
//!   alone returns, empty.
//! - No call here changes a signal's disposition or masks a signal in a thread that is not the
//!   engine's own, with three exceptions: a process that asks for a late end takes one real-time
//!   signal ([`link::Link::kill_me_later`]), a child that begins before `main` gets what Rust's
//!   runtime sets there ([`startup`]), and a worker ignores SIGINT where its pool's user wants that
//!   ([`thread::ignore_interrupt`]).

#![deny(unsafe_code)]

pub mod bytes;
mod exit_status;
mod extent;
mod file_identity;
mod fork_terms;
pub mod image;
mod message;
pub mod other_objects;
pub mod per_process;
mod resource;
mod stream;
mod stream_name;

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(procession_unsupported)
))]
#[path = "linux/mod.rs"]
mod imp;

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(procession_unsupported)
)))]
#[path = "unsupported/mod.rs"]
mod imp;

pub use exit_status::{ExitStatus, Signal};
pub use imp::{
    abstract_name, confine, descriptor, exit, fork, futex, identity, link, mapping, memfd, mutex, named, pidfd, poller,
    random, session, socket, spawn, startup, stdio, thread,
};
