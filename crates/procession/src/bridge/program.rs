//! The bridge program: how it is started, and how it ends. Used in the driver.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procession_core::wire::{Reader, Writer};
use procession_core::{BuildId, init};

use super::frame::{self, FAILED, Frame, PROGRAM, READY};
use crate::{Error, Result};

/// The environment variable that names the interpreter.
const INTERPRETER: &str = "PROCESSION_PYTHON";
/// Raised with every change of the frames.
const VERSION: u32 = 2;
/// The program must have reached its cluster by then.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// A bridge program that has reached its cluster, and the socket to it.
pub(super) struct Program {
    child: Child,
    interpreter: String,
}

impl Program {
    /// Starts the bridge program, and waits until it has reached the cluster.
    ///
    /// # Errors
    ///
    /// If something is missing, with its name; if it does not reach the cluster, with the reason.
    pub(super) fn start(engine: &str, address: &str) -> Result<(Program, UnixStream)> {
        let about = about_this()?;
        let interpreter = std::env::var(INTERPRETER).unwrap_or_else(|_| "python3".into());
        let cannot = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("cannot start `{interpreter} -m procession.remote.bridge {engine}`: {why}"))
        };
        let (mut ours, theirs) = UnixStream::pair().map_err(|error| cannot(&error))?;
        let mut command = Command::new(&interpreter);
        command.args(["-m", "procession.remote.bridge", engine, address]).stdin(Stdio::from(OwnedFd::from(theirs)));
        // In a group of its own: what a terminal sends to the program's group is not for it.
        command.env_remove("PROCESSION_CONTEXT").process_group(0);
        let spawned = command.spawn();
        // It has a copy of the socket's other end.
        drop(command);
        let child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => cannot(&format_args!(
                "there is no such interpreter: install Python 3.11 or later, or name one by {INTERPRETER}"
            )),
            _ => cannot(&error),
        })?;
        let mut program = Program { child, interpreter };
        match program.reach(&mut ours, &about) {
            Ok(()) => Ok((program, ours)),
            Err(why) => {
                drop(ours);
                program.end(Duration::ZERO);
                Err(Error::invalid(why))
            }
        }
    }

    fn reach(&mut self, socket: &mut UnixStream, about: &[u8]) -> std::result::Result<(), String> {
        let pid = self.child.id();
        let called = format!("the bridge program (process {pid}, {})", self.interpreter);
        // If it has ended already, the next read says so.
        let _ = frame::write(socket, PROGRAM, VERSION, about);
        socket.set_read_timeout(Some(READY_TIMEOUT)).map_err(|error| error.to_string())?;
        let first = match frame::read(socket) {
            Ok(Some(first)) => first,
            Ok(None) => {
                let status = self.end(Duration::from_secs(5));
                return Err(format!(
                    "{called} has ended ({status}) before it reached the cluster; its standard error says why. It \
                     needs the Python package: pip install 'procession[ray]' or 'procession[dask]' for that \
                     interpreter, or name another by {INTERPRETER}"
                ));
            }
            Err(error) => {
                let limit = READY_TIMEOUT.as_secs();
                return Err(format!("{called} has not reached the cluster within {limit} seconds ({error})"));
            }
        };
        socket.set_read_timeout(None).map_err(|error| error.to_string())?;
        let Frame { kind, body, .. } = first;
        match kind {
            READY if Reader(&body).u32() == Some(VERSION) => Ok(()),
            FAILED => Err(format!("{called} cannot reach the cluster: {}", String::from_utf8_lossy(&body))),
            _ => Err(format!("{called} is of another version: install the Python package of this crate's version")),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, and kills it if it takes longer than that. Returns how it has ended.
    pub(super) fn end(&mut self, patience: Duration) -> String {
        const INTERVAL: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(INTERVAL),
                Ok(None) => break self.child.kill().and_then(|()| self.child.wait()),
                Err(error) => break Err(error),
            }
        };
        status.as_ref().map_or_else(io::Error::to_string, ExitStatus::to_string)
    }
}

/// Describes this program to the bridge program.
fn about_this() -> Result<Vec<u8>> {
    if !init::is_in_program() {
        return Err(Error::invalid(
            "Context::bridge executes this program on other machines, and there nothing would begin: leave the feature \
             `startup` on or call procession::init() first in `main`, and link this crate into the program itself",
        ));
    }
    let unknown = |what: &str, error: io::Error| Error::invalid(format!("{what} of this program is unknown: {error}"));
    let executable = std::env::current_exe().map_err(|error| unknown("the file", error))?;
    // Without one it has none that another machine knows.
    let folder = std::env::current_dir().unwrap_or_default();
    let mut about = Writer::default()
        .bytes(BuildId::current().as_bytes())
        .bytes(executable.as_os_str().as_bytes())
        .bytes(folder.as_os_str().as_bytes());
    for argument in std::env::args_os() {
        about = about.bytes(argument.as_bytes());
    }
    Ok(about.0)
}
