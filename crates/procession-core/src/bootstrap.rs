//! The bootstrap: what a child does before it takes its role, and how it leaves, in one place for
//! every start method.
//!
//! ```text
//! spawn       exec ─▶ executed() ─▶ hello ─▶ spawn message ─┐
//! server      exec ─▶ executed() ─▶ hello ─▶ spawn message ─┤
//! tracker     exec ─▶ executed() ─▶ hello ─▶ spawn message ─┤
//! forkserver  fork ─▶ served() ───▶ hello ─▶ spawn message ─┤
//! fork        fork ─────────────────────────────────────────┴▶ run(): identity, setting,
//!                                                                     lifeline, role, leave
//! ```
//!
//! Runs in the child, in its only thread. Nothing here returns to the code that was running in the
//! parent.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::link::{Link, Message};
use procession_sys::pidfd::PidFd;
use procession_sys::{exit, other_objects, spawn, thread};

use crate::engine::{self, Identity, engine};
use crate::outcome;
use crate::preparation;
use crate::role::{CANNOT_BEGIN, Refusal, Role, Roles};
use crate::setting::{self, Setting};
use crate::tracker_link;

/// The end of the `argv[0]` of an executed child. It shows in `ps`, and a process cannot
/// inherit it by accident as it could an environment variable.
pub(crate) const CHILD_MARK: &str = " [procession-child]";

/// Returns whether this process was executed as a child.
pub(crate) fn is_marked() -> bool {
    std::env::args_os().next().is_some_and(|name| is_mark(name.as_encoded_bytes()))
}

/// Returns whether the `argv[0]` of a process says that it was executed as a child.
pub(crate) fn is_mark(name: &[u8]) -> bool {
    name.ends_with(CHILD_MARK.as_bytes())
}

/// An executed child's life, which ends the process. `roles` are those that it may have.
pub(crate) fn executed(roles: Roles) -> ! {
    let code = own_links().and_then(|(link, receiver)| match outcome::send_hello(&link, None) {
        Ok(()) => {
            let message = receiver.recv(None);
            drop(receiver);
            prepared(message, link, roles)
        }
        Err(error) => unheard(&error),
    });
    exit::exit(code.unwrap_or_else(|reason| cannot_begin(&reason)))
}

fn cannot_begin(reason: &str) -> i32 {
    eprintln!("procession: this process was started as a child but cannot begin: {reason}");
    CANNOT_BEGIN
}

/// The child's link, and the one by which its preparation data comes.
fn own_links() -> Result<(Link, Link), String> {
    Ok((own_link(spawn::FIRST_FD)?, own_link(spawn::FIRST_FD + 1)?))
}

fn own_link(fd: i32) -> Result<Link, String> {
    let fd = spawn::inherited_fd(fd).map_err(|error| format!("it has no link to a parent ({error})"))?;
    let link = Link::from(fd);
    if !link.is_seqpacket().map_err(|error| error.to_string())? {
        return Err("a file descriptor that it was started with is not a link to a parent".into());
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
    let text = "procession::init() was called in another thread than the main one. Turn on procession's feature `startup`, \
                with which nothing need be called, or make it the first line of main(): give a test that starts processes its \
                own main, by `harness = false` in its [[test]] in Cargo.toml";
    let told = own_link(spawn::FIRST_FD)
        .and_then(|link| outcome::send_misplaced(&link, text).map_err(|error| format!("{text} ({error})")));
    exit::exit_now(cannot_begin(&told.err().unwrap_or_else(|| text.into())))
}

/// Decides what a child does if it cannot write to its parent. If the parent is gone, the child
/// exits without a word.
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
    match begun.map_or_else(|error| unheard(&error), |()| prepared(link.recv(None), link, roles)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("procession: a process of the fork server cannot begin: {reason}");
            CANNOT_BEGIN
        }
    }
}

/// Goes on by the preparation data, which the parent has sent in one message.
fn prepared(message: io::Result<Option<Message>>, link: Link, roles: Roles) -> Result<i32, String> {
    // Without a message the parent died first, and nobody is left to tell.
    let Some(message) = message.map_err(|error| error.to_string())? else { return Ok(CANNOT_BEGIN) };
    let received = match preparation::parse(message, roles) {
        Ok(received) => received,
        Err(Refusal::OtherBuild) => {
            outcome::send_refusal(&link).map_err(|error| error.to_string())?;
            return Ok(CANNOT_BEGIN);
        }
        Err(Refusal::Malformed(why)) => return Err(why.into()),
        Err(Refusal::Os(error)) => return Err(format!("cannot take what its parent sent ({error})")),
    };
    other_objects::load(&received.others).map_err(|error| error.to_string())?;
    if let Some(link) = received.tracker {
        tracker_link::inherit(Arc::new(link));
    }
    let preparation = received.preparation;
    let identity =
        Identity { name: preparation.name, daemon: preparation.daemon, parent: Some(Arc::new(received.parent)) };
    Ok(run(identity, preparation.setting, preparation.role, link))
}

/// Everything from a ready child on. Returns the exit code.
pub(crate) fn run(identity: Identity, setting: Setting, role: Box<dyn Role + '_>, link: Link) -> i32 {
    thread::unblock_all_signals();
    thread::set_process_name(&identity.name);
    engine().set_identity(identity);
    let leads_group = setting.leads_group;
    let confinement = match setting.install() {
        Ok(confinement) => confinement,
        Err(error) => {
            eprintln!("procession: cannot give this process its standard streams or its process group: {error}");
            return CANNOT_BEGIN;
        }
    };
    if !role.outlives_parent()
        && let Err(error) = setting::tie_to_parent(&link, leads_group)
    {
        eprintln!("procession: cannot tie this process to its parent's life: {error}");
        return CANNOT_BEGIN;
    }
    let code = role.run(link, &confinement);
    // Before the code: what this process started ends with it, or is waited for.
    engine::leave();
    code
}
