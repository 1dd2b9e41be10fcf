//! The bootstrap: what a child does before its target, and how it leaves, in one place for every start method.
//!
//! ```text
//! spawn       exec ──▶ init() ─▶ hello ─▶ preparation data ─┐
//! server      exec ──▶ init() ─▶ hello ─▶ preparation data ─┤
//! tracker     exec ──▶ init() ─▶ hello ─▶ preparation data ─┤
//! forkserver  fork ─▶ served() ─▶ hello ─▶ preparation data ┤
//! fork        fork ─────────────────────────────────────────┴▶ run(): identity, lifeline, target, outcome, leave
//! ```
//!
//! Runs in the child, in its only thread. Nothing here returns to the code that was running in the parent.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procession_sys::image::BuildId;
use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;
use procession_sys::{exit, spawn, thread};

use crate::engine::{self, Identity, engine};
use crate::handle;
use crate::outcome;
use crate::pool::worker;
use crate::preparation::{self, Refusal, Target};
use crate::start::forkserver;
use crate::tracker;

/// What the `argv[0]` of an executed child ends with. It shows in `ps`, and a process cannot inherit it by accident as
/// it could an environment variable.
pub(crate) const CHILD_MARK: &str = " [procession-child]";

// What a child that cannot begin exits with; the parent learns the reason from its link.
const CANNOT_BEGIN: i32 = 70;

/// The first line of `main`. In a process that is not a child it only notes that it was reached; in a child it does the
/// child's work and never returns.
pub fn init() {
    if engine::is_initialized() {
        return;
    }
    if is_marked() && !thread::is_main() {
        misplaced();
    }
    engine::set_initialized();
    if is_marked() {
        exit::exit(executed().unwrap_or_else(|reason| cannot_begin(&reason)))
    }
}

fn cannot_begin(reason: &str) -> i32 {
    eprintln!("procession: this process was started as a child but cannot begin: {reason}");
    CANNOT_BEGIN
}

fn is_marked() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes().ends_with(CHILD_MARK.as_bytes()))
}

fn executed() -> Result<i32, String> {
    let link = own_link()?;
    match outcome::send_hello(&link, None) {
        Ok(()) => prepared(link),
        Err(error) => unheard(&error),
    }
}

fn own_link() -> Result<Link, String> {
    let fd = spawn::inherited_fd(spawn::FIRST_FD).map_err(|error| format!("it has no link to a parent ({error})"))?;
    let link = Link::from(fd);
    if !link.is_seqpacket().map_err(|error| error.to_string())? {
        return Err("its first file descriptor is not a link to a parent".into());
    }
    Ok(link)
}

/// Ends a child in another thread than its main one, as in a test: its `main` runs the whole program again. The parent is
/// told why, too.
///
/// Nothing is noted as initialized, so that no other thread of this process can start a child meanwhile; and one that calls
/// `init` as well goes no further. No exit handler runs: those are the program's, and may wait for its threads.
fn misplaced() -> ! {
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

/// The parent is gone, and nobody is left to tell; or it is there and cannot be told.
fn unheard(error: &io::Error) -> Result<i32, String> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(CANNOT_BEGIN),
        _ => Err(format!("it cannot speak to its parent ({error})")),
    }
}

/// A fork server's child, in its first moment; `ready` is whether it could let go of what is the server's.
pub(crate) fn served(link: Link, ready: io::Result<()>) -> i32 {
    // Not to be taken for the server, whose name it has, once its owner knows of it.
    thread::set_process_name("procession");
    let begun = ready.and_then(|()| PidFd::of_self()).and_then(|me| outcome::send_hello(&link, Some(&me)));
    match begun.map_or_else(|error| unheard(&error), |()| prepared(link)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("procession: a process of the fork server cannot begin: {reason}");
            CANNOT_BEGIN
        }
    }
}

fn prepared(link: Link) -> Result<i32, String> {
    // No message: the parent died first, and nobody is left to tell.
    let Some(message) = link.recv(None).map_err(|error| error.to_string())? else { return Ok(CANNOT_BEGIN) };
    let received = match preparation::parse(message) {
        Ok(received) => received,
        Err(Refusal::OtherBuild) => {
            outcome::send_refusal(&link).map_err(|error| error.to_string())?;
            return Ok(CANNOT_BEGIN);
        }
        Err(Refusal::Malformed(why)) => return Err(why.into()),
        Err(Refusal::Os(error)) => return Err(format!("cannot take what its parent sent ({error})")),
    };
    if let Some(link) = received.tracker {
        tracker::inherit(Arc::new(link));
    }
    let preparation = received.preparation;
    let identity =
        Identity { name: preparation.name, daemon: preparation.daemon, parent: Some(Arc::new(received.parent)) };
    Ok(run(identity, preparation.target, link))
}

/// Everything from a ready child on. Returns the exit code.
pub(crate) fn run(identity: Identity, target: Target<'_>, link: Link) -> i32 {
    thread::unblock_all_signals();
    thread::set_process_name(&identity.name);
    engine().set_identity(identity);
    let outlives_parent = matches!(target, Target::Tracker { .. });
    if !outlives_parent && let Err(error) = link.kill_me_when_peer_closes() {
        eprintln!("procession: cannot tie this process to its parent's life: {error}");
        return CANNOT_BEGIN;
    }
    let code = match target {
        Target::Task { entry, argument, handles } => {
            let function = BuildId::current().same_image().and_then(|proof| entry.resolve(proof));
            match function {
                Some(function) => report(&link, |output| handle::receiving(handles, || function(&argument, output))),
                None => {
                    eprintln!("procession: the function to run is not in this program's code");
                    CANNOT_BEGIN
                }
            }
        }
        Target::Closure(closure) => report(&link, closure),
        Target::Worker { control, slot, service, broker } => worker::run(&control, slot, &service, broker, &link),
        Target::Server { requests } => return forkserver::serve(requests, link),
        Target::Tracker { names } => return tracker::serve(names),
    };
    // Before the code: what this process started ends with it, or is waited for.
    engine::leave();
    code
}

fn report(link: &Link, target: impl FnOnce(&mut Vec<u8>) -> u32) -> i32 {
    let mut payload = Vec::new();
    let tag = target(&mut payload);
    exit::flush_stdio();
    match outcome::send_returned(link, tag, &payload) {
        Ok(()) => i32::from(tag != outcome::tag::VALUE),
        Err(error) => {
            eprintln!("procession: cannot give the result of {} bytes to the parent: {error}", payload.len());
            CANNOT_BEGIN
        }
    }
}
