//! The exit of a process, and what is flushed or run before. Children leave by [`exit_now`]. An
//! executed child and the program itself leave by [`exit`], whose handlers the engine joins through
//! [`at_exit`].

#![allow(unsafe_code)] // _exit, fflush and __cxa_atexit: none of them exists in rustix.

use std::io::{self, Write};

/// Ends the process with the code, at once: nothing is flushed, no handler runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process whatever its state; runs no code of ours.
    unsafe { libc::_exit(code) }
}

/// Ends the process with the code after its exit handlers have run and C's streams are flushed.
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Writes out the contents of Rust's standard output and C's streams. Bytes that cannot be written
/// (a closed pipe, a full disk) are lost, as at any exit.
pub fn flush_stdio() {
    let _ = io::stdout().flush();
    // SAFETY: a null stream means all of them; each is locked while it is flushed.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Has the hook run when the process exits by [`exit`] or by returning from `main`. The latest hook
/// runs first. A child that was forked later inherits the hook; one that leaves by [`exit_now`]
/// does not run it. A hook that panics aborts the process.
///
/// # Errors
///
/// If there is no memory for it.
pub fn at_exit(hook: fn()) -> io::Result<()> {
    // The call behind atexit(3). Unlike atexit, it passes an argument on.
    unsafe extern "C" {
        fn __cxa_atexit(
            run: extern "C" fn(*mut libc::c_void),
            argument: *mut libc::c_void,
            object: *mut libc::c_void,
        ) -> libc::c_int;
    }
    // SAFETY: `run_hook` expects a `fn()` as its argument, and gets one. It runs at exit, when this
    // code is still mapped: the call names no object whose unloading would run it earlier, and Rust
    // code is never unloaded here.
    let refused = unsafe { __cxa_atexit(run_hook, hook as *mut libc::c_void, std::ptr::null_mut()) };
    if refused == 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::OutOfMemory, "no memory for another exit handler"))
    }
}

extern "C" fn run_hook(hook: *mut libc::c_void) {
    // SAFETY: only `at_exit` registers this function, always with a `fn()` cast to a pointer. An
    // unwinding hook reaches the `extern "C"` boundary and aborts there.
    let hook = unsafe { std::mem::transmute::<*mut libc::c_void, fn()>(hook) };
    hook();
}
