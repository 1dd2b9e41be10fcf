//! The fork server is SIGKILLed: nothing is lost, and the next use starts another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use procession::Context;
use procession_sys::Signal;
use procession_sys::pidfd::PidFd;
use procession_testing::{children_named, children_of_named, eventually, kill, once, run, tests};

fn main() {
    procession::init();
    run(tests! {
        once: [
            killed_server_is_restarted_on_next_use,
            stopped_server_is_replaced_and_holds_nothing_up,
            children_killed_in_their_first_moment_are_reaped,
            exit_codes_reach_the_owner,
            exit_code_outlives_a_killed_server,
            subreaper_reaps_children_of_a_killed_server,
            stopped_server_hangs_nobody,
        ],
    })
}

fn killed_server_is_restarted_on_next_use() {
    let context = Context::forkserver();
    let mut slow = context
        .process(
            |x: u32| {
                std::thread::sleep(Duration::from_millis(100));
                x
            },
            5,
        )
        .start()
        .unwrap();
    let pool = context.pool(2).unwrap();
    for round in 0..5u32 {
        let servers = children_named("forkserver");
        assert_eq!(servers.len(), 1, "one server");
        assert!(kill(servers[0]));
        assert_eq!(context.process(|x: u32| x + 1, round).start().unwrap().join().unwrap(), round + 1);
        assert_ne!(children_named("forkserver"), servers);
        // The workers of the first server's time serve on, and one of them is replaced by way of
        // the new one.
        assert!(kill(pool.worker_pids()[0]));
        assert_eq!(pool.map(|x: u32| x * 2, 0..100).unwrap()[99], 198);
        eventually("the worker is replaced", || pool.worker_pids().len() == 2);
    }
    assert_eq!(slow.join().unwrap(), 5, "a process that the dead server made is not touched");
}

fn stopped_server_is_replaced_and_holds_nothing_up() {
    let context = Context::forkserver();
    let pool = context.pool(2).unwrap();
    let servers = children_named("forkserver");
    PidFd::open(servers[0]).unwrap().signal(Signal::STOP).unwrap();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| context.process(|x: u32| x + 1, 1).start().unwrap().join().unwrap());
        assert!(kill(pool.worker_pids()[0]));
        pool.stats().unwrap();
        pool.resize(3).unwrap();
        assert_eq!(pool.map(|x: u32| x * 2, 0..100).unwrap()[99], 198);
        assert_eq!(started.join().unwrap(), 2);
    });
    eventually("the workers are there", || pool.worker_pids().len() == 3);
    assert_ne!(children_named("forkserver"), servers);
    for pid in children_named("forkserver") {
        PidFd::open(pid).unwrap().signal(Signal::STOP).unwrap();
    }
    assert!(kill(pool.worker_pids()[0]));
    pool.close();
    pool.join().unwrap();
}

fn children_killed_in_their_first_moment_are_reaped() {
    let context = Context::forkserver();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A child has its server's name until it can say who it is: so both are struck, alone or
        // together.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for server in children_named("forkserver") {
                    for pid in children_of_named(server, "forkserver").into_iter().chain([server]) {
                        let _ = PidFd::open(pid).and_then(|process| process.signal(Signal::KILL));
                    }
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            match context.process(|x: u32| x, 7).start() {
                Ok(mut process) => drop(process.join()),
                Err(error) => assert!(error.to_string().contains("fork server"), "{error}"),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(context.process(|x: u32| x, 7).start().unwrap().join().unwrap(), 7);
    eventually("nobody but the last server is left", || {
        let servers = children_named("forkserver");
        servers.len() == 1 && children_of_named(servers[0], "forkserver").is_empty()
    });
}

fn exit_codes_reach_the_owner() {
    for (code, exit) in [(0, 0u8), (3, 3), (-9, 9)] {
        let mut child = Context::forkserver().process(end_by, exit).start().unwrap();
        // The outcome of its target is another question.
        let _ = child.join();
        assert_eq!(child.exit_code(), Some(code));
    }
}

fn exit_code_outlives_a_killed_server() {
    let mut child = Context::forkserver().process(end_by, 5).start().unwrap();
    kill_servers();
    let _ = child.join();
    // An older kernel forgets it once the next parent, init, has reaped the child.
    assert!(child.exit_code() == Some(5) || (child.exit_code().is_none() && kernel() < (6, 15)));
}

fn subreaper_reaps_children_of_a_killed_server() {
    // As process 1 of a container is one.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut child = Context::forkserver().process(end_by, 7).start().unwrap();
    let pid = child.pid();
    kill_servers();
    let _ = child.join();
    assert_eq!(child.exit_code(), Some(7));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it is no zombie");
    rustix::process::set_child_subreaper(None).unwrap();
}

fn stopped_server_hangs_nobody() {
    let mut child = Context::forkserver().process(end_by, 6).start().unwrap();
    let servers = children_named("forkserver");
    PidFd::open(servers[0]).unwrap().signal(Signal::STOP).unwrap();
    let _ = child.join();
    assert_eq!(child.exit_code(), Some(6));
    assert_eq!(Context::forkserver().process(|x: u32| x, 7).start().unwrap().join().unwrap(), 7, "by another server");
    assert_ne!(children_named("forkserver"), servers);
}

/// Ends the process by this exit code, or by the signal 9.
fn end_by(code: u8) {
    std::thread::sleep(Duration::from_millis(50));
    if code == 9 {
        PidFd::of_self().unwrap().signal(Signal::KILL).unwrap();
    }
    std::process::exit(code.into());
}

/// The kernel's version: major, minor.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn kill_servers() {
    for server in children_named("forkserver") {
        assert!(kill(server));
    }
}
