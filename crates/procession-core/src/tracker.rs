//! The tracker: a small process that unlinks the names of shared memory which a program leaves
//! behind, however it ends. It exists only where a name does. This file has both sides: the
//! processes of the program, which tell it of names from any thread, and [`serve`], the tracker's
//! only thread.
//!
//! # Who owns a name
//!
//! The processes of the program that made a name own it, and so do all others that have it
//! attached. No death can leave a wrong number behind, since nothing is counted: the kernel keeps
//! the owners as open files.
//!
//! | owner | holds | and loses it |
//! |---|---|---|
//! | a process of the program | the tracker's link, the sending end | when it has ended, however |
//! | a process of any program that has it attached | a shared `flock` on the file | when it drops it, or has ended, however |
//!
//! The tracker reads the end of file once the last process of the program is gone. Then it unlinks
//! each name as soon as nobody has its file locked. The exit of another program's process is no
//! event at all. In `multiprocessing` the first tracker to end unlinks the name, even if its
//! program has only attached it.
//!
//! # A name's life, and a death at each step
//!
//! | step | done | a death here leaves |
//! |---|---|---|
//! | `NameMade` | the file is there without a name, locked, its memory reserved | nothing: it goes with its last fd |
//! | `NameRegistered` | the tracker knows name and inode | a name that is not there, or is another file's: not touched |
//! | `NameLinked` | the file has the name | the name: the tracker unlinks it |
//! | `NameUnlinked` | the name is gone | nothing; the tracker finds that out by itself |
//! | `NameForgotten` | the tracker has forgotten it | nothing |
//!
//! Messages need no answer: the tracker reads what is in its queue even if the sender is gone. It
//! compares a name's inode, and so never unlinks another file that got the same name.
//!
//! # Its own life
//!
//! A process that makes its first name and has no link to a tracker starts one, by executing this
//! program. The tracker outlives that process: it has no lifeline, a session of its own (Ctrl-C and
//! a signal to the whole process group miss it) and all signals blocked. A child gets the link with
//! its preparation data, or its copy under fork, and so shares its parent's tracker. A child that
//! was started before its parent had a tracker starts its own with its first name; its parent does
//! not own that name.
//!
//! | killed at | what is lost |
//! |---|---|
//! | its start, before it says that it is ready (`TrackerBegun`) | nothing: it is started again |
//! | any moment later | nothing, if a process of the program uses a name again: that finds the link broken, starts another, and tells it the names that it has made itself |
//! | the same, and everybody dies before that | the names stay, to be unlinked by hand |
//! | after the program's end (`TrackerHeard`, `TrackerAlone`, `TrackerUnlinked`) | the names not dealt with stay |

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use procession_shm::fault::{Step, point};
use procession_sys::ExitStatus;
use procession_sys::link::Link;
use procession_sys::named::{self, Identity, Removal};
use procession_sys::session;

use crate::child::Child;
use crate::confinement::Confinement;
use crate::engine::{self, engine};
use crate::preparation::Preparation;
use crate::role::{Incoming, Refusal, Role, Written};
use crate::setting::Setting;
use crate::start::method::StartMethod;
use crate::start::spawn;
use crate::tracker_link::{self, FORGET, Name, REGISTER, tracker_link};
use crate::{Error, Result};

const TRIES: usize = 3;

/// The interval between looks at names that other programs use, once this one is gone.
const INTERVAL: Duration = Duration::from_millis(100);

/// Tells the tracker of a name, before the name is there.
///
/// # Errors
///
/// If no tracker can be started.
pub(crate) fn register(name: &str, identity: Identity) -> Result<()> {
    let name = Name { name: name.to_owned(), identity };
    for _ in 0..TRIES {
        let mut tracker = tracker_link();
        if tracker.send_name(REGISTER, &name)? {
            tracker.names.push(name);
            return Ok(());
        }
        drop(tracker);
        start()?;
    }
    Err(Error::TrackerKilled { tries: TRIES })
}

/// Tells the tracker, if there is one, that a name is gone.
///
/// # Errors
///
/// If a tracker was killed, and no other can be started for the names that are left.
pub(crate) fn forget(name: &str, identity: Identity) -> Result<()> {
    let name = Name { name: name.to_owned(), identity };
    let mut tracker = tracker_link();
    tracker.names.retain(|known| *known != name);
    if tracker.send_name(FORGET, &name)? || tracker.names.is_empty() {
        return Ok(());
    }
    drop(tracker);
    start()
}

/// Starts one, unless another thread has, and tells it all that this process has made.
fn start() -> Result<()> {
    if engine::home().is_none() {
        return Err(Error::NoTracker);
    }
    // Before the tracker's lock, as every start of a process has it.
    let _starting = engine().starting()?;
    let mut tracker = tracker_link();
    if tracker.link.is_some() {
        return Ok(());
    }
    let mut lost = None;
    for _ in 0..TRIES {
        let (ours, theirs) = Link::pair().map_err(Error::os("cannot make the link to the tracker"))?;
        let name = "tracker".to_owned();
        let preparation = Preparation {
            name: name.clone(),
            daemon: true,
            setting: Setting::default(),
            role: Box::new(Tracker { names: theirs }),
        };
        let popen = spawn::execute(&preparation, StartMethod::Spawn)?;
        // Now the tracker is the only holder of its end.
        drop(preparation);
        let process = Child::new(name, true, popen);
        let mut serves = ours.recv(None).map_err(Error::os("cannot hear from the tracker"))?.is_some();
        for name in &tracker.names {
            serves = serves && tracker_link::send(&ours, REGISTER, name)?;
        }
        if !serves {
            let end = process.wait(None)?;
            end.returned(process.pid())?;
            lost = Some((process.pid(), end.status.unwrap_or(ExitStatus::exited(0))));
            continue;
        }
        // The tracker outlives this process, so it needs no lifeline. It is reaped when it is
        // missed.
        process.disown();
        (tracker.link, tracker.process) = (Some(Arc::new(ours)), Some(process));
        return Ok(());
    }
    let (pid, status) = lost.unwrap_or((0, ExitStatus::exited(0)));
    Err(Error::TrackerLost { pid, status, tries: TRIES })
}

pub(crate) const KIND: u8 = 3;

/// The role of the tracker.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// The link over which it is told of names.
    pub(crate) names: Link,
}

impl Role for Tracker {
    fn write(&self) -> io::Result<Written<'_>> {
        Ok(Written::new(KIND).fd(self.names.as_fd()))
    }

    fn run(self: Box<Self>, _: Link, _: &Confinement) -> i32 {
        serve(self.names)
    }

    fn outlives_parent(&self) -> bool {
        true
    }

    fn inherits_tracker(&self) -> bool {
        false
    }
}

pub(crate) fn read(message: &mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal> {
    Ok(Box::new(Tracker { names: Link::from(message.fd()?) }))
}

/// The tracker's life, in the tracker. Returns its exit code.
fn serve(names: Link) -> i32 {
    let left = session::leave().and_then(|()| listen(&names));
    drop(names);
    match left {
        Ok(left) => {
            point(Step::TrackerAlone);
            unlink_all(left);
            0
        }
        // The process that started it is gone already.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("procession: the tracker of shared memory cannot serve: {error}");
            1
        }
    }
}

/// Listens until the last process of the program is gone. Returns the names that are left.
fn listen(names: &Link) -> io::Result<HashMap<Identity, String>> {
    point(Step::TrackerBegun);
    names.send(&[IoSlice::new(b"ready")], &[])?;
    let mut known = HashMap::new();
    while let Some(message) = names.recv(None)? {
        point(Step::TrackerHeard);
        match Name::parse(&message) {
            Some((REGISTER, Name { name, identity })) => drop(known.insert(identity, name)),
            Some((FORGET, Name { identity, .. })) => drop(known.remove(&identity)),
            // It goes on, for the names that it knows matter more than one message.
            _ => eprintln!("procession: the tracker of shared memory ignores a message that is no name"),
        }
    }
    Ok(known)
}

fn unlink_all(mut left: HashMap<Identity, String>) {
    // The program's last process may still be closing its files.
    let mut pause = Duration::from_millis(1);
    loop {
        left.retain(|identity, name| is_in_use(name, *identity));
        if left.is_empty() {
            return;
        }
        if pause == INTERVAL {
            // It waits for other programs now. A reader of its standard error must not wait for its
            // end.
            session::leave_stderr();
        }
        std::thread::sleep(pause);
        pause = INTERVAL.min(pause * 2);
    }
}

fn is_in_use(name: &str, identity: Identity) -> bool {
    let removal = named::unlink_unused(name, identity);
    point(Step::TrackerUnlinked);
    removal.map(|removal| removal == Removal::InUse).unwrap_or_else(|error| {
        let directory = named::DIRECTORY;
        eprintln!("procession: the tracker cannot unlink {directory}/{name}, unlink it by hand: {error}");
        false
    })
}
