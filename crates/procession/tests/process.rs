//! Processes, under each start method.

use std::os::fd::AsFd;
use std::time::Duration;

use procession::{Context, Process, active_children, current_process, parent_process};
use procession_sys::Signal;
use procession_sys::pidfd::PidFd;
use procession_sys::poller::wait_readable;
use procession_testing::{eventually, for_each_context, once, run, runs, tests};

fn main() {
    procession::init();
    run(tests! {
        for_each_context: [
            the_value_comes_back,
            large_arguments_and_values_cross,
            a_panic_is_an_error_and_exit_code_1,
            a_death_names_its_code_or_signal,
            process_knows_its_name_pid_and_parent,
            signals_end_waits_and_light_the_sentinel,
            a_dropped_handle_leaves_no_zombie,
            a_child_has_children,
            a_child_that_ends_takes_its_daemons_with_it,
            undecodable_arguments_and_values_are_errors,
        ],
        once: [
            a_closure_may_capture_and_borrow_under_fork,
            a_signal_reaches_exactly_the_process,
        ],
    })
}

fn the_value_comes_back(context: Context) {
    let mut process = context.process(|(a, b): (u64, String)| format!("{a}-{b}"), (7, "x".to_owned())).start().unwrap();
    assert_eq!(process.join().unwrap(), "7-x");
    assert_eq!(process.join().unwrap(), "7-x", "join can be asked again");
    assert_eq!(process.exit_code(), Some(0));
    assert!(!process.is_alive());
}

fn large_arguments_and_values_cross(context: Context) {
    let bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i % 253) as u8).collect();
    let mut process = context
        .process(
            |mut bytes: Vec<u8>| {
                bytes.reverse();
                bytes
            },
            bytes.clone(),
        )
        .start()
        .unwrap();
    let back = process.join().unwrap();
    assert!(back.iter().rev().eq(&bytes));
}

fn a_panic_is_an_error_and_exit_code_1(context: Context) {
    let mut process = context.process(|what: String| -> u8 { panic!("cannot {what}") }, "swim".into()).start().unwrap();
    let error = process.join().unwrap_err();
    assert!(error.is_panic(), "{error}");
    assert_eq!(error.panic_message(), Some("cannot swim"));
    assert!(error.panic_location().unwrap().contains("process.rs"));
    assert!(error.panic_backtrace().is_none_or(|stack| !stack.is_empty()), "it may not be asked for");
    assert_eq!((process.exit_code(), error.pid()), (Some(1), Some(process.pid())));
}

fn a_death_names_its_code_or_signal(context: Context) {
    let mut exits = context.process(|code: i32| -> u8 { std::process::exit(code) }, 3).start().unwrap();
    let error = exits.join().unwrap_err();
    assert!(error.is_process_lost() && error.exit_code() == Some(3) && error.signal().is_none(), "{error}");
    let mut aborts = context.process(|()| -> u8 { std::process::abort() }, ()).start().unwrap();
    let error = aborts.join().unwrap_err();
    assert!(error.is_process_lost() && error.signal() == Some(6), "{error}");
    assert!(error.to_string().contains("SIGABRT"), "{error}");
}

fn process_knows_its_name_pid_and_parent(context: Context) {
    type Seen = (String, u32, bool, Option<u32>, bool);
    fn identity(_: ()) -> Seen {
        let (me, parent) = (current_process(), parent_process());
        (
            me.name().to_owned(),
            me.pid(),
            me.is_daemon(),
            parent.map(|parent| parent.pid()),
            parent.is_some_and(|parent| parent.is_alive()),
        )
    }
    let mut process = context.process(identity, ()).name("taster").daemon(true).start().unwrap();
    let pid = process.pid();
    assert_eq!(process.join().unwrap(), ("taster".into(), pid, true, Some(std::process::id()), true));
    assert_eq!((process.name(), process.is_daemon()), ("taster", true));
    assert_eq!(current_process().name(), "MainProcess");
    assert!(parent_process().is_none());
    let unnamed = context.process(identity, ()).start().unwrap();
    assert!(unnamed.name().starts_with("Process-"), "{}", unnamed.name());
}

fn signals_end_waits_and_light_the_sentinel(context: Context) {
    let mut process = context.process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
    assert!(process.is_alive());
    assert_eq!(process.exit_code(), None);
    assert!(process.join_timeout(Duration::from_millis(20)).unwrap_err().is_timeout());
    assert!(active_children().iter().any(|child| child.pid() == process.pid()));
    assert_eq!(wait_readable(&[process.sentinel()], Some(std::time::Instant::now())).unwrap(), [false]);
    process.terminate().unwrap();
    assert_eq!(wait_readable(&[process.as_fd()], None).unwrap(), [true]);
    let error = process.join().unwrap_err();
    assert_eq!((error.signal(), process.exit_code()), (Some(15), Some(-15)));
    process.kill().unwrap();
    assert!(active_children().iter().all(|child| child.pid() != process.pid()));
    let mut killed = context.process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
    killed.kill().unwrap();
    assert_eq!(killed.join().unwrap_err().signal(), Some(9));
}

fn a_dropped_handle_leaves_no_zombie(context: Context) {
    let process = context.process(|()| std::thread::sleep(Duration::from_millis(50)), ()).start().unwrap();
    let pid = process.pid();
    drop(process);
    eventually("the process is reaped though nobody joins it", || !procession_testing::exists(pid));
}

fn a_child_has_children(context: Context) {
    let method = context.start_method().to_string();
    fn outer(method: String) -> u32 {
        let context = Context::new(method.parse().unwrap());
        let mut inner = context.process(|x: u32| x + 1, 1).start().unwrap();
        inner.join().unwrap() + 10
    }
    assert_eq!(context.process(outer, method).start().unwrap().join().unwrap(), 12);
}

fn a_child_that_ends_takes_its_daemons_with_it(context: Context) {
    fn leaves_a_daemon(method: String) -> u32 {
        let context = Context::new(method.parse().unwrap());
        context.process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).daemon(true).start().unwrap().pid()
    }
    let method = context.start_method().to_string();
    let daemon = context.process(leaves_a_daemon, method).start().unwrap().join().unwrap();
    eventually("the daemon ends with its parent", || !runs(daemon));
}

fn undecodable_arguments_and_values_are_errors(context: Context) {
    let error = context
        .process(|_: procession_testing::OneWay| (), procession_testing::OneWay)
        .start()
        .unwrap()
        .join()
        .unwrap_err();
    assert!(error.is_decode(), "{error}");
    let error = context.process(|()| procession_testing::OneWay, ()).start().unwrap().join().unwrap_err();
    assert!(error.is_decode(), "{error}");
}

fn a_closure_may_capture_and_borrow_under_fork() {
    let mut words = vec!["a".to_owned(), "bc".to_owned()];
    let total = Process::fork(|| {
        words.push("only in the child".into());
        words.len()
    })
    .start()
    .unwrap()
    .join()
    .unwrap();
    assert_eq!((total, words.len()), (3, 2));
}

fn a_signal_reaches_exactly_the_process() {
    let process = Context::fork().process(|()| std::thread::sleep(Duration::from_secs(3600)), ()).start().unwrap();
    let pidfd = PidFd::open(process.pid()).unwrap();
    assert!(pidfd.signal(Signal::KILL).unwrap());
    eventually("it is dead", || !process.is_alive());
    assert!(!pidfd.signal(Signal::KILL).unwrap(), "nobody is hit by a second one");
}
