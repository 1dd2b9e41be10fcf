//! Functions that the C library calls around each fork of this process. Used by `per_process`.

#![allow(unsafe_code)] // pthread_atfork: rustix leaves it to libc.

use std::io;

/// Has these functions called in the parent before each fork, in the parent after it, and in the
/// child, whoever forks. Children inherit them.
///
/// The functions must do nothing but load and store atomics, because they run in any state of the
/// process.
pub(crate) fn register(before: extern "C" fn(), after: extern "C" fn(), child: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the three are functions of this program, which stay mapped as long as it runs. The
    // caller keeps to atomics in them.
    match unsafe { libc::pthread_atfork(Some(before), Some(after), Some(child)) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
