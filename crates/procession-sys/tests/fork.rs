//! `fork` in a process of its own: the first thread forks, and the children are reaped here.

#![allow(unsafe_code)] // Raw C calls, and vouching for the threads that a check makes.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;

use procession_sys::fork::{ForkError, ThreadsAtFork, fork};
use procession_sys::per_process::{PerProcess, fork_generation};
use procession_sys::{exit, pidfd, thread};
use procession_testing::{end_of, eventually, in_time, once, run, tests};

fn main() {
    run(tests! {
        once: [
            exit_code_is_the_closures,
            child_borrows_a_copy,
            panic_aborts_the_child,
            another_thread_refuses_and_is_counted,
            token_allows_another_thread,
            joined_thread_does_not_refuse,
            engine_thread_is_not_counted,
            child_of_an_engine_thread_counts_afresh,
            stdio_is_not_written_twice,
            stdout_locked_elsewhere_does_not_hang_the_child,
            generation_counts_every_fork,
            per_process_value_is_fresh_in_the_child,
            ignored_sigchld_is_explained,
            exit_hooks_run_latest_first,
        ],
    })
}

fn exit_code_is_the_closures() {
    for code in [0, 1, 77, 255] {
        let child = fork(None, || code).unwrap();
        assert_ne!(child.pid(), pidfd::current_pid());
        assert_eq!(end_of(&child).code(), code);
    }
}

fn child_borrows_a_copy() {
    let mut numbers = vec![1, 2, 3];
    let child = fork(None, || {
        numbers.push(4);
        numbers.iter().sum()
    });
    assert_eq!(end_of(&child.unwrap()).code(), 10);
    assert_eq!(numbers, [1, 2, 3]);
}

fn panic_aborts_the_child() {
    let child = fork(None, || {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("must not come out of fork");
    });
    assert_eq!(end_of(&child.unwrap()).signal(), Some(libc::SIGABRT));
}

/// Runs `body` while another thread is alive, which waits for its end.
fn beside_another_thread<T>(name: &str, body: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let other = std::thread::Builder::new().name(name.to_owned());
    let other = other.spawn(move || is_done.recv().unwrap_err()).unwrap();
    let result = body();
    drop(done);
    other.join().unwrap();
    result
}

fn another_thread_refuses_and_is_counted() {
    let refused = beside_another_thread("first other", || beside_another_thread("second other", || fork(None, || 0)));
    let refused = refused.unwrap_err();
    let ForkError::Threads(threads) = &refused else { panic!("{refused}") };
    let names: Vec<_> = threads.threads.iter().map(|thread| thread.name.as_str()).collect();
    assert!(threads.others == 2 && names == ["first other", "second other"], "{refused:?}");
}

fn token_allows_another_thread() {
    // SAFETY: the other thread waits on a channel that the child does not touch.
    let allowed = unsafe { ThreadsAtFork::assume_safe() };
    let child = beside_another_thread("other", || fork(Some(allowed), || thread::other_threads().unwrap() as i32 + 5));
    assert_eq!(end_of(&child.unwrap()).code(), 5);
}

fn joined_thread_does_not_refuse() {
    for _ in 0..50 {
        std::thread::spawn(|| {}).join().unwrap();
        assert!(end_of(&fork(None, || 0).unwrap()).success());
    }
}

fn engine_thread_is_not_counted() {
    eventually("no threads but the watchdog", || thread::other_threads().unwrap() == 0);
    let (done, is_done) = mpsc::channel::<()>();
    let engine = thread::spawn_engine_thread("engine", move || assert!(is_done.recv().is_err())).unwrap();
    assert_eq!(thread::other_threads().unwrap(), 0);
    assert_eq!(end_of(&fork(None, || 6).unwrap()).code(), 6);
    drop(done);
    engine.join().unwrap();
}

fn child_of_an_engine_thread_counts_afresh() {
    let (tell, told) = mpsc::channel();
    let engine = thread::spawn_engine_thread("engine", move || {
        // Its maker counts it after making it, and the kernel may still count the engine thread of
        // the check before.
        eventually("the first thread is the only other", || thread::other_threads().unwrap() == 1);
        // SAFETY: the first thread waits on a channel that the child does not touch.
        let allowed = unsafe { ThreadsAtFork::assume_safe() };
        let child = fork(Some(allowed), || {
            let alone = thread::other_threads().unwrap();
            let (done, is_done) = mpsc::channel::<()>();
            let _user = std::thread::spawn(move || is_done.recv().is_err());
            let (_engine_done, is_engine_done) = mpsc::channel::<()>();
            let _engine =
                thread::spawn_engine_thread("engine", move || assert!(is_engine_done.recv().is_err())).unwrap();
            let two = thread::other_threads().unwrap();
            drop(done);
            (alone * 10 + two) as i32
        });
        tell.send(child.unwrap()).unwrap();
    });
    let child = told.recv().unwrap();
    assert_eq!(end_of(&child).code(), 1, "alone at first, then one user thread beside an engine thread");
    engine.unwrap().join().unwrap();
}

fn stdio_is_not_written_twice() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let run = fork(None, || {
        rustix::stdio::dup2_stdout(&writer).unwrap();
        // Without a newline, so that Rust and C both keep it in their buffers.
        std::io::stdout().write_all(b"rust ").unwrap();
        // SAFETY: a C string and no format.
        unsafe { libc::printf(c"c ".as_ptr()) };
        let child = fork(None, || {
            std::io::stdout().write_all(b"child ").unwrap();
            0
        });
        end_of(&child.unwrap()).code()
    });
    drop(writer);
    assert_eq!(end_of(&run.unwrap()).code(), 0);
    let mut written = String::new();
    reader.read_to_string(&mut written).unwrap();
    assert_eq!(written, "rust c child ");
}

fn stdout_locked_elsewhere_does_not_hang_the_child() {
    // SAFETY: the other thread takes and releases the lock of standard output, which `fork`
    // handles.
    let allowed = unsafe { ThreadsAtFork::assume_safe() };
    let (done, is_done) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let _locked = std::io::stdout().lock();
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    });
    for _ in 0..50 {
        assert!(end_of(&fork(Some(allowed), || 0).unwrap()).success());
    }
    drop(done);
    other.join().unwrap();
}

fn generation_counts_every_fork() {
    assert_eq!(fork_generation(), 0);
    let child = fork(None, || {
        // A fork by other code.
        // SAFETY: this process has one thread, and the child leaves at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            exit::exit_now(fork_generation() as i32 * 10);
        }
        let foreign = pidfd::PidFd::open(pid as u32).unwrap();
        end_of(&foreign).code() + fork_generation() as i32
    });
    assert_eq!(end_of(&child.unwrap()).code(), 21);
    assert_eq!(fork_generation(), 0);
}

fn per_process_value_is_fresh_in_the_child() {
    static VALUE: PerProcess<Mutex<i32>> = PerProcess::new(|| Mutex::new(5));
    let mut held = VALUE.get().lock().unwrap();
    *held = 6;
    let child = fork(None, || {
        // The parent's lock is held, and would stay so here.
        let mut own = VALUE.get().lock().unwrap();
        *own += 1;
        drop(own);
        let grandchild = fork(None, || *VALUE.get().lock().unwrap()).unwrap();
        end_of(&grandchild).code() * 10 + *VALUE.get().lock().unwrap()
    });
    assert_eq!(end_of(&child.unwrap()).code(), 56);
    assert_eq!((*held, VALUE.get().try_lock().is_err()), (6, true));
}

fn ignored_sigchld_is_explained() {
    let run = fork(None, || {
        // SAFETY: no handler runs; changes this child of the test only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        // The race is seldom lost: the child must be gone before its pidfd is opened.
        for _ in 0..2000 {
            match fork(None, || 0) {
                Ok(child) => assert!(child.wait_ended(Some(in_time())).unwrap()),
                Err(ForkError::Os(error)) => assert!(error.to_string().contains("SIGCHLD"), "{error}"),
                Err(other) => panic!("{other}"),
            }
        }
        0
    });
    assert_eq!(end_of(&run.unwrap()).code(), 0);
}

fn exit_hooks_run_latest_first() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let run = fork(None, || {
        rustix::stdio::dup2_stderr(&writer).unwrap();
        exit::at_exit(|| eprint!("first ")).unwrap();
        exit::at_exit(|| eprint!("second ")).unwrap();
        let child = fork(None, || 0).unwrap();
        assert!(end_of(&child).success());
        exit::exit(4)
    });
    drop(writer);
    assert_eq!(end_of(&run.unwrap()).code(), 4);
    let mut written = String::new();
    reader.read_to_string(&mut written).unwrap();
    assert_eq!(written, "second first ", "run once, by the process that exits and not by its child");
}
