//! `Spawn`: this binary executes itself, and the child, told by its first argument, reports what it
//! was given.

#![allow(unsafe_code)] // Raw fds, and a change of the environment.

use std::ffi::OsString;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use procession_sys::image::{BuildId, Entry, EntryFn};
use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::spawn::{FIRST_FD, Spawn, current_executable, inherited_fd};
use procession_sys::thread;
use procession_testing::{end_of, in_time, once, run, tests};

const CHILD: &str = "procession-sys-test-child";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.first().is_some_and(|name| name == CHILD) {
        return child(&args[1], &args[2..]);
    }
    run(tests! {
        once: [
            fds_arrive_in_order_and_no_others,
            fd_with_a_high_number_does_not_reach_the_child,
            sources_may_lie_among_the_targets,
            inherited_fd_is_taken_once,
            signals_are_not_blocked,
            arguments_and_environment_arrive,
            function_crosses_by_entry,
            missing_program_is_an_error,
            nul_in_an_argument_is_an_error,
            too_many_fds_are_an_error,
        ],
    })
}

fn child(role: &str, args: &[String]) {
    match role {
        "report" => report(args),
        "take" => take(),
        "call" => call(),
        "mask" => mask(),
        _ => panic!("{role}?"),
    }
}

fn start(role: &str, args: &[&str], fds: &[BorrowedFd<'_>]) -> PidFd {
    let program = current_executable().unwrap();
    let args: Vec<OsString> = [CHILD, role].iter().chain(args).map(OsString::from).collect();
    Spawn { program: &program, args: &args, fds, preload: None, holds_interrupts: false }.start().unwrap()
}

fn open_fds() -> Vec<i32> {
    let listed = std::fs::read_dir("/proc/self/fd").unwrap();
    let mut fds: Vec<i32> = listed.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // The listing's own fd is gone by now.
    // SAFETY: asks for a flag of a number, which may or may not be an fd.
    fds.retain(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1);
    fds.sort_unstable();
    fds
}

/// Child: answers over the last of its fds with its open fds, its arguments and a variable.
fn report(args: &[String]) {
    let fds = open_fds();
    let last = *fds.last().unwrap();
    let mut answer = std::fs::File::from(inherited_fd(last).unwrap());
    let variable = std::env::var("PROCESSION_SYS_TEST").unwrap_or_default();
    write!(answer, "{fds:?} {args:?} {variable}").unwrap();
    for fd in FIRST_FD..last {
        write!(std::fs::File::from(inherited_fd(fd).unwrap()), "fd {fd}").unwrap();
    }
}

fn text(mut reader: impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn fds_arrive_in_order_and_no_others() {
    let ((one, first), (two, second), (answer, third)) =
        (std::io::pipe().unwrap(), std::io::pipe().unwrap(), std::io::pipe().unwrap());
    // Left without CLOEXEC, as careless libraries leave theirs.
    let careless = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let child = start("report", &[], &[first.as_fd(), second.as_fd(), third.as_fd()]);
    drop((first, second, third));
    assert_eq!(end_of(&child).code(), 0);
    assert_eq!(text(answer), "[0, 1, 2, 3, 4, 5] [] ");
    assert_eq!((text(one), text(two)), ("fd 3".into(), "fd 4".into()));
}

fn fd_with_a_high_number_does_not_reach_the_child() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    let highest = i32::try_from(limit.min(1 << 20)).unwrap() - 1;
    let null = std::fs::File::open("/dev/null").unwrap();
    let careless = rustix::io::fcntl_dupfd_cloexec(&null, highest).unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let (answer, theirs) = std::io::pipe().unwrap();
    let child = start("report", &[], &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(end_of(&child).code(), 0);
    assert_eq!(text(answer), "[0, 1, 2, 3] [] ");
}

fn sources_may_lie_among_the_targets() {
    for crosswise in [false, true] {
        let ((one, first), (two, second), (answer, last)) =
            (std::io::pipe().unwrap(), std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let (left, right) = if crosswise { (&second, &first) } else { (&first, &second) };
        let fds = [left.as_fd(), right.as_fd(), last.as_fd()];
        assert!(fds.iter().any(|fd| (FIRST_FD..FIRST_FD + 3).contains(&fd.as_raw_fd())), "{fds:?}");
        let child = start("report", &[], &fds);
        drop((first, second, last));
        assert_eq!(end_of(&child).code(), 0);
        assert_eq!(text(answer), "[0, 1, 2, 3, 4, 5] [] ");
        let (left, right) = if crosswise { (two, one) } else { (one, two) };
        assert_eq!((text(left), text(right)), ("fd 3".into(), "fd 4".into()));
    }
}

/// Child: takes its fd, and reports the errors of a second attempt and of its own fds.
fn take() {
    let own = std::fs::File::open("/dev/null").unwrap();
    let link = Link::from(inherited_fd(FIRST_FD).unwrap());
    assert!(link.is_seqpacket().unwrap());
    let flags = rustix::io::fcntl_getfd(&link).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let again = inherited_fd(FIRST_FD).unwrap_err().to_string();
    let mine = inherited_fd(own.as_raw_fd()).unwrap_err().to_string();
    let closed = inherited_fd(FIRST_FD + 15).unwrap_err().to_string();
    let outside = [2, FIRST_FD + 16, -1].map(|n| inherited_fd(n).unwrap_err().kind());
    assert_eq!(outside, [ErrorKind::InvalidInput; 3]);
    link.send(&[IoSlice::new(format!("{again}|{mine}|{closed}").as_bytes())], &[]).unwrap();
}

fn inherited_fd_is_taken_once() {
    let (ours, theirs) = Link::pair().unwrap();
    let child = start("take", &[], &[theirs.as_fd()]);
    drop(theirs);
    let answer = ours.recv(Some(in_time())).unwrap().expect("an answer");
    assert_eq!(end_of(&child).code(), 0);
    let answer = String::from_utf8(answer.bytes).unwrap();
    let said: Vec<&str> = answer.split('|').collect();
    assert!(said[0].contains("fd 3 was not passed: it is this program's own, or was taken before"), "{answer}");
    assert!(said[1].contains("fd 4 was not passed: it is this program's own"), "{answer}");
    assert!(said[2].contains("fd 18 was not passed: it is not open"), "{answer}");
}

/// Child: reports its mask of blocked signals.
fn mask() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let blocked = status.lines().find(|line| line.starts_with("SigBlk:")).unwrap();
    write!(std::fs::File::from(inherited_fd(FIRST_FD).unwrap()), "{blocked}").unwrap();
}

fn signals_are_not_blocked() {
    let (answer, theirs) = std::io::pipe().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    // An engine thread blocks signals, and starts processes.
    let engine = thread::spawn_engine_thread("engine", move || {
        tell.send(start("mask", &[], &[theirs.as_fd()])).unwrap();
    });
    engine.unwrap().join().unwrap();
    assert_eq!(end_of(&told.recv().unwrap()).code(), 0);
    assert_eq!(text(answer), "SigBlk:\t0000000000000000");
}

fn arguments_and_environment_arrive() {
    let (answer, theirs) = std::io::pipe().unwrap();
    // SAFETY: nothing else in this process reads the environment meanwhile: the watchdog only
    // waits.
    unsafe { std::env::set_var("PROCESSION_SYS_TEST", "as it is = now") };
    let child = start("report", &["", "two words", "\u{e9}"], &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(end_of(&child).code(), 0);
    assert_eq!(text(answer), r#"[0, 1, 2, 3] ["", "two words", "é"] as it is = now"#);
}

fn doubled(argument: &[u8], result: &mut Vec<u8>) -> u32 {
    result.extend(argument.iter().map(|byte| byte * 2));
    99
}

/// Child: calls the function that its parent names.
fn call() {
    let link = Link::from(inherited_fd(FIRST_FD).unwrap());
    let build = link.recv(Some(in_time())).unwrap().unwrap();
    let proof = BuildId::from_bytes(&build.bytes).same_image().expect("the same program");
    let entry = link.recv(Some(in_time())).unwrap().unwrap();
    let entry = Entry::<EntryFn>::from_raw(u64::from_ne_bytes(entry.bytes.try_into().unwrap()));
    let mut result = Vec::new();
    let tag = entry.resolve(proof).expect("a function of this program")(&[1, 2, 3], &mut result);
    result.push(tag as u8);
    link.send(&[IoSlice::new(&result)], &[]).unwrap();
}

fn function_crosses_by_entry() {
    let (ours, theirs) = Link::pair().unwrap();
    ours.send(&[IoSlice::new(BuildId::current().as_bytes())], &[]).unwrap();
    ours.send(&[IoSlice::new(&Entry::of(doubled as EntryFn).to_raw().to_ne_bytes())], &[]).unwrap();
    let child = start("call", &[], &[theirs.as_fd()]);
    drop(theirs);
    assert_eq!(ours.recv(Some(in_time())).unwrap().expect("a result").bytes, [2, 4, 6, 99]);
    assert_eq!(end_of(&child).code(), 0);
}

fn missing_program_is_an_error() {
    let refused =
        Spawn { program: Path::new("/no/such/program"), args: &[], fds: &[], preload: None, holds_interrupts: false }
            .start()
            .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}

fn nul_in_an_argument_is_an_error() {
    let args = [OsString::from("a\0b")];
    let refused =
        Spawn { program: Path::new("/bin/true"), args: &args, fds: &[], preload: None, holds_interrupts: false }
            .start()
            .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("NUL"), "{refused}");
}

fn too_many_fds_are_an_error() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let refused = Spawn {
        program: Path::new("/bin/true"),
        args: &[],
        fds: &[null.as_fd(); 17],
        preload: None,
        holds_interrupts: false,
    }
    .start()
    .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}
