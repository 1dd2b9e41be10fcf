//! Handles in messages: how a queue travels as an argument. A handle is an fd; the message says where it stands among the
//! fds that go beside. That is possible where the engine sends fds: with a process's argument and with an initializer's.
//! Anywhere else the attempt is refused, and told what to do instead.
//!
//! Encoding and decoding are a face's, deep in its codec, which has no place for fds. So they go by the thread: in a
//! [`sending`] scope handles are collected, in a [`receiving`] scope they are handed out.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_sys::link::MAX_FDS;

/// The most handles of one argument; a message also carries fds of the engine's own.
pub const MOST_HANDLES: usize = MAX_FDS - 4;

thread_local! {
    static PASSAGE: RefCell<Option<Passage>> = const { RefCell::new(None) };
    static REFUSAL: RefCell<Option<String>> = const { RefCell::new(None) };
}

enum Passage {
    Sending(Vec<OwnedFd>),
    Receiving(Vec<OwnedFd>),
}

/// Runs `encode`, in which handles may be given, and gives their fds.
pub fn sending<R>(encode: impl FnOnce() -> R) -> (R, Vec<OwnedFd>) {
    let (result, passage) = within(Passage::Sending(Vec::new()), encode);
    match passage {
        Some(Passage::Sending(fds)) => (result, fds),
        _ => (result, Vec::new()),
    }
}

/// Runs `decode`, in which the handles of these fds may be taken.
pub fn receiving<R>(fds: Vec<OwnedFd>, decode: impl FnOnce() -> R) -> R {
    within(Passage::Receiving(fds), decode).0
}

/// While encoding: sends the handle's fd along, and says what to encode in its place.
///
/// # Errors
///
/// What to tell the user; [`last_refusal`] has it too, for codecs that lose an error's text.
pub fn give(fd: BorrowedFd<'_>, what: &str) -> Result<u32, String> {
    let given = PASSAGE.with_borrow_mut(|passage| match passage {
        Some(Passage::Sending(fds)) if fds.len() < MOST_HANDLES => {
            let own = fd.as_fd().try_clone_to_owned().map_err(|error| format!("cannot send a {what}: {error}"))?;
            fds.push(own);
            Ok(fds.len() as u32 - 1)
        }
        Some(Passage::Sending(_)) => {
            Err(format!("an argument may hold {MOST_HANDLES} handles: send more in several, or fewer"))
        }
        _ => Err(format!(
            "a {what} travels as an argument of a process or of a pool's initializer, and not here: pass it there and \
             keep it in a static"
        )),
    });
    given.inspect_err(|text| refuse(text))
}

/// While decoding: the fd that [`give`] sent.
///
/// # Errors
///
/// As [`give`].
pub fn take(index: u32, what: &str) -> Result<OwnedFd, String> {
    let taken = PASSAGE.with_borrow(|passage| match passage {
        Some(Passage::Receiving(fds)) => {
            let fd = fds.get(index as usize).ok_or_else(|| format!("the {what} was not sent along"))?;
            fd.try_clone().map_err(|error| format!("cannot take a {what}: {error}"))
        }
        _ => Err(format!("a {what} arrives with a process's arguments or an initializer's, and not here")),
    });
    taken.inspect_err(|text| refuse(text))
}

/// Notes why a handle cannot travel.
pub fn refuse(text: &str) {
    REFUSAL.set(Some(text.to_owned()));
}

/// Why a handle could not travel last, in this thread; asked once.
pub fn last_refusal() -> Option<String> {
    REFUSAL.take()
}

fn within<R>(passage: Passage, body: impl FnOnce() -> R) -> (R, Option<Passage>) {
    /// Puts the scope before back, whether `body` returns or unwinds.
    struct Restore(Option<Option<Passage>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                PASSAGE.set(before);
            }
        }
    }
    let mut restore = Restore(Some(PASSAGE.replace(Some(passage))));
    let result = body();
    let before = restore.0.take().flatten();
    (result, PASSAGE.replace(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_travel_within_scopes_only() {
        let fd = std::fs::File::open("/dev/null").unwrap();
        assert!(give(fd.as_fd(), "queue").unwrap_err().contains("a queue travels as an argument"));
        assert!(last_refusal().unwrap().contains("initializer") && last_refusal().is_none());
        let (given, fds) = sending(|| [give(fd.as_fd(), "queue").unwrap(), give(fd.as_fd(), "queue").unwrap()]);
        assert_eq!((given, fds.len()), ([0, 1], 2));
        receiving(fds, || {
            assert!(take(1, "queue").is_ok());
            assert!(take(2, "queue").unwrap_err().contains("not sent along"));
        });
        assert!(take(0, "queue").is_err());
    }

    #[test]
    fn a_scope_ends_with_a_panic() {
        let ended = std::panic::catch_unwind(|| sending(|| panic!("in the codec")));
        assert!(ended.is_err());
        assert!(take(0, "queue").unwrap_err().contains("and not here"));
    }
}
