//! The bootstrap: what a child does before it takes its role, and how it leaves, in one place for
//! every start method.
//!
//! ```text
//! spawn       exec ─▶ executed() ─▶ hello ─▶ spawn message ─┐
//! server      exec ─▶ executed() ─▶ hello ─▶ spawn message ─┤
//! tracker     exec ─▶ executed() ─▶ hello ─▶ spawn message ─┤
//! forkserver  fork ─▶ served() ───▶ hello ─▶ spawn message ─┤
//! fork        fork ─────────────────────────────────────────┴▶ run(): identity, lifeline,
//!                                                                     role, leave
//! ```
//!
//! Runs in the child, in its only thread. Nothing here returns to the code that was running in the
//! parent.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::{exit, spawn, thread};

use crate::engine::{self, Identity, engine};
use crate::outcome;
use crate::preparation;
use crate::role::{CANNOT_BEGIN, Refusal, Role, Roles};
use crate::tracker_link;

/// The end of the `argv[0]` of an executed child. It shows in `ps`, and a process cannot
/// inherit it by accident as it could an environment variable.
pub(crate) const CHILD_MARK: &str = " [procession-child]";

/// Whether this process was executed as a child.
pub(crate) fn is_marked() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes().ends_with(CHILD_MARK.as_bytes()))
}

/// An executed child's life, which ends the process. `roles` are those that it may have.
pub(crate) fn executed(roles: Roles) -> ! {
    let code = own_link().and_then(|link| match outcome::send_hello(&link, None) {
        Ok(()) => prepared(link, roles),
        Err(error) => unheard(&error),
    });
    exit::exit(code.unwrap_or_else(|reason| cannot_begin(&reason)))
}

fn cannot_begin(reason: &str) -> i32 {
    eprintln!("procession: this process was started as a child but cannot begin: {reason}");
    CANNOT_BEGIN
}

fn own_link() -> Result<Link, String> {
    let fd = spawn::inherited_fd(spawn::FIRST_FD).map_err(|error| format!("it has no link to a parent ({error})"))?;
    let link = Link::from(fd);
    if !link.is_seqpacket().map_err(|error| error.to_string())? {
        return Err("its first file descriptor is not a link to a parent".into());
    }
    Ok(link)
}

/// Ends a child whose `init` was called in another thread than the main one, as in a test: its
/// `main` runs the whole program again. Tells the parent why, too.
///
/// The caller has not noted that `init` was reached, so that no other thread of this process can
/// start a child meanwhile. One that calls `init` as well goes no further. No exit handler runs:
/// those are the program's, and may wait for its threads.
pub(crate) fn misplaced() -> ! {
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    while IS_ENDING.swap(true, Ordering::Relaxed) {
        std::thread::park();
    }
    let text = "procession::init() was called in another thread than the main one. It must be the first line of main(): give \
                a test that starts processes its own main, by `harness = false` in its [[test]] in Cargo.toml";
    let told =
        own_link().and_then(|link| outcome::send_misplaced(&link, text).map_err(|error| format!("{text} ({error})")));
    exit::exit_now(cannot_begin(&told.err().unwrap_or_else(|| text.into())))
}

/// What to do if the parent cannot be told: nothing if it is gone.
fn unheard(error: &io::Error) -> Result<i32, String> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(CANNOT_BEGIN),
        _ => Err(format!("it cannot speak to its parent ({error})")),
    }
}

/// A fork server's child, in its first moment. `ready` is whether it could let go of what is the
/// server's. Returns the exit code.
pub(crate) fn served(link: Link, ready: io::Result<()>, roles: Roles) -> i32 {
    // Before its owner knows of it, so that nobody takes it for the server, whose name it has.
    thread::set_process_name("procession");
    let begun = ready.and_then(|()| PidFd::of_self()).and_then(|me| outcome::send_hello(&link, Some(&me)));
    match begun.map_or_else(|error| unheard(&error), |()| prepared(link, roles)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("procession: a process of the fork server cannot begin: {reason}");
            CANNOT_BEGIN
        }
    }
}

fn prepared(link: Link, roles: Roles) -> Result<i32, String> {
    // Without a message the parent died first, and nobody is left to tell.
    let Some(message) = link.recv(None).map_err(|error| error.to_string())? else { return Ok(CANNOT_BEGIN) };
    let received = match preparation::parse(message, roles) {
        Ok(received) => received,
        Err(Refusal::OtherBuild) => {
            outcome::send_refusal(&link).map_err(|error| error.to_string())?;
            return Ok(CANNOT_BEGIN);
        }
        Err(Refusal::Malformed(why)) => return Err(why.into()),
        Err(Refusal::Os(error)) => return Err(format!("cannot take what its parent sent ({error})")),
    };
    if let Some(link) = received.tracker {
        tracker_link::inherit(Arc::new(link));
    }
    let preparation = received.preparation;
    let identity =
        Identity { name: preparation.name, daemon: preparation.daemon, parent: Some(Arc::new(received.parent)) };
    Ok(run(identity, preparation.role, link))
}

/// Everything from a ready child on. Returns the exit code.
pub(crate) fn run(identity: Identity, role: Box<dyn Role + '_>, link: Link) -> i32 {
    thread::unblock_all_signals();
    thread::set_process_name(&identity.name);
    engine().set_identity(identity);
    if !role.outlives_parent()
        && let Err(error) = link.kill_me_when_peer_closes()
    {
        eprintln!("procession: cannot tie this process to its parent's life: {error}");
        return CANNOT_BEGIN;
    }
    let code = role.run(link);
    // Before the code: what this process started ends with it, or is waited for.
    engine::leave();
    code
}
