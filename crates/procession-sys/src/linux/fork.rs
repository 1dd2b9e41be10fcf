//! Children that are copies of this process. Called in the parent, in whatever thread starts a process; the child
//! goes on in here, as its only thread, and never comes out.
//!
//! # What the child finds
//!
//! Its memory is a copy; of the threads there is only the one that forked. What the others held at that instant
//! stays held, and this is what is done about it:
//!
//! | held by another thread | in the child |
//! |---|---|
//! | the allocator's locks, C stdio's locks | free: glibc takes or resets them in its fork |
//! | the lock of Rust's standard output | free: the forking thread takes it before and releases it on both sides |
//! | the engine's locks | not there: the engine keeps its state in [`PerProcess`](crate::per_process::PerProcess) values |
//! | any other lock | held for ever: therefore [`fork`] refuses while the program has other threads |
//!
//! Standard output is flushed before, or what was buffered would be written twice.
//!
//! # The sibling
//!
//! The fork server's children must be its owner's, who waits for them: `CLONE_PARENT`. glibc has no fork with flags,
//! so the system call is made directly and what glibc's own fork would have mended is mended here. The server has one thread,
//! so no lock is held; that leaves two things the kernel keeps per thread, and glibc caches:
//! - the **tid**, which glibc stores as the owner of a mutex. `CLONE_CHILD_SETTID` writes the child's where glibc reads it: at
//!   the address that glibc gave the kernel to clear at the thread's end (`PR_GET_TID_ADDRESS`).
//! - the **robust list**, without which the kernel would not tell others that this owner of a robust mutex died. A fork
//!   drops it; the child registers the head its parent had, at the same address in its own memory.

#![allow(unsafe_code)] // fork, pthread_atfork and clone: rustix leaves them to libc.

use std::io;
use std::sync::atomic::AtomicU32;

use super::exit::{exit_now, flush_stdio};
use super::pidfd::PidFd;
use super::thread;
pub use crate::fork_terms::{ForkError, ThreadsAtFork};
use crate::per_process::{after_fork, before_fork, fork_generation, in_forked_child};

/// Forks. The child runs the closure, flushes its standard streams and leaves with the code, by `_exit`: no
/// destructors, no exit handlers. A panic that escapes the closure aborts the child. Signal masks and
/// handlers are inherited as they are.
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
    // SAFETY: libc's fork, whose handlers make the child's allocator and stdio usable. The child has one thread; that no
    // other thread's lock matters to it is checked above (there are only the engine's threads, whose bodies share nothing
    // lock-guarded with a child), or vouched for by who made `allow`.
    let pid = unsafe { libc::fork() };
    drop(stdout);
    match pid {
        -1 => Err(ForkError::Os(io::Error::last_os_error())),
        0 => run_child(child),
        pid => PidFd::of_new_child(pid).map_err(ForkError::Os),
    }
}

/// Forks a child that becomes a child of this process's parent, who alone can reap it. For a process with a single
/// thread, such as the fork server. The child runs the closure as in [`fork`], but `pthread_atfork` handlers do not run.
/// Its pid is in `pid` before it runs, for whoever shares that memory, and whatever becomes of this process.
///
/// # Errors
///
/// If this process has more than one thread; if the kernel refuses `CLONE_PARENT` (as to the first process of a container) or
/// cannot tell the thread's tid address (built without `CONFIG_CHECKPOINT_RESTORE`).
pub fn clone_as_sibling(pid: &AtomicU32, child: impl FnOnce() -> i32) -> io::Result<()> {
    let others = settled(|| Ok(thread::count()?.saturating_sub(1)))?;
    if others > 0 {
        return Err(io::Error::other(format!(
            "cannot clone a sibling of process {}: it has {others} other threads, and must have none",
            std::process::id()
        )));
    }
    let tid_address = rustix::thread::get_clear_child_tid_address()
        .map_err(|error| {
            refused("the kernel does not tell the thread's tid address (PR_GET_TID_ADDRESS)", error.into())
        })?
        .ok_or_else(|| refused("the thread has no tid address", io::ErrorKind::NotFound.into()))?;
    let robust_list = RobustList::of_this_thread()?;
    fork_generation();
    flush_stdio();
    before_fork();
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child gets a copy of the memory and, with a null stack, goes on here on its copy of this
    // stack, as after fork. There is one thread, so its state is whole. The kernel writes the pid to an atomic of its size, as
    // any thread might, and the tid, in the child, to the word that glibc itself registered for that.
    let made = unsafe { raw_clone(flags, pid.as_ptr().cast(), tid_address.as_ptr().cast()) };
    match made {
        -1 => Err(refused("the kernel refuses clone with CLONE_PARENT", io::Error::last_os_error())),
        0 => {
            in_forked_child();
            robust_list.register();
            run_child(child)
        }
        _ => Ok(()),
    }
}

/// Has glibc call the generation's handlers around each fork of this process and of its children.
pub(crate) fn register_handlers() -> io::Result<()> {
    // SAFETY: the handlers are `extern "C"` functions that only load and store atomics, which is fit for any state of the
    // process; they stay mapped as long as this code.
    match unsafe { libc::pthread_atfork(Some(before_fork_hook), Some(after_fork_hook), Some(in_forked_child_hook)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

unsafe extern "C" fn before_fork_hook() {
    before_fork();
}

unsafe extern "C" fn after_fork_hook() {
    after_fork();
}

unsafe extern "C" fn in_forked_child_hook() {
    in_forked_child();
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

/// Counts until the count is 0, for up to 50 ms: a joined thread has set its word, on which the joiner slept, shortly before
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

fn refused(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}; use the spawn start method"))
}

struct RobustList {
    head: *mut libc::c_void,
    len: usize,
}

impl RobustList {
    fn of_this_thread() -> io::Result<RobustList> {
        let mut list = RobustList { head: std::ptr::null_mut(), len: 0 };
        // SAFETY: the kernel writes one pointer and one length to live locals; 0 means this thread.
        let got = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut list.head, &raw mut list.len) };
        if got == 0 {
            Ok(list)
        } else {
            Err(refused("cannot read the thread's robust list", io::Error::last_os_error()))
        }
    }

    fn register(&self) {
        // SAFETY: the head is glibc's, in the thread's control block, which the child has at the same address.
        let set = unsafe { libc::syscall(libc::SYS_set_robust_list, self.head, self.len) };
        // The kernel refuses only a wrong length, and this one is its own.
        assert_eq!(set, 0, "set_robust_list: {}", io::Error::last_os_error());
    }
}

/// # Safety
///
/// As clone(2) without `CLONE_VM`: the pointers must be valid for what the flags have the kernel write there.
unsafe fn raw_clone(flags: libc::c_int, pid: *mut libc::c_int, tid: *mut libc::c_int) -> libc::c_long {
    let (flags, no_stack, no_tls) = (libc::c_long::from(flags), 0_usize, 0_usize);
    // SAFETY: the caller's contract; the order of the last two arguments is the architecture's.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        libc::syscall(libc::SYS_clone, flags, no_stack, pid, tid, no_tls)
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        libc::syscall(libc::SYS_clone, flags, no_stack, pid, no_tls, tid)
    }
}
