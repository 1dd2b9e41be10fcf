//! `forkserver`: a small clean process, which has executed this program once, forks every child. A
//! fork of almost nothing is cheap, and no thread, lock or memory of the owner reaches the child.
//! Called in the owner, in the thread that starts; [`ServerRole`] is the server's side, in its only
//! thread. What the server knows of its children is in [`server`](super::server).
//!
//! The server is single-threaded and never runs a user's code. It makes its children by libc's own
//! fork, so they are the server's children: it reaps them and reports their exit statuses. A
//! request is one message with the child's end of the child's link. The answer comes from the child
//! itself, on its link: its hello, with its pidfd. So the owner waits on one link only, and each
//! death looks different there:
//!
//! | killed | the owner sees on the child's link |
//! |---|---|
//! | server, before the request | send refused, or end of file: nobody holds the child's end; another server, once more |
//! | server, after the child exists | the hello all the same |
//! | server, stopped or stuck | nothing, for a while: then it is killed, and that is one of the two above |
//! | child, before its hello | the server's report of the child's end; another attempt |
//! | server and child, in that moment | end of file; another server, once more |
//! | child, later | the server's report of the child's end |
//! | server, then the child, later | end of file; the exit status is what the kernel remembers, from Linux 6.15 on, or `/proc` while it is a zombie |
//! | owner | the server's link closes and the kernel ends it; a child without preparation data ends by itself |
//!
//! The server starts with the first request, is started anew when it is found dead, and is ended at
//! the owner's exit. Its death ends none of its children, because each depends on its own link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::fork::{ForkError, fork};
use procession_sys::link::{Link, Message};
use procession_sys::pidfd::PidFd;
use procession_sys::{Signal, poller};

use super::method::Method;
use super::running_server::{self, RunningServer};
use super::server::Server;
use super::spawn;
use super::starter::Start;
use crate::bootstrap;
use crate::child::server_watch::{Look, Watch};
use crate::child::{Child, Popen, Reaper};
use crate::engine::engine;
use crate::outcome;
use crate::preparation::{self, Preparation};
use crate::role::{Incoming, Refusal, Role, Roles, Written};
use crate::{Error, Result};

/// Starts by `forkserver`.
#[derive(Clone, Copy, Debug)]
pub struct ForkServer;

const TRIES: usize = 3;
/// How often a server is looked at that does not answer. Modules to preload may take their time.
const MAX_LOOKS: u32 = 600;
/// How long a child whose server has ended may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

impl Start for ForkServer {
    fn method(&self) -> Method {
        Method::ForkServer
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        let me = engine().me()?;
        let mut lost = None;
        for _ in 0..TRIES {
            let running = running_server::current(start_server)?;
            let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to a new process"))?;
            preparation::send(&ours, &preparation, &me).map_err(Error::os("cannot send the preparation data"))?;
            let is_sent = running.request(&theirs).map_err(Error::os("cannot ask the fork server"))?;
            // From here on the server and the child are the only holders: end of file means that
            // there is none.
            drop(theirs);
            let hello = if is_sent {
                hear_hello(&ours, &running.process).map_err(Error::os("cannot hear from the fork server"))?
            } else {
                Hello::ServerLost
            };
            match hello {
                Hello::Child(pidfd) => {
                    let reaper = Reaper::Server(running.process.clone());
                    return Ok(Popen { pidfd, link: ours, began: true, reaper });
                }
                Hello::Refused(source) => {
                    return Err(Error::Os { what: "the fork server cannot fork".into(), source });
                }
                Hello::Interrupted => return Err(Error::Interrupted),
                Hello::ChildLost => lost = Some((running.process.pid(), None)),
                Hello::ServerLost => {
                    running.forget();
                    let ended = match running.end() {
                        // Nobody can know how, for one, if the program has closed the fd that
                        // stands for it.
                        Err(Error::Os { .. } | Error::StatusLost { .. } | Error::Timeout { .. }) => None,
                        ended => Some(ended?),
                    };
                    lost = Some((running.process.pid(), ended));
                }
            }
        }
        let (pid, status) = lost.unwrap_or_default();
        Err(Error::ForkServerLost { pid, status, tries: TRIES })
    }
}

/// What became of a request to the fork server.
#[derive(Debug)]
pub enum Hello {
    /// The child, which has begun.
    Child(PidFd),
    /// The server cannot fork; why.
    Refused(io::Error),
    /// The child ended before it could say who it is.
    ChildLost,
    /// The server ended before there was a child.
    ServerLost,
    /// A signal ended the wait ([`interrupt`]). If there is a child, it ends with the link.
    Interrupted,
}

/// Owner: waits for the hello of the child that was asked for, on the owner's end of its link.
///
/// # Errors
///
/// What the system refuses; `InvalidData` if a message is malformed.
pub fn hear_hello(ours: &Link, server: &Child) -> io::Result<Hello> {
    match await_answer(ours.as_fd(), server)? {
        Answer::Readable => read_hello(ours),
        Answer::None => Ok(Hello::ServerLost),
        Answer::Interrupted => Ok(Hello::Interrupted),
    }
}

/// What [`await_answer`] has waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// There is something to read on the link, be it its end.
    Readable,
    /// The server has ended, and no child of its has said anything.
    None,
    /// A signal ended the wait ([`interrupt`]).
    Interrupted,
}

/// Owner: waits for something on the link of the child that was asked for. `news` is readable when
/// the link is: the link itself, or an epoll instance, for a caller that must not hold the link
/// meanwhile. Kills a server that is stopped or stuck.
///
/// # Errors
///
/// What the system refuses.
pub fn await_answer(news: BorrowedFd<'_>, server: &Child) -> io::Result<Answer> {
    let mut look = Look::Nothing;
    // One that is lost has ended.
    let mut watch = server.pidfd().map(|server| Watch::new(server, MAX_LOOKS));
    while look == Look::Nothing {
        look = watch.as_mut().map_or(Ok(Look::Ended), |watch| watch.look(news))?;
    }
    if look == Look::Overdue {
        server.signal(Signal::KILL).map_err(io::Error::other)?;
        let end = Some(Instant::now() + HELLO_TIMEOUT);
        let ready = poller::wait_readable_unless(&[news, server.sentinel()], end, interrupt::ask)?;
        look = Look::found(&ready);
    }
    if matches!(look, Look::Ended | Look::Nothing) {
        // A child whose server has ended may be about to say it.
        let end = Some(Instant::now() + HELLO_TIMEOUT);
        look = Look::found(&poller::wait_readable_unless(&[news], end, interrupt::ask)?);
    }
    Ok(match look {
        Look::Readable => Answer::Readable,
        _ if interrupt::is_over() => Answer::Interrupted,
        _ => Answer::None,
    })
}

/// Reads the answer, which is on the link.
///
/// # Errors
///
/// What the system refuses; `InvalidData` if a message is malformed.
pub fn read_hello(ours: &Link) -> io::Result<Hello> {
    ours.recv(None)?.map_or(Ok(Hello::ServerLost), parse_answer)
}

fn parse_answer(message: Message) -> io::Result<Hello> {
    if outcome::is_exited(&message) {
        return Ok(Hello::ChildLost);
    }
    if let Some(failure) = outcome::parse_failure(&message) {
        return Ok(Hello::Refused(failure));
    }
    let hello = outcome::parse_hello(message).map(Hello::Child);
    hello.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the fork server's child said no hello"))
}

fn start_server() -> Result<RunningServer> {
    let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to the fork server"))?;
    let name = "forkserver".to_owned();
    let role = Box::new(ServerRole::new(theirs));
    let preparation = Preparation { name: name.clone(), daemon: false, role };
    let popen = spawn::execute(&preparation, Method::ForkServer)?;
    Ok(RunningServer::new(Child::new(name, true, popen), ours))
}

pub(crate) const KIND: u8 = 2;

/// The role of the fork server.
#[derive(Debug)]
pub(crate) struct ServerRole {
    /// Where its requests come from.
    requests: Link,
    /// What its children may become. The owner sends none: the server has its own program's.
    roles: Roles,
}

impl ServerRole {
    /// As the owner sends it.
    pub(crate) fn new(requests: Link) -> ServerRole {
        ServerRole { requests, roles: Roles::default() }
    }
}

impl Role for ServerRole {
    fn write(&self) -> io::Result<Written<'_>> {
        Ok(Written::new(KIND).fd(self.requests.as_fd()))
    }

    fn run(self: Box<Self>, link: Link) -> i32 {
        serve(self.requests, link, self.roles)
    }

    fn inherits_tracker(&self) -> bool {
        false
    }
}

pub(crate) fn read(message: &mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal> {
    Ok(Box::new(ServerRole { requests: Link::from(message.fd()?), roles: message.roles }))
}

/// The server's loop, in the server: its only thread. Returns its exit code once the owner is gone.
fn serve(requests: Link, own: Link, roles: Roles) -> i32 {
    let mut server = match Server::new(requests) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("procession: the fork server cannot begin: {error}");
            return 1;
        }
    };
    let mut own = Some(own);
    // An owner that cannot be heard is gone, as is one that has closed its requests.
    while let Ok(Some(link)) = server.next_request() {
        let (mut state, mut link) = (Some(server), Some(link));
        let forked = fork(None, || {
            own = None;
            let restored = state.take().map_or(Ok(()), Server::leave);
            link.take().map_or(1, |link| bootstrap::served(link, restored, roles))
        });
        // In the server neither was taken.
        let (Some(state), Some(link)) = (state, link) else { return 1 };
        server = state;
        match forked {
            Ok(child) => {
                // Where no fd is left the child serves all the same; see `keep_child`.
                let _ = server.keep_child(child, link);
            }
            Err(error) => {
                let error = match error {
                    ForkError::Os(error) => error,
                    error => io::Error::other(error.to_string()),
                };
                // If the owner cannot hear it either, it sees the end of file when `link` drops
                // here.
                let _ = outcome::send_failure(&link, &error);
            }
        }
    }
    0
}
