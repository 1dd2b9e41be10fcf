//! The client of a fork server: asks it for a child, hears from that child, and starts the server
//! anew if it is lost. Called in the server's owner, in the thread that starts. An [`Owner`] says
//! how the server starts, and which messages its children get.
//!
//! A request is one message with the child's end of the child's link. The answer comes from the
//! child itself, on its link: its hello, with its pidfd. So the owner waits on one link only, and
//! each death looks different there:
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

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_shm::interrupt;
use procession_sys::link::{Link, Message};
use procession_sys::pidfd::PidFd;
use procession_sys::poller::{self, Poller};
use procession_sys::{ExitStatus, Signal};

use super::closable_link::ClosableLink;
use super::running_server::{self, Claim, RunningServer};
use crate::child::server_watch::{Look, Watch};
use crate::child::{Child, Popen, Reaper};
use crate::outcome;
use crate::{Error, Result};

const TRIES: usize = 3;
/// The most looks at a server that does not answer. Modules to preload may take their time.
const MAX_LOOKS: u32 = 600;
/// The time that a child whose server has ended may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a server may take to read a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The owner of a fork server.
pub trait Owner {
    /// The error that the owner raises or returns.
    type Error;

    /// Starts the server. `last` is how the one before it ended, if it is known.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    fn start_server(&self, last: Option<ExitStatus>) -> Result<RunningServer, Self::Error>;

    /// Makes the link to a child, and sends over it what the child is to become. Returns the
    /// owner's end and the child's.
    ///
    /// # Errors
    ///
    /// An error of the system.
    fn send_first(&self) -> Result<(Arc<ClosableLink>, Link), Self::Error>;

    /// Returns whether the child is to lead a process group, which its server then ends with it.
    fn leads_group(&self) -> bool {
        false
    }

    /// Runs `act`, which may block. A face whose signal handlers can raise checks them meanwhile.
    ///
    /// # Errors
    ///
    /// The exception that a signal's handler raised.
    fn run<R: Send>(&self, act: impl FnOnce() -> R + Send) -> Result<R, Self::Error>;

    /// The engine's error as the owner's.
    fn refused(&self, error: Error) -> Self::Error;
}

/// Has the server make a child. Starts the server before, if none runs.
///
/// # Errors
///
/// [`Error::ForkServerLost`] after three attempts; [`Error::Interrupted`]; what the system refuses.
/// A child whose start is given up ends by itself.
pub fn start_child<O: Owner>(owner: &O) -> Result<Popen, O::Error> {
    let mut lost = (0, None);
    for _ in 0..TRIES {
        let server = claim_running(owner, lost.1)?;
        let (ours, theirs) = owner.send_first()?;
        let hello = if request(owner, &server, &theirs)? {
            // From here on the server and the child are the only holders: end of file means that
            // there is none.
            drop(theirs);
            hear_hello(owner, &server, &ours)?
        } else {
            Hello::ServerLost
        };
        match hello {
            Hello::Child(pidfd) => {
                let link =
                    ours.take().ok_or_else(|| owner.refused(Error::Bug("a child's link was closed at its start")))?;
                return Ok(Popen { pidfd, link, began: true, reaper: Reaper::Server(server.process().clone()) });
            }
            Hello::Refused(source) => {
                return Err(owner.refused(Error::Os { what: "the fork server cannot fork".into(), source }));
            }
            Hello::Interrupted => return Err(owner.refused(Error::Interrupted)),
            Hello::ChildLost => lost = (server.process().pid(), None),
            Hello::ServerLost => lost = (server.process().pid(), end_lost(owner, &server)?),
        }
    }
    let (pid, status) = lost;
    Err(owner.refused(Error::ForkServerLost { pid, status, tries: TRIES }))
}

/// Starts the server, unless it runs.
///
/// # Errors
///
/// As [`start_child`].
pub fn ensure_running<O: Owner>(owner: &O) -> Result<(), O::Error> {
    claim_running(owner, None).map(drop)
}

/// Returns the server that runs, or starts it. Other threads wait for no more than that start: not
/// for the server's answers. `last` is how the server before it ended.
fn claim_running<O: Owner>(owner: &O, mut last: Option<ExitStatus>) -> Result<Arc<RunningServer>, O::Error> {
    loop {
        match owner.run(running_server::claim)?.map_err(|error| owner.refused(error))? {
            Claim::Running(server) if server.is_running() => return Ok(server),
            Claim::Running(server) => last = end_lost(owner, &server)?,
            Claim::Place(place) => return Ok(place.fill(owner.start_server(last)?)),
        }
    }
}

/// Ends a server that does not serve. Returns how it ended, if that can be known.
fn end_lost<O: Owner>(owner: &O, server: &RunningServer) -> Result<Option<ExitStatus>, O::Error> {
    server.forget();
    owner.run(|| server.end())?.map_err(|error| owner.refused(error))
}

/// Asks for a child. `false`: the server is gone, or does not read what it is asked.
fn request<O: Owner>(owner: &O, server: &RunningServer, theirs: &Link) -> Result<bool, O::Error> {
    let refused = |error| owner.refused(Error::os("cannot ask the fork server")(error));
    loop {
        match server.request(theirs, owner.leads_group()) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let requests = server.copy_of_requests().map_err(refused)?;
                let deadline = Some(Instant::now() + REQUEST_TIMEOUT);
                if !owner.run(|| poller::wait_writable(requests.as_fd(), deadline))?.map_err(refused)? {
                    return Ok(false);
                }
            }
            Err(_) => return Ok(false),
        }
    }
}

/// The result of a request to the fork server.
#[derive(Debug)]
enum Hello {
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

/// Waits for the hello of the child that was asked for, on the owner's end of its link.
fn hear_hello<O: Owner>(owner: &O, server: &RunningServer, ours: &ClosableLink) -> Result<Hello, O::Error> {
    let refused = |error| owner.refused(Error::os("cannot hear from the fork server")(error));
    // By an epoll instance: another thread may fork meanwhile, and its child closes its copy of the
    // link under the lock.
    let news = Poller::new().map_err(refused)?;
    ours.using(|link| news.add(link.as_fd(), 0)).transpose().map_err(refused)?;
    match owner.run(|| await_answer(news.as_fd(), server.process()))?.map_err(refused)? {
        Answer::Readable => {
            let message = ours.using(|link| link.recv(None)).transpose().map_err(refused)?.flatten();
            message.map_or(Ok(Hello::ServerLost), parse_answer).map_err(refused)
        }
        Answer::None => Ok(Hello::ServerLost),
        Answer::Interrupted => Ok(Hello::Interrupted),
    }
}

/// The event that ended the wait of [`await_answer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// There is something to read on the link, be it its end.
    Readable,
    /// The server has ended, and no child of its has said anything.
    None,
    /// A signal ended the wait ([`interrupt`]).
    Interrupted,
}

/// Waits for `news` of the child that was asked for. Kills a server that is stopped or stuck.
fn await_answer(news: BorrowedFd<'_>, server: &Child) -> io::Result<Answer> {
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
