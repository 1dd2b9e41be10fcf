//! Large buffers of arguments and results, in blocks beside the frames and records. A face's codec,
//! deep in an argument or a result, puts a buffer into a block ([`put_buffer`]) and encodes in its
//! place where the buffer went. Where that is decoded, the codec takes the buffer in place
//! ([`take_buffer`]). As handles do, buffers go by the thread, within a scope:
//!
//! | scope | thread | gives | takes |
//! |---|---|---|---|
//! | [`Outbox`](super::outbox) | of the program, encoding arguments | into the parent's area | |
//! | [`ResultBlocks`](super::result_blocks) | the worker's | results, into its own area | arguments |
//! | [`Handle`](super::handle) | of the program, decoding results | | results |
//!
//! An argument's block is its job's, and free when the job is over and no worker has it. A result's
//! is held by the job from its arrival on, and by whoever has decoded it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::Held;

pub use crate::beside::Place;
use crate::beside::{self, Buffers, not_sent};

/// A buffer that is shorter travels with the rest. Measured: there and back, 8 KiB take as long in
/// a block as inline, 16 KiB two thirds, 64 KiB not half as long.
pub const THRESHOLD: usize = 16 * 1024;

/// Puts a buffer into a block. Returns `None` if it is to travel with the rest: it is short, or
/// nothing takes blocks here, or there is no room.
pub fn put_buffer(bytes: &[u8]) -> Option<Place> {
    if bytes.len() < THRESHOLD {
        return None;
    }
    scope()?.put(bytes)
}

/// The buffer that was given, in place.
///
/// # Errors
///
/// Why it is not there: what to tell the user. `OutOfMemory` if this process may have no more
/// addresses.
pub fn take_buffer(place: Place) -> io::Result<Arc<Held>> {
    scope().map_or_else(|| Err(not_sent()), |buffers| buffers.take(place))
}

/// Cloned, as what buffers go to may wait, and other scopes come and go meanwhile.
fn scope() -> Option<Rc<dyn Buffers>> {
    beside::with(|beside| beside.scope.buffers.clone())
}
