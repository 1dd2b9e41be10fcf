//! The roles of a process that runs a user's function, its target: a function of the program over
//! an encoded argument, or a closure, which only a forked child can have.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use procession_sys::exit;
use procession_sys::image::{BuildId, Entry};
use procession_sys::link::Link;
use procession_sys::memfd;

use crate::Error;
use crate::confinement::{Confinement, Keeper};
use crate::handle;
use crate::outcome::{self, INLINE_LIMIT, tag};
use crate::role::{CANNOT_BEGIN, Incoming, Refusal, Role, Written};

pub(crate) const TASK: u8 = 0;

/// A function of this program over an encoded argument.
pub struct Task {
    /// The face's entry, which decodes, calls and encodes.
    pub entry: Entry,
    /// In the codec of the face.
    pub argument: Vec<u8>,
    /// Of the handles in the argument.
    pub handles: Vec<OwnedFd>,
}

/// A closure that leaves its outcome's payload behind and returns the outcome's tag.
pub struct Closure<F>(pub F);

impl Role for Task {
    fn write(&self) -> io::Result<Written<'_>> {
        check_portable(self.entry)?;
        let is_beside = self.argument.len() > INLINE_LIMIT;
        let written = Written::new(TASK).fields(|fields| fields.u64(self.entry.to_raw()).u8(is_beside.into()));
        let written = if is_beside {
            written.owned_fd(memfd::from_bytes("procession-argument", &self.argument)?)
        } else {
            written.rest(&self.argument)
        };
        Ok(written.fds(&self.handles))
    }

    fn run(self: Box<Self>, link: Link, confinement: &Confinement) -> i32 {
        let Task { entry, argument, handles } = *self;
        let function = BuildId::current().same_image().and_then(|proof| entry.resolve(proof));
        match function {
            Some(function) => {
                let target = |output: &mut Vec<u8>| handle::receiving(handles, || function(&argument, output));
                report(&link, confinement, target)
            }
            None => {
                eprintln!("procession: the function to run is in no object that this process has loaded");
                CANNOT_BEGIN
            }
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// Refuses a function that no other process could find.
pub(crate) fn check_portable(entry: Entry) -> io::Result<()> {
    if entry.is_portable() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, Error::NotPortable.to_string()))
}

pub(crate) fn read_task(message: &mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal> {
    let entry = Entry::from_raw(message.u64()?);
    let argument = match message.u8()? {
        0 => message.rest(),
        _ => memfd::read_all(message.fd()?.as_fd())?,
    };
    Ok(Box::new(Task { entry, argument, handles: message.rest_of_fds() }))
}

impl<F: FnOnce(&mut Vec<u8>) -> u32> Role for Closure<F> {
    fn write(&self) -> io::Result<Written<'_>> {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a closure cannot cross an exec"))
    }

    fn run(self: Box<Self>, link: Link, confinement: &Confinement) -> i32 {
        report(&link, confinement, self.0)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({:?}, {} bytes)", self.entry, self.argument.len())
    }
}

impl<F> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

fn report(link: &Link, confinement: &Confinement, target: impl FnOnce(&mut Vec<u8>) -> u32) -> i32 {
    let mut payload = Vec::new();
    let tag = match confinement.apply(Keeper::Kernel) {
        Ok(()) => target(&mut payload),
        Err(error) => {
            payload.extend_from_slice(error.to_string().as_bytes());
            tag::UNCONFINED
        }
    };
    exit::flush_stdio();
    match outcome::send_returned(link, tag, &payload) {
        Ok(()) => i32::from(tag != tag::VALUE),
        Err(error) => {
            eprintln!("procession: cannot give the result of {} bytes to the parent: {error}", payload.len());
            CANNOT_BEGIN
        }
    }
}

#[cfg(test)]
mod tests {
    use procession_sys::link::Message;
    use procession_sys::pidfd::PidFd;

    use super::*;
    use crate::preparation::{Preparation, Received, parse, send};
    use crate::role::Roles;
    use crate::setting::Setting;

    const ROLES: Roles = Roles(&[(TASK, read_task)]);

    fn task(argument: Vec<u8>) -> Preparation<'static> {
        fn entry(_: &[u8], _: &mut Vec<u8>) -> u32 {
            0
        }
        let task = Task { entry: Entry::of(entry), argument, handles: Vec::new() };
        Preparation { name: "Process-1".into(), daemon: true, setting: Setting::default(), role: Box::new(task) }
    }

    #[test]
    fn a_task_arrives_with_its_argument_inline_and_beside() {
        for len in [0, 100, INLINE_LIMIT + 1] {
            let (ours, theirs) = Link::pair().unwrap();
            let me = PidFd::of_self().unwrap();
            send(&ours, &task(vec![7; len]), &me).unwrap();
            let got = parse(theirs.recv(None).unwrap().unwrap(), ROLES).unwrap();
            assert_eq!(got.parent.pid(), me.pid());
            let Received { preparation: Preparation { name, daemon, role, .. }, .. } = got;
            assert_eq!((name.as_str(), daemon), ("Process-1", true));
            let task = role.as_any().and_then(|role| role.downcast_ref::<Task>());
            assert!(task.is_some_and(|task| task.argument == vec![7; len]), "{len} bytes");
        }
    }

    #[test]
    fn every_cut_of_a_message_is_refused() {
        let (ours, theirs) = Link::pair().unwrap();
        send(&ours, &task(vec![]), &PidFd::of_self().unwrap()).unwrap();
        let whole = theirs.recv(None).unwrap().unwrap().bytes;
        for cut in 0..whole.len() {
            let message = Message { bytes: whole[..cut].to_vec(), fds: vec![] };
            assert!(matches!(parse(message, ROLES), Err(Refusal::Malformed(_) | Refusal::OtherBuild)), "cut at {cut}");
        }
    }

    #[test]
    fn a_closure_does_not_cross() {
        let (ours, _theirs) = Link::pair().unwrap();
        let role = Box::new(Closure(|_: &mut Vec<u8>| 0));
        let preparation = Preparation { name: String::new(), daemon: false, setting: Setting::default(), role };
        let error = send(&ours, &preparation, &PidFd::of_self().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
