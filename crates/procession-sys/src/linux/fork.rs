//! Children that are copies of this process. Called in the parent, in whatever thread starts a
//! process. The child runs its closure inside [`fork`], as its only thread, and never returns from
//! it.
//!
//! # What the child finds
//!
//! Its memory is a copy, and its only thread is the one that forked. Locks that other threads held
//! at that instant stay held:
//!
//! | held by another thread | in the child |
//! |---|---|
//! | the allocator's locks, C stdio's locks | free: glibc takes or resets them in its fork |
//! | the lock of Rust's standard output | free: the forking thread takes it before and releases it on both sides |
//! | the engine's locks | not there: the engine keeps its state in [`PerProcess`](crate::per_process::PerProcess) values |
//! | any other lock | held for ever: therefore [`fork`] refuses while the program has other threads |
//!
//! Standard output is flushed before the fork, because its buffer would otherwise be written twice.

#![allow(unsafe_code)] // fork and sigaction: rustix leaves them to libc.

use std::io;

use super::exit::{exit_now, flush_stdio};
use super::pidfd::PidFd;
use super::thread;
pub use crate::fork_terms::{ForkError, OtherThread, OtherThreads, ThreadsAtFork};
use crate::per_process::fork_generation;

/// Forks. The child runs the closure, flushes its standard streams and leaves with the code, by
/// `_exit`: no destructors, no exit handlers. A panic that escapes the closure aborts the child.
/// The child inherits signal masks and handlers as they are.
///
/// ```no_run
/// use procession_sys::fork::fork;
///
/// let three = 3; // the child has a copy of it
/// let child = fork(None, || three)?;
/// assert_eq!(child.reap()?.code(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ForkError::Threads`] if the process has threads besides the caller and the engine's own, and
/// `allow` does not promise that they do no harm; [`ForkError::Os`] if the system refuses, or has
/// reaped the child already.
pub fn fork(allow: Option<ThreadsAtFork>, child: impl FnOnce() -> i32) -> Result<PidFd, ForkError> {
    if allow.is_none() {
        let others = settled(thread::other_threads).map_err(ForkError::Os)?;
        if others > 0 {
            let threads = thread::list_other_threads();
            return Err(ForkError::Threads(OtherThreads { others, threads, is_main: thread::is_main() }));
        }
    }
    // The handlers must be in place, so that the child's generation counts.
    fork_generation();
    let stdout = io::stdout().lock();
    flush_stdio();
    // SAFETY: libc's fork, whose handlers make the child's allocator and stdio usable. The child
    // has one thread. No other thread's lock matters to it: the check above found only the engine's
    // threads, whose bodies share nothing lock-guarded with a child, or the maker of `allow`
    // promised so.
    let pid = unsafe { libc::fork() };
    drop(stdout);
    match pid {
        -1 => Err(ForkError::Os(io::Error::last_os_error())),
        0 => run_child(child),
        pid => PidFd::of_new_child(pid).map_err(ForkError::Os),
    }
}

/// The action of SIGCHLD in this process before [`DefaultChildSignal::set`].
///
/// If a process ignores SIGCHLD, which an exec inherits, the kernel reaps its children, and nobody
/// learns how they ended. A process that must report how its children end sets the default, and
/// each child restores the action that it would have inherited.
pub struct DefaultChildSignal {
    before: libc::sigaction,
}

impl DefaultChildSignal {
    /// Sets the default action of SIGCHLD.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn set() -> io::Result<DefaultChildSignal> {
        // SAFETY: zero is a valid value of the C structure and means the default action; the call
        // reads one live local and writes the other.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGCHLD, &raw const default, &raw mut before) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(DefaultChildSignal { before })
        }
    }

    /// Restores the action of SIGCHLD. Called in a forked child.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn restore(&self) -> io::Result<()> {
        // SAFETY: the kernel gave the action in `set`, in this process or the one it was forked
        // from, whose code and handlers are mapped here at the same addresses. A null pointer asks
        // for no earlier action.
        match unsafe { libc::sigaction(libc::SIGCHLD, &raw const self.before, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl std::fmt::Debug for DefaultChildSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DefaultChildSignal").finish_non_exhaustive()
    }
}

/// Runs the rest of the child's life.
fn run_child(child: impl FnOnce() -> i32) -> ! {
    let guard = AbortOnUnwind;
    let code = child();
    flush_stdio();
    std::mem::forget(guard);
    exit_now(code)
}

/// Aborts a child that unwinds, because it must not return from [`fork`] into its parent's frames.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Counts until the count is 0, for up to 50 ms. A thread that ends wakes its joiner shortly before
/// the kernel ceases to count it.
fn settled(count: impl Fn() -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..50 {
        if count()? == 0 {
            return Ok(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    count()
}
