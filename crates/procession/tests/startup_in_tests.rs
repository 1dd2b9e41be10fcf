//! Tests of the usual kind, which run in parallel, in threads of one process: each starts processes
//! without a word before.

use std::os::unix::process::CommandExt;
use std::process::Command;

use procession::{Context, Process, SharedMemory};
use procession_testing::{patience, watchdog};

fn pools_work(name: &str, factor: u64) {
    let _watch = watchdog::watch(name, patience());
    for context in [Context::spawn(), Context::forkserver()] {
        let pool = context.pool(2).unwrap();
        let products = pool.starmap(|x: u64, factor: u64| x * factor, (0..100).map(|x| (x, factor))).unwrap();
        assert_eq!(products, (0..100).map(|x| x * factor).collect::<Vec<_>>());
        assert!(!pool.worker_pids().contains(&std::process::id()));
    }
}

#[test]
fn first_of_three_tests_has_pools_of_its_own() {
    pools_work("first", 2);
}

#[test]
fn second_of_three_tests_has_pools_of_its_own() {
    pools_work("second", 3);
}

#[test]
fn third_of_three_tests_has_pools_of_its_own() {
    pools_work("third", 5);
}

#[test]
fn memory_with_a_name_has_its_tracker() {
    let memory = SharedMemory::create_named(10).unwrap();
    assert_eq!(memory.size(), 10);
    memory.unlink().unwrap();
}

#[test]
fn init_may_be_called_anywhere() {
    let _watch = watchdog::watch("init in a test", patience());
    procession::init();
    let mut process = Context::spawn().process(|x: u8| x + 1, 1).start().unwrap();
    procession::init();
    assert_eq!(process.join().unwrap(), 2);
}

#[test]
fn fork_names_the_threads_beside_a_test_and_what_to_do() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let other = std::thread::Builder::new().name("held".into()).spawn(move || held.recv()).unwrap();
    let error = Process::fork(|| 1u8).start().unwrap_err();
    drop(hold);
    other.join().unwrap().unwrap_err();
    let text = error.to_string();
    assert!(error.is_other_threads() && text.contains("\"held\" (tid "), "{text}");
    let main = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert!(text.contains(&format!("{:?} (tid {})", main.trim_end(), std::process::id())), "{text}");
    assert!(text.contains("#[test]") && text.contains("harness = false"), "{text}");
    assert!(text.contains("Context::forkserver()"), "{text}");
}

/// The signals that a process ignores and catches.
fn signals(_: ()) -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    (mask("SigIgn:"), mask("SigCgt:"))
}

#[test]
fn child_has_the_signals_of_a_program_of_rusts() {
    let is_in = |mask: u64, signal: i32| mask & 1 << (signal - 1) != 0;
    for context in [Context::spawn(), Context::forkserver()] {
        let (ignored, caught) = context.process(signals, ()).start().unwrap().join().unwrap();
        assert!(is_in(ignored, 13), "SIGPIPE: {ignored:x}");
        assert!(is_in(caught, 11) && is_in(caught, 7), "SIGSEGV, SIGBUS: {caught:x}");
    }
}

#[test]
fn child_has_the_arguments_of_its_parent() {
    for context in [Context::spawn(), Context::forkserver()] {
        let arguments = context.process(|()| std::env::args().collect::<Vec<_>>(), ()).start().unwrap().join().unwrap();
        assert_eq!(arguments[0], format!("{} [procession-child]", std::env::args().next().unwrap()));
        assert_eq!(arguments[1..], std::env::args().skip(1).collect::<Vec<_>>());
    }
}

#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 100]);
    overflow(depth + 1) + frame[7]
}

#[test]
fn stack_overflow_in_a_child_is_named_and_ends_it_alone() {
    const SIGABRT: i32 = 6;
    for context in [Context::spawn(), Context::forkserver()] {
        let mut child = context.process(overflow, 0).start().unwrap();
        child.join().unwrap_err();
        assert_eq!(child.exit_code(), Some(-SIGABRT));
    }
}

#[test]
fn program_that_is_marked_as_a_child_without_a_parent_says_so() {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let ended = program.arg0("program [procession-child]").output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(70) && text.contains("it has no link to a parent"), "{ended:?}");
}
