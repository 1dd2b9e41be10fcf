//! Rows of locks: ours beside the bare mutex of glibc, robust and process-shared, both in shared
//! memory.

#![allow(unsafe_code, reason = "the rival is a C library's")]

use std::mem::MaybeUninit;
use std::time::Instant;

use procession::Process;
use procession::sync::{Barrier, Lock};

use crate::report::{Must, Row};

pub(crate) fn uncontended(pairs: usize) -> Row {
    let (ours, theirs) = (Lock::new().expect("a lock is made"), Bare::new());
    let our_time = || nanos(1_000_000, || drop(ours.lock().expect("nobody died")));
    let their_time = || nanos(1_000_000, || theirs.locked(|| ()));
    // Neither side pays for the first touch of its page.
    our_time();
    their_time();
    let pairs = (0..pairs).map(|_| (our_time(), their_time()));
    Row::new("lock and unlock, uncontended", "ns", "glibc robust mutex", Must::AtMost(1.2), pairs.collect())
}

pub(crate) fn contended(pairs: usize) -> Row {
    let (ours, theirs) = (Lock::new().expect("a lock is made"), Bare::new());
    let our_time = || two_processes(|| drop(ours.lock().expect("nobody died")));
    let their_time = || two_processes(|| theirs.locked(|| ()));
    let pairs = (0..pairs).map(|_| (our_time(), their_time()));
    Row::new("lock and unlock, two processes", "ns", "glibc robust mutex", Must::AtMost(1.5), pairs.collect())
}

fn nanos(times: u32, mut once: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..times).for_each(|_| once());
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

/// Runs it in two processes at the same time, and returns the mean of the two.
fn two_processes(once: impl Fn()) -> f64 {
    const TIMES: u32 = 300_000;
    let start = Barrier::new(2).expect("a barrier is made");
    let run = || {
        start.wait().expect("both are there");
        nanos(TIMES, &once)
    };
    let mut other = Process::fork(run).start().expect("a process starts");
    let here = run();
    (here + other.join().expect("it counts")) / 2.0
}

/// A mutex of glibc's, on a page that is shared with forked children and never unmapped.
struct Bare(*mut libc::pthread_mutex_t);

impl Bare {
    fn new() -> Bare {
        let (len, access) = (4096, libc::PROT_READ | libc::PROT_WRITE);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: a fresh mapping aliases nothing; a page is large and aligned enough for a mutex.
        // The attributes are made before they are read, and the mutex before anybody knows of it.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED, "a page of shared memory");
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(page.cast(), attributes.as_ptr()), 0, "a mutex is made");
            Bare(page.cast())
        }
    }

    fn locked(&self, body: impl FnOnce()) {
        // SAFETY: `new` has made the mutex, on memory that is never unmapped.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.0) }, 0, "nobody died");
        body();
        // SAFETY: as above; this thread holds it.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.0) }, 0, "it is held");
    }
}
