//! Sleeping on a word of shared memory, and waking its sleepers. Called by the gate, in any process
//! and thread that maps the word.

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

/// Sleeps while the word is `seen`, until woken, interrupted, or for `timeout`. Returns at once if
/// the word is something else. The caller looks again, whatever ended the sleep.
///
/// # Errors
///
/// If the word is not in mapped memory.
pub fn wait(word: &AtomicU32, seen: u32, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    match futex::wait(word, Flags::empty(), seen, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Wakes up to `count` sleepers. Returns how many slept.
///
/// # Errors
///
/// If the word is not in mapped memory.
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<u32> {
    Ok(u32::try_from(futex::wake(word, Flags::empty(), count)?).unwrap_or(u32::MAX))
}
