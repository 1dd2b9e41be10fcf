//! Handles ([`crate::handle`]) and large buffers ([`crate::pool::blocks`]), which travel beside a
//! message. In any thread.
//!
//! Encoding and decoding are a face's, deep in its codec, and `serde` and pickle have no place for
//! more than the message. So this goes by the thread, within a scope around the call of the codec:
//! the one hand-over of the engine that is not a parameter.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::Held;

use crate::value_cache::ValueCache;

/// The handles and buffers of one message.
#[derive(Default)]
pub(crate) struct Scope {
    pub(crate) handles: Option<Handles>,
    pub(crate) buffers: Option<Rc<dyn Buffers>>,
}

/// The state of a thread: its innermost scope, and what went wrong there.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) scope: Scope,
    /// Why a handle could not travel last, for codecs that lose an error's text.
    pub(crate) refusal: Option<String>,
}

/// The place that handles go to and come from.
pub(crate) enum Handles {
    /// They are collected, up to `most` of them.
    Sending { most: usize, outgoing: Option<Box<Outgoing>> },
    /// They cannot travel, as the message goes to another machine.
    Refusing,
    /// They have come with the message.
    Receiving(Vec<OwnedFd>),
    /// Each is asked for when it is needed.
    Asking(Rc<dyn Ask>),
}

/// Handles that are collected.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) fds: Vec<OwnedFd>,
    /// The places of handles that were given before: many values may be the same queue.
    pub(crate) known: BTreeMap<(RawFd, u64, u64), u32>,
}

/// The source of a worker's handles for its tasks.
pub(crate) trait Ask {
    /// The fd that stands at `index`.
    fn ask(&self, index: u32) -> io::Result<OwnedFd>;

    /// The cache of values that the worker keeps between tasks.
    fn values(&self) -> &ValueCache;
}

/// The place that large buffers go to and come from.
pub(crate) trait Buffers {
    /// Puts a buffer into a block; `None` if there is no room.
    fn put(&self, _bytes: &[u8]) -> Option<Place> {
        None
    }

    /// The buffer that was put there, in place.
    ///
    /// # Errors
    ///
    /// Why it is not there.
    fn take(&self, _place: Place) -> io::Result<Arc<Held>> {
        Err(not_sent())
    }
}

/// The place of a buffer, which is encoded in the buffer's stead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// 0: the arguments' area; else 1 more than the slot whose results' it is.
    pub area: u32,
    /// The block there.
    pub block: u64,
}

/// A buffer is not where the message says that it is.
pub(crate) fn not_sent() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "its buffer was not sent along")
}

thread_local! {
    static BESIDE: RefCell<Beside> = const {
        RefCell::new(Beside { scope: Scope { handles: None, buffers: None }, refusal: None })
    };
}

/// Calls `look` with the thread's handles and buffers.
pub(crate) fn with<R>(look: impl FnOnce(&mut Beside) -> R) -> R {
    BESIDE.with_borrow_mut(look)
}

/// Runs `body` in the scope of another message. Returns what is there in the end.
pub(crate) fn within<R>(scope: Scope, body: impl FnOnce() -> R) -> (R, Scope) {
    within_place(|beside| &mut beside.scope, scope, body)
}

/// Runs `body` in the scope of the same message, whose buffers go to and come from others.
pub(crate) fn within_buffers<R>(buffers: Rc<dyn Buffers>, body: impl FnOnce() -> R) -> R {
    within_place(|beside| &mut beside.scope.buffers, Some(buffers), body).0
}

/// Runs `body` with `value` in this place, and puts back what was there, whether `body` returns or
/// unwinds. Returns what is there in the end.
fn within_place<T: Default, R>(place: fn(&mut Beside) -> &mut T, value: T, body: impl FnOnce() -> R) -> (R, T) {
    struct Restore<T> {
        place: fn(&mut Beside) -> &mut T,
        before: T,
    }
    impl<T> Restore<T> {
        fn swap(&mut self) {
            with(|beside| std::mem::swap((self.place)(beside), &mut self.before));
        }
    }
    impl<T> Drop for Restore<T> {
        fn drop(&mut self) {
            // The inner value is dropped outside of the borrow: it may be a codec's.
            self.swap();
        }
    }
    let mut restore = Restore { place, before: value };
    restore.swap();
    let result = body();
    let last = with(|beside| std::mem::replace(place(beside), std::mem::take(&mut restore.before)));
    std::mem::forget(restore);
    (result, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_within_a_scope_gives_way_again() {
        let ask = |index: u32| {
            with(|beside| matches!(&beside.scope.handles, Some(Handles::Receiving(fds)) if fds.len() == index as usize))
        };
        let receiving = Scope { handles: Some(Handles::Receiving(Vec::new())), buffers: None };
        within(receiving, || {
            within(Scope::default(), || assert!(!ask(0)));
            let unwound = std::panic::catch_unwind(|| within(Scope::default(), || panic!("in the codec")));
            assert!(unwound.is_err() && ask(0));
        });
        assert!(!ask(0));
    }
}
