//! The client and a server that the test plays: a shell as its process, a thread for its answers.
//! A process has one server, so the tests run one after the other.

use std::collections::VecDeque;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::*;
use crate::start::running_server::{running, stop};

/// The server's answer to a request.
#[derive(Clone, Copy)]
enum Answer {
    /// The child says hello.
    Child,
    /// The child ends before it does.
    DeadChild,
    /// There is none.
    Refusal,
    /// The server exits with this code.
    Exit(i32),
}

/// An owner whose servers are played, each by the next of these scripts.
#[derive(Default)]
struct Player {
    scripts: Mutex<VecDeque<Vec<Answer>>>,
    /// The exit code of the server before each of them.
    lasts: Mutex<Vec<Option<i32>>>,
}

impl Player {
    fn new(scripts: &[&[Answer]]) -> Player {
        let scripts = scripts.iter().map(|script| script.to_vec()).collect();
        Player { scripts: Mutex::new(scripts), lasts: Mutex::default() }
    }

    fn lasts(&self) -> Vec<Option<i32>> {
        self.lasts.lock().unwrap().clone()
    }
}

impl Owner for Player {
    type Error = Error;

    #[allow(clippy::zombie_processes, reason = "reaping it is the client's matter")]
    fn start_server(&self, last: Option<ExitStatus>) -> Result<RunningServer> {
        let script = self.scripts.lock().unwrap().pop_front().ok_or(Error::Cancelled)?;
        self.lasts.lock().unwrap().push(last.map(ExitStatus::code));
        let (ours, requests) = Link::pair().unwrap();
        let (link, _) = Link::pair().unwrap();
        let mut shell = Command::new("sh").args(["-c", "read code; exit $code"]).stdin(Stdio::piped()).spawn().unwrap();
        let popen = Popen { pidfd: PidFd::open(shell.id()).unwrap(), link, began: true, reaper: Reaper::Parent };
        let input = shell.stdin.take().unwrap();
        thread::spawn(move || play(&script, &requests, input));
        let process = Child::new("forkserver".into(), true, popen);
        Ok(RunningServer::new(Arc::new(process), Arc::new(ClosableLink::new(ours))))
    }

    fn send_first(&self) -> Result<(Arc<ClosableLink>, Link)> {
        let (ours, theirs) = Link::pair().unwrap();
        Ok((Arc::new(ClosableLink::new(ours)), theirs))
    }

    fn run<R: Send>(&self, act: impl FnOnce() -> R + Send) -> Result<R> {
        Ok(act())
    }

    fn refused(&self, error: Error) -> Error {
        error
    }
}

/// Plays a server to the end of its script, and then until its owner asks no more.
fn play(script: &[Answer], requests: &Link, mut shell: ChildStdin) {
    let mut code = 0;
    for answer in script {
        let Some(mut request) = requests.recv(None).unwrap() else { break };
        let child = Link::from(request.fds.pop().unwrap());
        match answer {
            Answer::Child => outcome::send_hello(&child, Some(&PidFd::of_self().unwrap())).unwrap(),
            Answer::DeadChild => outcome::send_exited(&child, None).unwrap(),
            Answer::Refusal => outcome::send_failure(&child, &io::Error::other("no more")).unwrap(),
            Answer::Exit(last) => code = *last,
        }
    }
    while code == 0 && requests.recv(None).unwrap().is_some() {}
    // A shell that was killed reads nothing.
    let _ = writeln!(shell, "{code}");
}

/// Lets one test at a time have the process's server, and none be left of the last.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    stop().unwrap();
    alone
}

#[test]
fn one_server_makes_several_children() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Child; 3]]);
    for _ in 0..3 {
        let popen = start_child(&player).unwrap();
        assert!(popen.pidfd.is_own() && matches!(popen.reaper, Reaper::Server(_)));
    }
    assert_eq!(player.lasts(), [None]);
}

#[test]
fn lost_server_is_started_anew_and_its_exit_code_is_known() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Exit(75)], &[Answer::Child]]);
    start_child(&player).unwrap();
    assert_eq!(player.lasts(), [None, Some(75)]);
}

#[test]
fn server_that_ended_between_two_starts_is_started_anew() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Child], &[Answer::Child]]);
    start_child(&player).unwrap();
    let server = running().unwrap();
    server.process().signal(Signal::KILL).unwrap();
    server.process().wait(Some(Instant::now() + HELLO_TIMEOUT)).unwrap();
    start_child(&player).unwrap();
    assert_eq!(player.lasts(), [None, Some(-9)]);
}

#[test]
fn child_that_dies_at_its_start_costs_an_attempt_and_no_server() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::DeadChild, Answer::DeadChild, Answer::Child]]);
    start_child(&player).unwrap();
    assert_eq!(player.lasts(), [None]);
}

#[test]
fn third_loss_is_the_last() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Exit(1)], &[Answer::Exit(2)], &[Answer::Exit(3)], &[Answer::Child]]);
    let error = start_child(&player).unwrap_err();
    let Error::ForkServerLost { status, tries, .. } = error else { panic!("{error}") };
    assert_eq!((status.map(ExitStatus::code), tries), (Some(3), TRIES));
    assert_eq!(player.lasts(), [None, Some(1), Some(2)]);
    let player = Player::new(&[&[Answer::DeadChild; TRIES]]);
    assert!(matches!(start_child(&player).unwrap_err(), Error::ForkServerLost { status: None, .. }));
}

#[test]
fn server_that_cannot_fork_says_why_and_is_kept() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Refusal, Answer::Child]]);
    assert!(start_child(&player).unwrap_err().to_string().ends_with("no more"));
    start_child(&player).unwrap();
    assert_eq!(player.lasts(), [None]);
}

#[test]
fn server_that_does_not_start_leaves_its_place() {
    let _alone = alone();
    assert!(matches!(start_child(&Player::default()).unwrap_err(), Error::Cancelled));
    start_child(&Player::new(&[&[Answer::Child]])).unwrap();
}

#[test]
fn threads_that_start_at_once_share_one_server() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Child; 8]]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| start_child(&player).unwrap());
        }
    });
    assert_eq!(player.lasts(), [None]);
}

#[test]
fn stopped_server_is_reaped_and_the_next_start_starts_another() {
    let _alone = alone();
    let player = Player::new(&[&[Answer::Child], &[Answer::Child]]);
    start_child(&player).unwrap();
    let server = running().unwrap();
    stop().unwrap();
    assert_eq!(server.process().end().and_then(|end| end.code()), Some(0));
    assert!(running().is_none());
    start_child(&player).unwrap();
    assert_eq!(player.lasts(), [None, None]);
}
