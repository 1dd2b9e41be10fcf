//! `spawn`: the child executes this program anew, by `posix_spawn`, and so costs the same from a
//! large parent as from a small one. It knows that it is a child by its `argv[0]`. Its first two
//! fds after stdio are its link, which is its lifeline, and the link by which its preparation data
//! comes. They are two: a message on a lifeline kills, and the kernel may tell of its arrival after
//! the child has read it.
//!
//! If the engine is in a shared object, the object is preloaded into the program that is executed.
//! The child begins there, and the program's own code never runs. A program that does not load the
//! object would run instead of the child. So such a child is waited for until it has said hello,
//! and it gets no arguments that could have the program do its work again.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::{Duration, Instant};

use procession_sys::Signal;
use procession_sys::image::{self, BuildId};
use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::spawn::{self as sys, Preload};

use super::method::StartMethod;
use super::starter::Start;
use crate::bootstrap::CHILD_MARK;
use crate::child::{Popen, Reaper};
use crate::engine::{self, Home, engine};
use crate::outcome;
use crate::preparation::{self, Preparation};
use crate::{Error, Result};

/// Starts by `spawn`.
#[derive(Clone, Copy, Debug)]
pub struct Spawn;

impl Start for Spawn {
    fn method(&self) -> StartMethod {
        StartMethod::Spawn
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        execute(&preparation, self.method())
    }
}

static EXECUTABLE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// The time that the loader may take for a program with the engine's object.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);

/// Sets the program that `spawn` and the fork server execute. The default is the image that is
/// running, even if its file has been replaced. It must be the same build: anything else is refused
/// by the child or found missing. If the engine is in a shared object, it may be any program that
/// is linked dynamically.
pub fn set_executable(program: impl Into<PathBuf>) {
    *EXECUTABLE.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(program.into());
}

/// Executes this program as a child that reads its preparation data from a fresh link.
pub(crate) fn execute(preparation: &Preparation<'_>, method: StartMethod) -> Result<Popen> {
    let home = engine::home().ok_or(Error::NotInitialized { method: method.as_str() })?;
    let no_link = || Error::os("cannot make the links to a new process");
    let (ours, theirs) = Link::pair().map_err(no_link())?;
    let (sender, receiver) = Link::pair().map_err(no_link())?;
    let me = engine().me()?;
    let set = EXECUTABLE.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let program = match set {
        Some(program) => program,
        None => sys::current_executable().map_err(Error::os("cannot find the running program"))?,
    };
    let object = match home {
        Home::Program => None,
        Home::SharedObject => Some(own_object()?),
    };
    let args = marked_args(&program, home);
    let preload = object.as_ref().map(|(_, preload)| preload);
    let fds: Vec<_> = [theirs.as_fd(), receiver.as_fd()].into_iter().chain(preload.and_then(Preload::fd)).collect();
    let spawn = sys::Spawn { program: &program, args: &args, fds: &fds, preload, holds_interrupts: false };
    let pidfd = spawn.start().map_err(Error::os(format!("cannot execute {}", program.display())))?;
    drop((theirs, receiver));
    // Only now, so that no child is quick enough to end before its pidfd is open. If it has ended
    // all the same, as one that is not this program does, `join` says so.
    match preparation::send(&sender, preparation, &me) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::os(format!("cannot send its preparation data to process {}", pidfd.pid()))(error))
        }
        _ => Ok(()),
    }?;
    if let Some((object, _)) = &object {
        hear_hello(&ours, &pidfd, &program, object)?;
    }
    Ok(Popen { pidfd, link: ours, began: object.is_some(), reaper: Reaper::Parent })
}

/// The shared object that the engine is in.
fn own_object() -> Result<(PathBuf, Preload)> {
    let path = image::file().map_err(Error::os("cannot find the shared object of this code"))?;
    if BuildId::current().as_bytes().is_empty() {
        return Err(Error::Invalid(format!(
            "{} has no build id, so a child could not tell that it has the same code: link it with `-Wl,--build-id`",
            path.display()
        )));
    }
    let preload = Preload::of(&path).map_err(Error::os(format!("cannot read {}", path.display())))?;
    Ok((path, preload))
}

/// Waits until the child has begun in the object. Ends one that does not.
fn hear_hello(link: &Link, child: &PidFd, program: &Path, object: &Path) -> Result<()> {
    // The child's later messages are for `join`.
    let hello = link.recv(Some(Instant::now() + HELLO_TIMEOUT));
    if hello.as_ref().is_ok_and(|message| message.as_ref().is_some_and(outcome::is_hello)) {
        return Ok(());
    }
    // It may have ended already.
    let _ = child.signal(Signal::KILL);
    let status = child.reap().ok();
    Err(Error::NotPreloaded { pid: child.pid(), status, program: program.to_owned(), object: object.to_owned() })
}

/// The arguments of this process, so that the child sees what its parent saw, with the mark on the
/// first. In a program that is not the engine's, the first alone.
fn marked_args(program: &Path, home: Home) -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if home == Home::SharedObject {
        args.truncate(1);
    }
    if args.is_empty() {
        args.push(program.into());
    }
    let first = &mut args[0];
    if !first.as_encoded_bytes().ends_with(CHILD_MARK.as_bytes()) {
        first.push(CHILD_MARK);
    }
    args
}
