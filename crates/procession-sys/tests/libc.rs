//! The C library as a child sees it, under each start method. If a child's C library takes the
//! child for its parent, free locks seem held to it, and held ones free.

// Raw pthread mutexes and raise, to see what the C library thinks of the child.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use procession::Error;
use procession_testing::{CONTEXTS, end_of, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        once: [
            mutex_owner_is_the_childs_thread,
            recursive_mutex_is_the_childs_alone,
            death_of_an_owner_frees_a_robust_mutex,
            raise_ends_the_child_by_its_signal,
            abort_ends_the_child_by_sigabrt,
            thread_is_started_and_joined,
            child_can_fork_and_execute,
            lines_of_c_code_survive_a_kill,
        ],
    })
}

/// Runs the function in two children of each start method. It must return an empty text: the
/// children of one fork server must not take themselves for one another.
fn is_well(what: impl Fn(u32) -> String + Copy + 'static) {
    for (method, context) in CONTEXTS {
        let mut children = [0, 1].map(|number| context.process(what, number).start().unwrap());
        for child in &mut children {
            assert_eq!(child.join().unwrap(), "", "{method}");
        }
    }
}

/// Returns how a child of each start method ends that runs the function.
fn ends_by(what: impl Fn(()) + Copy + 'static, signal: i32) {
    for (method, context) in CONTEXTS {
        let mut child = context.process(what, ()).start().unwrap();
        let error: Error = child.join().unwrap_err();
        assert!(error.to_string().contains(&format!("signal {signal} ")), "{method}: {error}");
    }
}

/// A mutex in memory that forked processes share, never unmapped.
fn shared_mutex(kind: i32, is_robust: bool) -> *mut libc::pthread_mutex_t {
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
        if is_robust {
            assert_eq!(libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST), 0);
        }
        assert_eq!(libc::pthread_mutex_init(memory.cast(), attributes.as_ptr()), 0);
        memory.cast()
    }
}

fn tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn mutex_owner_is_the_childs_thread() {
    is_well(|_| {
        let mutex = shared_mutex(libc::PTHREAD_MUTEX_ERRORCHECK, false);
        // SAFETY: the mutex is initialised and never unmapped; its owner is `__data.__owner`, the
        // third int.
        let (locked, owner, again, unlocked) = unsafe {
            let locked = libc::pthread_mutex_lock(mutex);
            let owner = mutex.cast::<libc::c_int>().add(2).read();
            (locked, owner, libc::pthread_mutex_lock(mutex), libc::pthread_mutex_unlock(mutex))
        };
        let right = (locked, owner, again, unlocked) == (0, tid(), libc::EDEADLK, 0);
        if right { String::new() } else { format!("locked {locked} by {owner}, not {}; {again}, {unlocked}", tid()) }
    });
}

/// If its C library took a forked child for its parent, the child could enter where the parent is
/// inside.
fn recursive_mutex_is_the_childs_alone() {
    let mutex = shared_mutex(libc::PTHREAD_MUTEX_RECURSIVE, false);
    // SAFETY: the mutex is initialised and never unmapped.
    assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
    let child = procession::Process::fork(|| {
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_trylock(mutex) }
    });
    assert_eq!(child.start().unwrap().join().unwrap(), libc::EBUSY);
}

fn death_of_an_owner_frees_a_robust_mutex() {
    is_well(|_| {
        let mutex = shared_mutex(libc::PTHREAD_MUTEX_NORMAL, true);
        // SAFETY: the mutex is initialised and never unmapped.
        let child = procession_sys::fork::fork(None, || match unsafe { libc::pthread_mutex_lock(mutex) } {
            0 => procession_sys::exit::exit_now(7),
            error => error,
        });
        let code = end_of(&child.unwrap()).code();
        // SAFETY: as above; the mutex of the dead owner is marked consistent before the unlock.
        let (locked, whole, unlocked) = unsafe {
            (libc::pthread_mutex_lock(mutex), libc::pthread_mutex_consistent(mutex), libc::pthread_mutex_unlock(mutex))
        };
        let right = (code, locked, whole, unlocked) == (7, libc::EOWNERDEAD, 0, 0);
        if right { String::new() } else { format!("{code}, {locked}, {whole}, {unlocked}") }
    });
}

fn raise_ends_the_child_by_its_signal() {
    ends_by(
        |()| {
            // SAFETY: a signal without a handler, to this thread.
            unsafe { libc::raise(libc::SIGUSR1) };
        },
        libc::SIGUSR1,
    );
}

fn abort_ends_the_child_by_sigabrt() {
    ends_by(|()| std::process::abort(), libc::SIGABRT);
}

fn thread_is_started_and_joined() {
    is_well(|_| {
        let main = tid();
        let other = std::thread::spawn(tid).join().unwrap();
        if main != other && main.unsigned_abs() == std::process::id() {
            String::new()
        } else {
            format!("{main}, {other}")
        }
    });
}

fn child_can_fork_and_execute() {
    is_well(|_| {
        let forked = end_of(&procession_sys::fork::fork(None, || 10).unwrap()).code();
        let executed = std::process::Command::new("true").status().unwrap();
        if forked == 10 && executed.success() { String::new() } else { format!("{forked}, {executed}") }
    });
}

fn print_by_c(_: ()) {
    // SAFETY: texts that end with NUL, without conversions; the process ends by a signal.
    unsafe {
        libc::printf(c"a line\n".as_ptr());
        libc::puts(c"another".as_ptr());
        libc::raise(libc::SIGKILL);
    }
}

/// They would be in the C library's buffer, as a pipe is no terminal.
fn lines_of_c_code_survive_a_kill() {
    for (method, context) in CONTEXTS {
        let (sender, lines) = std::sync::mpsc::channel();
        let output = procession::Output::callback(move |line| drop(sender.send(line.text().into_owned())));
        context.process(print_by_c, ()).output(output).start().unwrap().join().unwrap_err();
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["a line", "another"], "{method}");
    }
}
