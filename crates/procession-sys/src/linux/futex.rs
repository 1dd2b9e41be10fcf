//! Sleeping on a word of shared memory, and waking its sleepers. Called by the gate, in any process
//! and thread that maps the word.

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{self, Flags, Timespec, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::clock_gettime;

/// As many words as the kernel waits for in one call.
const MAX_WORDS: usize = 128;
/// The time for which the caller of [`wait_any`] sleeps without a look at the other words if the
/// kernel cannot wait for all of them.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

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

/// Sleeps while every word is as it was seen, until a wake at one of them, or for `timeout`. The
/// caller looks again, whatever ended the sleep.
///
/// Linux knows this from 5.16 on, for 128 words. In the place of what it does not know, this sleeps
/// at the first word for 5 ms at most.
///
/// # Errors
///
/// If a word is not in mapped memory.
pub fn wait_any(words: &[(&AtomicU32, u32)], timeout: Duration) -> io::Result<()> {
    let Some((first, seen)) = words.first() else { return Ok(()) };
    let waits: Vec<futex::Wait> = words
        .iter()
        .map(|(word, seen)| {
            let mut wait = futex::Wait::new();
            wait.val = u64::from(*seen);
            wait.uaddr = WaitPtr::new(word.as_ptr().cast());
            wait.flags = WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let until =
        Timespec::try_from(timeout).ok().and_then(|timeout| clock_gettime(ClockId::Monotonic).checked_add(timeout));
    if waits.len() <= MAX_WORDS {
        match futex::waitv(&waits, WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => return Ok(()),
            // An older kernel, or a filter of system calls that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    wait(first, *seen, Some(timeout.min(LOOK_INTERVAL)))
}

/// Wakes up to `count` sleepers. Returns how many slept.
///
/// # Errors
///
/// If the word is not in mapped memory.
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<u32> {
    Ok(u32::try_from(futex::wake(word, Flags::empty(), count)?).unwrap_or(u32::MAX))
}
