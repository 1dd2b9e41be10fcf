//! The beginning of this executable as an agent. The actor of a cluster has executed it, with a
//! mark on its name and a socket as its standard input. Runs in the main thread, before `main` or
//! in its first line, as the bootstrap of a child.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::frame::{self, Frame, MESSAGE};
use crate::remote::agent::{self, CANNOT_SERVE, Line, Sleeps};
use crate::remote::message::{self, QUIT};
use crate::remote::pace::Pace;

/// The end of the name of an executable that is to be an agent.
const MARK: &[u8] = b" [procession-agent]";
/// Messages that have come and that the agent has not looked at. A driver sends few at a time.
const MAX_WAITING: usize = 4;

/// Called before `main`, as the engine's own of that name: returns what an agent does in the place
/// of the program.
#[cfg(feature = "startup")]
pub(crate) fn before_main(program: &std::ffi::CStr, place: procession_core::Place) -> Option<fn() -> !> {
    let child = procession_core::init::before_main(program, place);
    let is_agent = place == procession_core::Place::Program && program.to_bytes().ends_with(MARK);
    child.or(is_agent.then_some(serve))
}

/// An agent has begun before `main`.
#[cfg(feature = "startup")]
pub(crate) fn init() {}

/// Serves, and does not return, in a process that is to be an agent.
#[cfg(not(feature = "startup"))]
pub(crate) fn serve_if_marked() {
    if std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes().ends_with(MARK)) {
        serve();
    }
}

fn serve() -> ! {
    let served = SocketLine::new().and_then(|mut line| agent::serve_until_quit(&mut line));
    match served {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("procession: this agent cannot go on: {error}");
            process::exit(CANNOT_SERVE)
        }
    }
}

/// The socket to the actor that has started this agent. A thread reads it.
struct SocketLine {
    socket: UnixStream,
    received: Receiver<Result<Vec<u8>, String>>,
    /// The message that has ended a sleep.
    next: Option<Result<Vec<u8>, String>>,
}

impl SocketLine {
    fn new() -> Result<SocketLine, String> {
        let taken = procession_core::take_stdin().map_err(|error| format!("it has no socket: {error}"))?;
        let socket = UnixStream::from(taken);
        let reader = socket.try_clone().map_err(|error| error.to_string())?;
        let (sender, received) = sync_channel(MAX_WAITING);
        procession_core::spawn_engine_thread("agent", move || read_all(reader, &sender))
            .map_err(|error| format!("its thread cannot start: {error}"))?;
        Ok(SocketLine { socket, received, next: None })
    }
}

/// Reads until the actor is gone, or has let go of this agent. That is told as QUIT.
fn read_all(mut socket: UnixStream, sender: &SyncSender<Result<Vec<u8>, String>>) {
    loop {
        let message = match frame::read(&mut socket) {
            Ok(Some(Frame { body, .. })) => Ok(body),
            Ok(None) => Ok(message::begin(QUIT, 0).0),
            Err(error) => Err(format!("what came is no message: {error}")),
        };
        let is_last = !matches!(&message, Ok(body) if body.first() != Some(&QUIT));
        if sender.send(message).is_err() || is_last {
            return;
        }
    }
}

impl Line for SocketLine {
    // A message ends a sleep; only what the worker does is found by a look.
    const SLEEPS: Sleeps = Sleeps {
        running: Duration::from_millis(1),
        waiting: Duration::from_millis(20),
        vacant: Duration::from_secs(1),
    };

    fn name(&self) -> String {
        format!("the agent {}", process::id())
    }

    fn host(&self) -> Result<String, String> {
        let name = fs::read_to_string("/proc/sys/kernel/hostname");
        name.map(|name| name.trim().to_owned()).map_err(|error| format!("the name of this machine is unknown: {error}"))
    }

    fn send(&mut self, message: Vec<u8>) -> Result<(), String> {
        let sent = frame::write(&mut self.socket, MESSAGE, 0, &message);
        sent.map_err(|error| format!("its actor takes no messages: {error}"))
    }

    fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        if let Some(message) = self.next.take() {
            return message.map(Some);
        }
        match self.received.try_recv() {
            Ok(message) => message.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err("the thread that reads is gone".into()),
        }
    }

    fn pause(&mut self, pace: &mut Pace) {
        let (received, next) = (&self.received, &mut self.next);
        pace.pause(|time| match received.recv_timeout(time) {
            Ok(message) => *next = Some(message),
            Err(RecvTimeoutError::Timeout) => {}
            // The next look says so.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(time),
        });
    }
}
