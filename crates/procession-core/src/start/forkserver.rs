//! `forkserver`: a small clean process, which has executed this program once, forks every child. A
//! fork of almost nothing is cheap, and no thread, lock or memory of the owner reaches the child.
//! [`ForkServer`] is the owner's side, by the [client], and runs in the thread that starts.
//! [`ServerRole`] is the server's side, in its only thread. The server's table of its children is
//! in [`server`](super::server).
//!
//! The server is single-threaded and never runs a user's code. It makes its children by libc's own
//! fork, so they are the server's children: it reaps them and reports their exit statuses.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::ExitStatus;
use procession_sys::fork::{ForkError, fork};
use procession_sys::link::Link;
use procession_sys::per_process::PerProcess;
use procession_sys::pidfd::PidFd;

use super::client::{self, Owner};
use super::closable_link::ClosableLink;
use super::method::StartMethod;
use super::running_server::{self, RunningServer};
use super::server::Server;
use super::spawn;
use super::starter::Start;
use crate::bootstrap;
use crate::child::{Child, Popen};
use crate::confinement::Confinement;
use crate::engine::engine;
use crate::outcome;
use crate::preparation::{self, Preparation};
use crate::role::{Incoming, Refusal, Role, Roles, Written};
use crate::setting::Setting;
use crate::{Error, Result};

/// Starts by `forkserver`.
#[derive(Clone, Copy, Debug)]
pub struct ForkServer;

impl Start for ForkServer {
    fn method(&self) -> StartMethod {
        StartMethod::ForkServer
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        let me = engine().me()?;
        client::start_child(&Program { preparation, me })
    }
}

/// This program as the owner of its fork server: the server executes it.
struct Program<'a> {
    preparation: Preparation<'a>,
    me: Arc<PidFd>,
}

impl Owner for Program<'_> {
    type Error = Error;

    fn start_server(&self, _: Option<ExitStatus>) -> Result<RunningServer> {
        let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to the fork server"))?;
        let name = "forkserver".to_owned();
        let role = Box::new(ServerRole::new(theirs));
        let preparation = Preparation { name: name.clone(), daemon: false, setting: Setting::default(), role };
        let popen = spawn::execute(&preparation, StartMethod::ForkServer)?;
        let server = RunningServer::new(Arc::new(Child::new(name, true, popen)), Arc::new(ClosableLink::new(ours)));
        end_server_at_exit()?;
        Ok(server)
    }

    fn send_first(&self) -> Result<(Arc<ClosableLink>, Link)> {
        let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to a new process"))?;
        preparation::send(&ours, &self.preparation, &self.me).map_err(Error::os("cannot send the preparation data"))?;
        Ok((Arc::new(ClosableLink::new(ours)), theirs))
    }

    fn leads_group(&self) -> bool {
        self.preparation.setting.leads_group
    }

    fn run<R: Send>(&self, act: impl FnOnce() -> R + Send) -> Result<R> {
        Ok(act())
    }

    fn refused(&self, error: Error) -> Error {
        error
    }
}

/// Has the server ended at this process's exit.
fn end_server_at_exit() -> Result<()> {
    static IS_REGISTERED: PerProcess<AtomicBool> = PerProcess::new(AtomicBool::default);
    // One that cannot be ended is left behind; the kernel ends it with this process.
    let stop = || drop(running_server::stop());
    if IS_REGISTERED.get().swap(true, Ordering::Relaxed) { Ok(()) } else { engine().on_leave(stop) }
}

pub(crate) const KIND: u8 = 2;

/// The role of the fork server.
#[derive(Debug)]
pub(crate) struct ServerRole {
    /// The link over which its requests come.
    requests: Link,
    /// The roles that its children may have. The owner sends none: the server has its own
    /// program's.
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

    fn run(self: Box<Self>, link: Link, _: &Confinement) -> i32 {
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
    while let Ok(Some(request)) = server.next_request() {
        let (mut state, mut request) = (Some(server), Some(request));
        let forked = fork(None, || {
            own = None;
            let restored = state.take().map_or(Ok(()), Server::leave);
            request.take().map_or(1, |request| bootstrap::served(request.link, restored, roles))
        });
        // In the server neither was taken.
        let (Some(state), Some(request)) = (state, request) else { return 1 };
        server = state;
        match forked {
            Ok(child) => {
                // If no fd is left, the child serves all the same; see `keep_child`.
                let _ = server.keep_child(child, request);
            }
            Err(error) => {
                let error = match error {
                    ForkError::Os(error) => error,
                    error => io::Error::other(error.to_string()),
                };
                // If the owner cannot hear it either, it sees the end of file when the link drops
                // here.
                let _ = outcome::send_failure(&request.link, &error);
            }
        }
    }
    0
}
