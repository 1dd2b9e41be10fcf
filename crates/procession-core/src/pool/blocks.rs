//! Large buffers of arguments and results, in blocks beside the frames and records. A face's codec, deep in an argument or a
//! result, [`give`]s a buffer and encodes in its place where it went, and [`take`]s it where that is decoded, in place. As
//! handles do, buffers go by the thread, within a scope:
//!
//! | scope | thread | gives | takes |
//! |---|---|---|---|
//! | [`Outbox`](super::outbox) | of the program, encoding arguments | into the parent's area | |
//! | [`ResultBlocks`](super::result_blocks) | the worker's | results, into its own area | arguments |
//! | [`Handle`](super::handle) | of the program, decoding results | | results |
//!
//! An argument's block is its job's, and free when the job is over and no worker has it. A result's is held by the job from
//! its arrival on, and by whoever has decoded it.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::Held;

/// A buffer that is shorter travels with the rest. Measured: there and back, 8 KiB take as long in a block as inline, 16 KiB
/// two thirds, 64 KiB not half as long.
pub const THRESHOLD: usize = 16 * 1024;

/// Where a buffer went: to be encoded in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// 0: the arguments' area; else 1 more than the slot whose results' it is.
    pub area: u32,
    /// The block there.
    pub block: u64,
}

/// What buffers go to and come from, in a scope.
pub(super) trait Buffers {
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

thread_local! {
    static SCOPE: RefCell<Option<Rc<dyn Buffers>>> = const { RefCell::new(None) };
}

/// Puts a buffer into a block. Returns `None` if it is to travel with the rest: it is short, or nothing takes blocks here,
/// or there is no room.
pub fn give(bytes: &[u8]) -> Option<Place> {
    if bytes.len() < THRESHOLD {
        return None;
    }
    SCOPE.with_borrow(Option::clone)?.put(bytes)
}

/// The buffer that was given, in place.
///
/// # Errors
///
/// Why it is not there: what to tell the user. `OutOfMemory` if this process may have no more addresses.
pub fn take(place: Place) -> io::Result<Arc<Held>> {
    SCOPE.with_borrow(Option::clone).map_or_else(|| Err(not_sent()), |buffers| buffers.take(place))
}

pub(super) fn not_sent() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "its buffer was not sent along")
}

/// Runs `body`, in which buffers go to and come from `buffers`.
pub(super) fn within<R>(buffers: Rc<dyn Buffers>, body: impl FnOnce() -> R) -> R {
    /// Puts the scope before back, whether `body` returns or unwinds.
    struct Restore(Option<Rc<dyn Buffers>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            drop(SCOPE.replace(self.0.take()));
        }
    }
    let _restore = Restore(SCOPE.replace(Some(buffers)));
    body()
}
