//! The readers of bytes that come from other processes. Each is a function that takes any bytes at
//! all: for the fuzz targets in `fuzz/`, and for `tests/corpora.rs`, which replays what they found.
//! Compiled by `--cfg fuzzing` only, which cargo-fuzz sets, with the feature `auth`.
//!
//! Each function states what must hold whatever comes: it panics where it does not.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use procession_shm::Control;
use procession_sys::image::BuildId;
use procession_sys::link::{Link, Message};
use procession_sys::memfd;
use procession_sys::pidfd::PidFd;

use crate::confinement::Confinement;
pub use crate::connection::fuzzing::{authentication, framing};
use crate::init::ROLES;
use crate::outcome::{self, Loss, Outcome};
pub use crate::output::records::fuzzing::records;
pub use crate::pool::fuzzing::frames;
use crate::pool::role as worker;
use crate::preparation::{self, MAGIC, Preparation};
use crate::role::Refusal;
use crate::target::Task;
use crate::wire::{Reader, Writer};

/// A way in. Panics where something does not hold.
pub type WayIn = fn(&[u8]);

/// Every way, by the name of its fuzz target and corpus.
pub const TARGETS: [(&str, WayIn); 6] = [
    ("frames", frames),
    ("preparation", preparation),
    ("outcomes", outcomes),
    ("records", records),
    ("framing", framing),
    ("authentication", authentication),
];

static CONTROL: LazyLock<Control> = LazyLock::new(|| Control::create(2).expect("a segment can be made"));
static ME: LazyLock<PidFd> = LazyLock::new(|| PidFd::of_self().expect("this process has a pidfd"));

/// Preparation data, as an executed child reads it.
///
/// Of the input: what the harness, which knows this build's id as no corpus can, puts before the
/// message; how many fds come with it, and what each is; the message.
pub fn preparation(data: &[u8]) {
    let mut reader = Reader(data);
    let (Some(begun), Some(fds)) = (reader.u8(), reader.u8()) else { return };
    let Some(mut fds) = (0..fds % 6).map(|_| reader.u8().map(some_fd)).collect::<Option<Vec<_>>>() else { return };
    let head = Writer::default().u32(MAGIC).bytes(BuildId::current().as_bytes());
    let head = match begun % 3 {
        0 => head.0,
        // A worker's, as far as its slot, with a segment that is a pool's.
        1 => {
            let control = CONTROL.as_fd().try_clone_to_owned().expect("fds are left");
            fds.splice(0..0, [some_fd(0), control]);
            head.u32(ME.pid())
                .u8(1)
                .bytes(b"Worker")
                .u8(0)
                .u8(0)
                .u8(0)
                .bytes(&Confinement::default().encode())
                .u8(0)
                .u8(worker::KIND)
                .0
        }
        _ => Vec::new(),
    };
    let bytes = [&head, reader.0].concat();
    let len = bytes.len();
    let received = match preparation::parse(Message { bytes, fds }, ROLES) {
        Ok(received) => received,
        Err(Refusal::Malformed(_) | Refusal::OtherBuild | Refusal::Os(_)) => return,
    };
    assert!(received.preparation.name.len() <= 3 * len, "bytes that are no UTF-8 become three at most");
    if let Some(task) = task(&received.preparation) {
        assert!(task.argument.len() <= len.max(SEALED));
        resent(&received.preparation, task);
    }
}

fn task<'a>(preparation: &'a Preparation<'_>) -> Option<&'a Task> {
    preparation.role.as_any().and_then(|role| role.downcast_ref())
}

/// A task that was understood once is understood alike again.
fn resent(first: &Preparation<'_>, task_before: &Task) {
    let (ours, theirs) = Link::pair().expect("fds are left");
    if preparation::send(&ours, first, &ME).is_err() {
        // Longer than one message: a name may have become three times as long.
        return;
    }
    let message = theirs.recv(None).expect("it was sent").expect("it was sent");
    let second = preparation::parse(message, ROLES).expect("it was sent by this build").preparation;
    assert_eq!((&first.name, first.daemon), (&second.name, second.daemon));
    let Some(task) = task(&second) else { panic!("a task became something else: {second:?}") };
    assert_eq!((task_before.entry.to_raw(), &task_before.argument), (task.entry.to_raw(), &task.argument));
    assert_eq!(task_before.handles.len(), task.handles.len());
}

/// A child's messages, as its parent reads them after it has ended.
///
/// Of the input: whether the child needs no hello; then for each message its length and whether an
/// fd comes with it, in one byte, and its bytes. All of it is read as each of the single messages,
/// too.
pub fn outcomes(data: &[u8]) {
    if let Some(loss) = Loss::decode(data) {
        assert_eq!(Loss::decode(&loss.encode()), Some(loss));
    }
    let message = || Message { bytes: data.to_vec(), fds: vec![some_fd(1)] };
    if let Some(child) = outcome::parse_hello(message()) {
        assert_eq!(data[1..5], child.pid().to_le_bytes());
    }
    if let Some(error) = outcome::parse_failure(&message()) {
        assert!(error.to_string().len() <= 3 * data.len());
    }
    let mut reader = Reader(data);
    let Some(began) = reader.u8() else { return };
    let (ours, theirs) = Link::pair().expect("fds are left");
    while let Some(shape) = reader.u8() {
        let (bytes, rest) = reader.0.split_at((shape as usize / 2).min(reader.0.len()));
        reader.0 = rest;
        let beside = (shape % 2 == 1).then(|| some_fd(1));
        let fds: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
        if !bytes.is_empty() && theirs.send_now(&[IoSlice::new(bytes)], &fds).is_err() {
            break;
        }
    }
    drop(theirs);
    let outcome = outcome::read(&ours, began % 2 == 1);
    if let Ok(Outcome::Returned { payload, .. }) = outcome {
        assert!(payload.len() <= data.len().max(CONTENTS.len()));
    }
}

/// The content of the memory that comes beside messages.
const CONTENTS: [u8; 300] = [7; 300];
/// The length of such memory that is a segment, though no pool's.
const SEALED: usize = 4096;

fn some_fd(kind: u8) -> OwnedFd {
    let made = match kind % 4 {
        0 => File::open("/dev/null").map(OwnedFd::from),
        1 => memfd::from_bytes("fuzzing", &CONTENTS),
        2 => Link::pair().map(|(one, _)| one.into()),
        _ => memfd::create("fuzzing", SEALED as u64).and_then(|sealed| {
            File::from(sealed.try_clone()?).write_all(&CONTENTS)?;
            Ok(sealed)
        }),
    };
    made.expect("fds are left")
}
