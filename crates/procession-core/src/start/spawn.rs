//! `spawn`: the child executes this program anew, by `posix_spawn`, and so costs the same from a
//! large parent as from a small one. It knows that it is a child by its `argv[0]`, and its link is
//! the first fd after stdio.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use procession_sys::link::Link;
use procession_sys::spawn as sys;

use super::method::Method;
use super::starter::Start;
use crate::bootstrap::CHILD_MARK;
use crate::child::{Popen, Reaper};
use crate::engine::{self, engine};
use crate::preparation::{self, Preparation};
use crate::{Error, Result};

/// Starts by `spawn`.
#[derive(Clone, Copy, Debug)]
pub struct Spawn;

impl Start for Spawn {
    fn method(&self) -> Method {
        Method::Spawn
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        execute(&preparation, self.method())
    }
}

static EXECUTABLE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Sets the program that `spawn` and the fork server execute. The default is the image that is
/// running, even if its file has been replaced. It must be the same build: anything else is refused
/// by the child or found missing.
pub fn set_executable(program: impl Into<PathBuf>) {
    *EXECUTABLE.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(program.into());
}

/// Executes this program as a child that reads its preparation data from a fresh link.
pub(crate) fn execute(preparation: &Preparation<'_>, method: Method) -> Result<Popen> {
    if !engine::is_initialized() {
        return Err(Error::NotInitialized { method: method.as_str() });
    }
    let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to a new process"))?;
    let me = engine().me()?;
    let set = EXECUTABLE.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    let program = match set {
        Some(program) => program,
        None => sys::current_executable().map_err(Error::os("cannot find the running program"))?,
    };
    let args = marked_args(&program);
    let spawn = sys::Spawn { program: &program, args: &args, fds: &[theirs.as_fd()], holds_interrupts: false };
    let pidfd = spawn.start().map_err(Error::os(format!("cannot execute {}", program.display())))?;
    drop(theirs);
    // Only now, so that no child is quick enough to end before its pidfd is open. If it has ended
    // all the same, as one that is not this program does, `join` says so.
    match preparation::send(&ours, preparation, &me) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::os(format!("cannot send its preparation data to process {}", pidfd.pid()))(error))
        }
        _ => Ok(()),
    }?;
    Ok(Popen { pidfd, link: ours, began: false, reaper: Reaper::Parent })
}

/// The arguments of this process, so that the child's `main` sees what its parent's saw, with the
/// mark on the first.
fn marked_args(program: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if args.is_empty() {
        args.push(program.into());
    }
    let first = &mut args[0];
    if !first.as_encoded_bytes().ends_with(CHILD_MARK.as_bytes()) {
        first.push(CHILD_MARK);
    }
    args
}
