//! Each state of a child, without a start method. Each wait has a deadline.

use std::process::Command;
use std::time::Duration;

use procession_sys::poller::wait_readable;
use rustix::io::Errno;

use super::*;
use crate::outcome::{send_returned, tag};

const TIMEOUT: Duration = Duration::from_secs(30);

fn ended(child: &Child) -> &End {
    child.wait(Some(Instant::now() + TIMEOUT)).unwrap()
}

/// A process that ends with this code, and a child that is held by it and one end of a link.
#[allow(clippy::zombie_processes, reason = "reaping it is the child's matter")]
fn started(code: i32, reaper: Reaper) -> (Child, Link) {
    let (link, theirs) = Link::pair().unwrap();
    let process = Command::new("sh").args(["-c", &format!("exit {code}")]).spawn().unwrap();
    let popen = Popen { pidfd: PidFd::open(process.id()).unwrap(), link, began: true, reaper };
    (Child::new("child".into(), false, popen), theirs)
}

fn is_reaped(child: &Child) -> bool {
    let peeked = child.pidfd().unwrap().peek();
    peeked.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::CHILD))
}

fn lost() -> Child {
    let (ours, theirs) = Link::pair().unwrap();
    send_returned(&theirs, tag::VALUE, b"said").unwrap();
    drop(theirs);
    // The pid is another process's by now: this one's.
    Child::lost("lost".into(), false, std::process::id(), ours).unwrap()
}

#[test]
fn own_child_is_reaped_with_its_link_and_without() {
    for disowns in [false, true] {
        let (child, theirs) = started(3, Reaper::Parent);
        if disowns {
            child.disown();
        } else {
            send_returned(&theirs, tag::VALUE, b"said").unwrap();
        }
        assert_eq!(ended(&child).code(), Some(3));
        assert_eq!(ended(&child).returned(child.pid()).unwrap().is_none(), disowns);
        assert!(is_reaped(&child));
        assert!(!child.signal(Signal::KILL).unwrap(), "it has ended");
    }
}

#[test]
fn foreign_child_is_left_to_its_parent() {
    let mut process = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let child = Child::of_others("foreign".into(), false, PidFd::open(process.id()).unwrap());
    assert_eq!(ended(&child).code(), Some(3));
    assert_eq!(process.wait().unwrap().code(), Some(3));
    assert_eq!(ended(&child).code(), Some(3));
}

#[test]
fn lost_child_has_ended_and_signals_nobody() {
    let child = lost();
    assert_eq!(child.end().unwrap().code(), None);
    assert_eq!(ended(&child).returned(child.pid()).unwrap(), Some((tag::VALUE, &b"said"[..])));
    assert!(!child.signal(Signal::KILL).unwrap() && !child.is_stopped());
    child.check_open().unwrap();
    child.disown();
    // Another test may start a program at this moment, which holds a copy of the other end until it
    // runs.
    assert_eq!(wait_readable(&[child.sentinel()], Some(Instant::now() + TIMEOUT)).unwrap(), [true]);
}

#[test]
fn served_child_whose_server_is_gone_is_reaped_if_it_is_ours() {
    let (child, theirs) = started(4, Reaper::Server(Arc::new(lost())));
    drop(theirs);
    assert_eq!(ended(&child).code(), Some(4));
    assert!(is_reaped(&child));
}

#[test]
fn served_child_ends_as_its_server_reports() {
    let (server, requests) = started(0, Reaper::Parent);
    let (child, theirs) = started(4, Reaper::Server(Arc::new(server)));
    send_returned(&theirs, tag::VALUE, b"said").unwrap();
    outcome::send_exited(&theirs, Some(ExitStatus::exited(7))).unwrap();
    drop((theirs, requests));
    let end = ended(&child);
    assert_eq!(end.code(), Some(7));
    assert_eq!(end.returned(child.pid()).unwrap(), Some((tag::VALUE, &b"said"[..])));
}
