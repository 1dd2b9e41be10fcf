//! `clone_as_sibling` as the fork server uses it: this process is the owner, a forked child the server, and what the
//! server clones is this process's child.

#![allow(unsafe_code)] // Raw pthread mutexes, to see what the C library thinks of the clone.

mod harness;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;

use harness::{end_of, in_time};
use procession_sys::fork::{clone_as_sibling, fork};
use procession_sys::link::Link;
use procession_sys::per_process::fork_generation;
use procession_sys::pidfd::{PidFd, current_pid};
use procession_sys::{Signal, exit};

fn main() {
    harness::run(&[
        ("sibling_is_the_owners_child", sibling_is_the_owners_child),
        ("sibling_can_be_killed_by_the_owner", sibling_can_be_killed_by_the_owner),
        ("server_cannot_reap_its_sibling", server_cannot_reap_its_sibling),
        ("generation_counts_the_clone", generation_counts_the_clone),
        ("sibling_owns_a_mutex_under_its_own_tid", sibling_owns_a_mutex_under_its_own_tid),
        ("death_of_a_sibling_frees_its_robust_mutex", death_of_a_sibling_frees_its_robust_mutex),
        ("sibling_makes_threads_and_forks", sibling_makes_threads_and_forks),
        ("threads_refuse", threads_refuse),
    ]);
}

/// The sibling that is made, which nobody can have reaped yet.
fn cloned(child: impl FnOnce() -> i32) -> io::Result<PidFd> {
    let pid = AtomicU32::new(0);
    clone_as_sibling(&pid, child)?;
    PidFd::open(pid.into_inner())
}

/// Has a server clone one sibling that runs `child`, and gives that sibling.
fn served(child: impl FnOnce() -> i32) -> PidFd {
    let (ours, theirs) = Link::pair().unwrap();
    let server = fork(None, || {
        let sibling = cloned(child).unwrap();
        theirs.send(&[IoSlice::new(&sibling.pid().to_ne_bytes())], &[sibling.as_fd()]).unwrap();
        0
    });
    assert!(end_of(&server.unwrap()).success());
    let message = ours.recv(Some(in_time())).unwrap().unwrap();
    let pid = u32::from_ne_bytes(message.bytes.try_into().unwrap());
    let fd: OwnedFd = message.fds.into_iter().next().unwrap();
    PidFd::from_parts(fd, pid)
}

fn sibling_is_the_owners_child() {
    let owner = current_pid();
    let sibling = served(|| {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().unsigned_abs();
        if parent == owner { 42 } else { 1 }
    });
    assert_eq!(end_of(&sibling).code(), 42);
}

fn sibling_can_be_killed_by_the_owner() {
    let sibling = served(|| {
        loop {
            std::thread::park();
        }
    });
    assert!(!sibling.has_ended().unwrap());
    assert!(sibling.signal(Signal::KILL).unwrap());
    assert_eq!(end_of(&sibling).signal(), Some(9));
}

fn server_cannot_reap_its_sibling() {
    let server = fork(None, || {
        let sibling = cloned(|| 0).unwrap();
        assert!(sibling.wait_ended(Some(in_time())).unwrap(), "but it can wait for it");
        sibling.try_reap().unwrap_err().raw_os_error().unwrap()
    });
    let server = server.unwrap();
    assert_eq!(end_of(&server).code(), libc::ECHILD);
    let orphan = rustix::process::wait(rustix::process::WaitOptions::empty()).unwrap();
    assert_eq!(orphan.unwrap().1.exit_status(), Some(0), "the sibling was left to the owner");
}

fn generation_counts_the_clone() {
    assert_eq!(fork_generation(), 0);
    let sibling = served(|| {
        let child = fork(None, || fork_generation() as i32).unwrap();
        fork_generation() as i32 * 10 + end_of(&child).code()
    });
    assert_eq!(end_of(&sibling).code(), 23, "the server is 1, the sibling 2, its child 3");
}

/// A mutex in memory that forked processes share, never unmapped.
fn shared_mutex(kind: i32, robust: bool) -> *mut libc::pthread_mutex_t {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let (access, len) = (libc::PROT_READ | libc::PROT_WRITE, size_of::<libc::pthread_mutex_t>());
    // SAFETY: a fresh mapping, large enough for the mutex, and attributes initialised before use.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED);
        let mut attributes = MaybeUninit::uninit();
        assert_eq!(libc::pthread_mutexattr_init(attributes.as_mut_ptr()), 0);
        assert_eq!(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED), 0);
        assert_eq!(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind), 0);
        if robust {
            assert_eq!(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST), 0);
        }
        assert_eq!(libc::pthread_mutex_init(memory.cast(), attributes.as_ptr()), 0);
        memory.cast()
    }
}

fn sibling_owns_a_mutex_under_its_own_tid() {
    let mutex = shared_mutex(libc::PTHREAD_MUTEX_ERRORCHECK, false);
    let sibling = served(|| {
        // SAFETY: the mutex is initialised and shared; its owner is `mutex.__data.__owner`, the third int.
        let (locked, owner, unlocked) = unsafe {
            let locked = libc::pthread_mutex_lock(mutex);
            let owner = mutex.cast::<libc::c_int>().add(2).read();
            (locked, owner, libc::pthread_mutex_unlock(mutex))
        };
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        i32::from((locked, owner, unlocked) != (0, tid, 0))
    });
    assert_eq!(end_of(&sibling).code(), 0);
}

fn death_of_a_sibling_frees_its_robust_mutex() {
    let mutex = shared_mutex(libc::PTHREAD_MUTEX_NORMAL, true);
    // SAFETY: the mutex is initialised and shared.
    let sibling = served(|| match unsafe { libc::pthread_mutex_lock(mutex) } {
        0 => exit::exit_now(7),
        error => error,
    });
    assert_eq!(end_of(&sibling).code(), 7);
    // SAFETY: as above; what died with it is marked consistent before the unlock.
    unsafe {
        assert_eq!(libc::pthread_mutex_lock(mutex), libc::EOWNERDEAD);
        assert_eq!(libc::pthread_mutex_consistent(mutex), 0);
        assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
    }
}

fn sibling_makes_threads_and_forks() {
    let sibling = served(|| {
        let sum: i32 = (0..4).map(|n| std::thread::spawn(move || n).join().unwrap()).sum();
        sum + end_of(&fork(None, || 10).unwrap()).code()
    });
    assert_eq!(end_of(&sibling).code(), 16);
}

fn threads_refuse() {
    let refused = cloned(|| 0).unwrap_err();
    assert!(refused.to_string().contains("1 other threads"), "the watchdog counts here: {refused}");
}
