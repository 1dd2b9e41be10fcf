//! Children that are copies of this process. Called in the parent, in whatever thread starts a
//! process; the child goes on in here, as its only thread, and never comes out.
//!
//! # What the child finds
//!
//! Its memory is a copy; of the threads there is only the one that forked. What the others held at
//! that instant stays held, and this is what is done about it:
//!
//! | held by another thread | in the child |
//! |---|---|
//! | the allocator's locks, C stdio's locks | free: glibc takes or resets them in its fork |
//! | the lock of Rust's standard output | free: the forking thread takes it before and releases it on both sides |
//! | the engine's locks | not there: the engine keeps its state in [`PerProcess`](crate::per_process::PerProcess) values |
//! | any other lock | held for ever: therefore [`fork`] refuses while the program has other threads |
//!
//! Standard output is flushed before, or what was buffered would be written twice.

#![allow(unsafe_code)] // fork and sigaction: rustix leaves them to libc.

use std::io;

use super::exit::{exit_now, flush_stdio};
use super::pidfd::PidFd;
use super::thread;
pub use crate::fork_terms::{ForkError, ThreadsAtFork};
use crate::per_process::fork_generation;

/// Forks. The child runs the closure, flushes its standard streams and leaves with the code, by
/// `_exit`: no destructors, no exit handlers. A panic that escapes the closure aborts the child.
/// Signal masks and handlers are inherited as they are.
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
/// [`ForkError::Threads`] if the process has threads besides the caller and the engine's own, and `allow` does not vouch
/// for them; [`ForkError::Os`] if the system refuses, or has reaped the child already.
pub fn fork(allow: Option<ThreadsAtFork>, child: impl FnOnce() -> i32) -> Result<PidFd, ForkError> {
    if allow.is_none() {
        let others = settled(thread::other_threads).map_err(ForkError::Os)?;
        if others > 0 {
            return Err(ForkError::Threads { others });
        }
    }
    // The handlers must be in place, so that the child's generation counts.
    fork_generation();
    let stdout = io::stdout().lock();
    flush_stdio();
    // SAFETY: libc's fork, whose handlers make the child's allocator and stdio usable. The child
    // has one thread; that no other thread's lock matters to it is checked above (there are only
    // the engine's threads, whose bodies share nothing lock-guarded with a child), or vouched for
    // by who made `allow`.
    let pid = unsafe { libc::fork() };
    drop(stdout);
    match pid {
        -1 => Err(ForkError::Os(io::Error::last_os_error())),
        0 => run_child(child),
        pid => PidFd::of_new_child(pid).map_err(ForkError::Os),
    }
}

/// What SIGCHLD did in this process before [`DefaultChildSignal::set`].
///
/// A process that ignores SIGCHLD, which an exec inherits, has the kernel reap its children, and
/// nobody learns how they ended. A process that must report how its children end sets the default,
/// and each child puts back what it would have inherited.
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

    /// Puts back what SIGCHLD did before. Called in a forked child.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn restore(&self) -> io::Result<()> {
        // SAFETY: the action is what the kernel gave in `set`, in this process or the one it was
        // forked from, whose code and handlers are mapped here at the same addresses; a null
        // pointer means that nobody asks for the action before.
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

/// In the child: everything that is left of its life.
fn run_child(child: impl FnOnce() -> i32) -> ! {
    let guard = AbortOnUnwind;
    let code = child();
    flush_stdio();
    std::mem::forget(guard);
    exit_now(code)
}

/// An unwinding child must not come out of [`fork`] into its parent's frames.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Counts until the count is 0, for up to 50 ms: a joined thread has set its word, on which the
/// joiner slept, shortly before the kernel ceases to count it.
fn settled(count: impl Fn() -> io::Result<usize>) -> io::Result<usize> {
    for _ in 0..50 {
        if count()? == 0 {
            return Ok(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    count()
}
