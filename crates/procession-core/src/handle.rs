//! Handles in messages: how a queue travels as an argument. A handle is an fd; the message says
//! where it stands among the fds that go beside. That is possible where the engine sends fds: with
//! the argument of a process, an initializer or a pool's task, and over a connection. Anywhere else
//! the attempt is refused, and told what to do instead.
//!
//! Encoding and decoding are a face's, deep in its codec, which has no place for fds. So they go by
//! the thread: in a [`sending`] scope handles are collected, in a [`receiving`] scope they are
//! handed out, and in a worker each is asked for when it is needed.

use std::any::{Any, TypeId};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use procession_sys::link::MAX_FDS;
use procession_sys::named::{self, Identity};

use crate::beside::{self, Ask, Buffers, Handles, Outgoing, Scope};
use crate::value_cache::Key;

/// The most handles of one message, which also carries fds of the engine's own.
pub const MOST_HANDLES: usize = MAX_FDS - 4;

/// Runs `encode`, in which up to `most` handles may be given, and gives their fds.
pub fn sending<R>(most: usize, encode: impl FnOnce() -> R) -> (R, Vec<OwnedFd>) {
    sending_beside(most, None, encode)
}

/// As [`sending`], for a message whose large buffers go to these.
pub(crate) fn sending_beside<R>(
    most: usize,
    buffers: Option<Rc<dyn Buffers>>,
    encode: impl FnOnce() -> R,
) -> (R, Vec<OwnedFd>) {
    let sending = Scope { handles: Some(Handles::Sending { most, outgoing: None }), buffers };
    let (result, last) = beside::within(sending, encode);
    match last.handles {
        Some(Handles::Sending { outgoing: Some(outgoing), .. }) => (result, outgoing.fds),
        _ => (result, Vec::new()),
    }
}

/// Runs `encode`, in which no handle may be given, as the message goes to another machine.
pub(crate) fn refusing<R>(encode: impl FnOnce() -> R) -> R {
    within(Some(Handles::Refusing), encode).0
}

/// Runs `decode`, in which the handles of these fds may be taken.
pub fn receiving<R>(fds: Vec<OwnedFd>, decode: impl FnOnce() -> R) -> R {
    within(Some(Handles::Receiving(fds)), decode).0
}

/// Runs `serve`, in which handles may be taken by asking for them.
pub(crate) fn asking<R>(broker: Rc<dyn Ask>, serve: impl FnOnce() -> R) -> R {
    within(Some(Handles::Asking(broker)), serve).0
}

/// Runs `body`, in which handles neither go nor come, whatever scope surrounds it.
pub fn outside<R>(body: impl FnOnce() -> R) -> R {
    within(None, body).0
}

/// While encoding: sends the handle's fd along, and says what to encode in its place.
///
/// # Errors
///
/// The text for the user. [`last_refusal`] has it too, for codecs that lose an error's text.
pub fn send_fd(fd: BorrowedFd<'_>, what: &str) -> Result<u32, String> {
    let given = beside::with(|beside| match &mut beside.scope.handles {
        Some(Handles::Sending { most, outgoing }) => outgoing.get_or_insert_default().add(*most, fd, what),
        Some(Handles::Refusing) => Err(format!(
            "a {what} is for processes of one machine, and the tasks of this pool run on others: pass the values themselves"
        )),
        Some(Handles::Asking(_)) => Err(format!(
            "a {what} travels to a task, and not back as its result: make it before, pass it as an argument, and the task \
             uses it"
        )),
        _ => Err(format!(
            "a {what} travels as an argument of a process, of a pool's task or of its initializer, or over a connection, \
             and not here: pass it there and keep it"
        )),
    });
    given.inspect_err(|text| refuse(text))
}

/// While decoding: the fd that [`send_fd`] sent.
///
/// # Errors
///
/// As [`send_fd`].
pub fn receive_fd(index: u32, what: &str) -> Result<OwnedFd, String> {
    let elsewhere = || Err(format!("a {what} arrives with an argument or over a connection, and not here"));
    let asked = beside::with(|beside| match &beside.scope.handles {
        Some(Handles::Receiving(fds)) => Err(match fds.get(index as usize) {
            Some(fd) => fd.try_clone().map_err(|error| format!("cannot take a {what}: {error}")),
            None => Err(format!("the {what} was not sent along")),
        }),
        // Asked outside of the look: it waits, and other scopes come and go meanwhile.
        Some(Handles::Asking(broker)) => Ok(broker.clone()),
        _ => Err(elsewhere()),
    });
    let taken = match asked {
        Ok(broker) => broker.ask(index).map_err(|error| format!("cannot get a {what}: {error}")),
        Err(taken) => taken,
    };
    taken.inspect_err(|text| refuse(text))
}

/// While a worker decodes an argument: has the worker keep what a handle stands for, for its next
/// tasks. The handle is to this file, and `T` what the file is read as. Anywhere else it does
/// nothing.
pub fn keep_value<T: 'static>(file: Identity, value: impl FnOnce() -> Rc<dyn Any>) {
    let broker = beside::with(|beside| match &beside.scope.handles {
        Some(Handles::Asking(broker)) => Some(broker.clone()),
        _ => None,
    });
    let Some(broker) = broker else { return };
    let key = Key::Handle(file, TypeId::of::<T>());
    if broker.values().get(key).is_none() {
        broker.values().insert(key, value());
    }
}

/// Notes why a handle cannot travel.
pub fn refuse(text: &str) {
    beside::with(|beside| beside.refusal = Some(text.to_owned()));
}

/// Why a handle could not travel last, in this thread; asked once.
pub fn last_refusal() -> Option<String> {
    beside::with(|beside| beside.refusal.take())
}

impl Outgoing {
    fn add(&mut self, most: usize, fd: BorrowedFd<'_>, what: &str) -> Result<u32, String> {
        let failed = |error: io::Error| format!("cannot send a {what}: {error}");
        let Identity { device, inode } = named::identity(fd).map_err(failed)?;
        let key = (fd.as_raw_fd(), device, inode);
        if let Some(index) = self.known.get(&key) {
            return Ok(*index);
        }
        if self.fds.len() == most {
            return Err(format!("a message may hold {most} handles: send more in several, or fewer"));
        }
        let index = self.fds.len() as u32;
        self.fds.push(fd.try_clone_to_owned().map_err(failed)?);
        self.known.insert(key, index);
        Ok(index)
    }
}

/// Another message begins here: the buffers of the message around it are not this one's.
fn within<R>(handles: Option<Handles>, body: impl FnOnce() -> R) -> (R, Option<Handles>) {
    let (result, last) = beside::within(Scope { handles, buffers: None }, body);
    (result, last.handles)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn handles_travel_within_scopes_only() {
        let fd = std::fs::File::open("/dev/null").unwrap();
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(send_fd(fd.as_fd(), "queue").unwrap_err().contains("a queue travels as an argument"));
        assert!(last_refusal().unwrap().contains("initializer") && last_refusal().is_none());
        let give_all = || {
            assert!(send_fd(other.as_fd(), "queue").is_ok_and(|index| index == 0));
            let twice = [send_fd(fd.as_fd(), "queue").unwrap(), send_fd(fd.as_fd(), "queue").unwrap()];
            assert!(send_fd(std::io::stdin().as_fd(), "file").unwrap_err().contains("2 handles"));
            twice
        };
        let (given, fds) = sending(2, give_all);
        assert_eq!((given, fds.len()), ([1, 1], 2), "one fd goes once");
        receiving(fds, || {
            assert!(receive_fd(1, "queue").is_ok());
            assert!(receive_fd(2, "queue").unwrap_err().contains("not sent along"));
        });
        assert!(receive_fd(0, "queue").is_err());
    }

    #[test]
    fn a_scope_ends_with_a_panic() {
        let ended = std::panic::catch_unwind(|| sending(1, || panic!("in the codec")));
        assert!(ended.is_err());
        assert!(receive_fd(0, "queue").unwrap_err().contains("and not here"));
    }
}
