//! Preparation data: what a child must know before it can run its target. The parent writes it to the child's link, and
//! an executed child reads it in its bootstrap. A forked child has it in memory already.

use std::fmt;
use std::io::{self, IoSlice};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use procession_shm::Control;
use procession_sys::image::{BuildId, Entry};
use procession_sys::link::{Link, Message};
use procession_sys::memfd;
use procession_sys::pidfd::PidFd;

use crate::outcome::INLINE_LIMIT;
use crate::pool::{Initializer, Service};
use crate::tracker;
use crate::wire::{Reader, Writer};

/// What a child is to become.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// Shown by `current_process` and, cut to 15 bytes, by `ps` and `top`.
    pub name: String,
    /// Terminated at its parent's exit instead of waited for.
    pub daemon: bool,
    /// What it runs.
    pub target: Target<'a>,
}

/// A closure that leaves its outcome's payload behind and returns the outcome's tag.
pub type Closure<'a> = Box<dyn FnOnce(&mut Vec<u8>) -> u32 + 'a>;

/// What a child runs once it is ready.
pub enum Target<'a> {
    /// A function of this program over an encoded argument.
    Task {
        /// The face's entry, which decodes, calls and encodes.
        entry: Entry,
        /// In the codec of the face.
        argument: Vec<u8>,
        /// Of the handles in the argument.
        handles: Vec<OwnedFd>,
    },
    /// A closure, which only a forked child has.
    Closure(Closure<'a>),
    /// A worker of a pool.
    Worker {
        /// The pool's segment.
        control: Arc<Control>,
        /// Which of its slots is the worker's.
        slot: u32,
        /// How it serves.
        service: Arc<Service>,
        /// Where it asks for its tasks' handles.
        broker: Arc<Link>,
    },
    /// The fork server.
    Server {
        /// Where its requests come from.
        requests: Link,
    },
    /// The tracker of shared memory.
    Tracker {
        /// Where it is told of names.
        names: Link,
    },
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Task { entry, argument, .. } => write!(f, "Task({entry:?}, {} bytes)", argument.len()),
            Target::Closure(_) => f.write_str("Closure"),
            Target::Worker { slot, .. } => write!(f, "Worker({slot})"),
            Target::Server { .. } => f.write_str("Server"),
            Target::Tracker { .. } => f.write_str("Tracker"),
        }
    }
}

/// Preparation data as an executed child reads it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) preparation: Preparation<'static>,
    pub(crate) parent: PidFd,
    /// The link to the tracker, where the parent has one.
    pub(crate) tracker: Option<Link>,
}

/// Why a child cannot use what it received.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The parent is another build.
    OtherBuild,
    /// The message is not preparation data.
    Malformed(&'static str),
    /// The system refused.
    Os(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Os(error)
    }
}

// The magic and the build stand first and never change, so that any two builds can tell each other apart.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"prcn");
const TASK: u8 = 0;
pub(crate) const WORKER: u8 = 1;
const SERVER: u8 = 2;
const TRACKER: u8 = 3;

/// Writes the preparation data of a child to the parent's end of its link.
///
/// # Errors
///
/// If the system refuses, or the target is a closure (`InvalidInput`): a closure exists in this image only.
pub(crate) fn send(link: &Link, preparation: &Preparation<'_>, me: &PidFd) -> io::Result<()> {
    let head = Writer::default()
        .u32(MAGIC)
        .bytes(BuildId::current().as_bytes())
        .u32(me.pid())
        .u8(preparation.daemon.into())
        .bytes(preparation.name.as_bytes());
    // The tracker and the server, whose children are told by their owner, are no owners of names.
    let owns_names = !matches!(preparation.target, Target::Server { .. } | Target::Tracker { .. });
    let tracker = if owns_names { tracker::to_inherit() } else { None };
    let head = head.u8(tracker.is_some().into());
    let mut fds = vec![me.as_fd()];
    fds.extend(tracker.as_ref().map(|link| link.as_fd()));
    let beside;
    match &preparation.target {
        Target::Task { entry, argument, handles } => {
            let is_beside = argument.len() > INLINE_LIMIT;
            let head = head.u8(TASK).u64(entry.to_raw()).u8(is_beside.into()).0;
            let mut parts = vec![IoSlice::new(&head)];
            if is_beside {
                beside = memfd::from_bytes("procession-argument", argument)?;
                fds.push(beside.as_fd());
            } else {
                parts.push(IoSlice::new(argument));
            }
            fds.extend(handles.iter().map(AsFd::as_fd));
            link.send_now(&parts, &fds)
        }
        Target::Worker { control, slot, service, broker } => {
            let max_tasks = service.max_tasks.map_or(0, NonZeroU32::get);
            let max_memory = service.max_memory.map_or(0, NonZeroU64::get);
            let head = head.u8(WORKER).u32(*slot).u32(max_tasks).u64(max_memory);
            let head = head.u8(service.initializer.is_some().into());
            fds.extend([control.as_fd(), broker.as_fd()]);
            let Some(Initializer { entry, argument, handles }) = &service.initializer else {
                return link.send_now(&[IoSlice::new(&head.0)], &fds);
            };
            // Beside the message, whatever its length: each worker reads it once.
            beside = memfd::from_bytes("procession-argument", argument)?;
            let head = head.u64(entry.to_raw()).0;
            fds.push(beside.as_fd());
            fds.extend(handles.iter().map(AsFd::as_fd));
            link.send_now(&[IoSlice::new(&head)], &fds)
        }
        Target::Server { requests } => {
            let head = head.u8(SERVER).0;
            fds.push(requests.as_fd());
            link.send_now(&[IoSlice::new(&head)], &fds)
        }
        Target::Tracker { names } => {
            let head = head.u8(TRACKER).0;
            fds.push(names.as_fd());
            link.send_now(&[IoSlice::new(&head)], &fds)
        }
        Target::Closure(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a closure cannot cross an exec")),
    }
}

/// Reads what [`send`] wrote.
pub(crate) fn parse(message: Message) -> Result<Received, Refusal> {
    let short = || Refusal::Malformed("the preparation data is cut short");
    let mut reader = Reader(&message.bytes);
    if reader.u32() != Some(MAGIC) {
        return Err(Refusal::Malformed("the message is not procession's preparation data"));
    }
    let build = BuildId::from_bytes(reader.bytes().ok_or_else(short)?);
    if build.same_image().is_none() {
        return Err(Refusal::OtherBuild);
    }
    let parent = reader.u32().ok_or_else(short)?;
    let daemon = reader.u8().ok_or_else(short)? != 0;
    let name = String::from_utf8_lossy(reader.bytes().ok_or_else(short)?).into_owned();
    let has_tracker = reader.u8().ok_or_else(short)? != 0;
    let mut fds = message.fds.into_iter();
    let parent = PidFd::from_parts(fds.next().ok_or_else(short)?, parent);
    let tracker = if has_tracker { Some(Link::from(fds.next().ok_or_else(short)?)) } else { None };
    let target = match reader.u8().ok_or_else(short)? {
        TASK => {
            let entry = Entry::from_raw(reader.u64().ok_or_else(short)?);
            let argument = match reader.u8().ok_or_else(short)? {
                0 => reader.0.to_vec(),
                _ => memfd::read_all(fds.next().ok_or_else(short)?.as_fd())?,
            };
            Target::Task { entry, argument, handles: fds.collect() }
        }
        WORKER => {
            let slot = reader.u32().ok_or_else(short)?;
            let max_tasks = NonZeroU32::new(reader.u32().ok_or_else(short)?);
            let max_memory = NonZeroU64::new(reader.u64().ok_or_else(short)?);
            let initialized = reader.u8().ok_or_else(short)? != 0;
            let control = Arc::new(Control::attach(fds.next().ok_or_else(short)?)?);
            let broker = Arc::new(Link::from(fds.next().ok_or_else(short)?));
            let mut service = Service { initializer: None, max_tasks, max_memory };
            if initialized {
                let entry = Entry::from_raw(reader.u64().ok_or_else(short)?);
                let argument = memfd::read_all(fds.next().ok_or_else(short)?.as_fd())?;
                service.initializer = Some(Initializer { entry, argument, handles: fds.collect() });
            }
            Target::Worker { control, slot, service: Arc::new(service), broker }
        }
        SERVER => Target::Server { requests: Link::from(fds.next().ok_or_else(short)?) },
        TRACKER => Target::Tracker { names: Link::from(fds.next().ok_or_else(short)?) },
        _ => return Err(Refusal::Malformed("the kind of target is unknown")),
    };
    Ok(Received { preparation: Preparation { name, daemon, target }, parent, tracker })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(argument: Vec<u8>) -> Preparation<'static> {
        fn entry(_: &[u8], _: &mut Vec<u8>) -> u32 {
            0
        }
        Preparation {
            name: "Process-1".into(),
            daemon: true,
            target: Target::Task { entry: Entry::of(entry), argument, handles: Vec::new() },
        }
    }

    #[test]
    fn a_task_arrives_with_its_argument_inline_and_beside() {
        for len in [0, 100, INLINE_LIMIT + 1] {
            let (ours, theirs) = Link::pair().unwrap();
            let me = PidFd::of_self().unwrap();
            send(&ours, &task(vec![7; len]), &me).unwrap();
            let got = parse(theirs.recv(None).unwrap().unwrap()).unwrap();
            assert_eq!(got.parent.pid(), me.pid());
            assert_eq!((got.preparation.name.as_str(), got.preparation.daemon), ("Process-1", true));
            assert!(matches!(got.preparation.target, Target::Task { argument, .. } if argument == vec![7; len]));
        }
    }

    #[test]
    fn every_cut_of_a_message_is_refused() {
        let (ours, theirs) = Link::pair().unwrap();
        send(&ours, &task(vec![]), &PidFd::of_self().unwrap()).unwrap();
        let whole = theirs.recv(None).unwrap().unwrap().bytes;
        for cut in 0..whole.len() {
            let message = Message { bytes: whole[..cut].to_vec(), fds: vec![] };
            assert!(matches!(parse(message), Err(Refusal::Malformed(_) | Refusal::OtherBuild)), "cut at {cut}");
        }
    }

    #[test]
    fn a_closure_does_not_cross() {
        let (ours, _theirs) = Link::pair().unwrap();
        let target = Target::Closure(Box::new(|_| 0));
        let preparation = Preparation { name: String::new(), daemon: false, target };
        let error = send(&ours, &preparation, &PidFd::of_self().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
