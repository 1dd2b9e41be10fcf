//! The two positions of a stream: how far its producer has committed and how far its consumer has read. Each is written
//! by one side only, with one store, and never by a dead process again: that store is the commit.

use crate::primitive::{AtomicU64, Ordering};

/// Positions in bytes since the stream's beginning; they never wrap in practice (2^64 bytes).
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cursors {
    /// Read up to here; the consumer's. Never beyond `tail`.
    head: AtomicU64,
    /// Committed up to here; the producer's. Never more than the capacity beyond `head`.
    tail: AtomicU64,
}

impl Cursors {
    /// Of an empty stream.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Cursors {
        Cursors { head: AtomicU64::new(0), tail: AtomicU64::new(0) }
    }

    /// Producer: where it writes next, and how much room there is.
    #[inline]
    pub fn room(&self, capacity: usize) -> (u64, usize) {
        let tail = self.tail.load(Ordering::Relaxed);
        // Acquire: what the consumer read before it gave the room back, it had read.
        let used = tail.wrapping_sub(self.head.load(Ordering::Acquire));
        (tail, capacity.saturating_sub(used as usize))
    }

    /// Producer: commits everything before `tail`.
    #[inline]
    pub fn commit(&self, tail: u64) {
        self.tail.store(tail, Ordering::Release);
    }

    /// Consumer: what is committed and not yet read.
    #[inline]
    pub fn available(&self) -> std::ops::Range<u64> {
        let head = self.head.load(Ordering::Relaxed);
        head..self.tail.load(Ordering::Acquire)
    }

    /// Consumer: gives back the room before `head`.
    #[inline]
    pub fn release(&self, head: u64) {
        self.head.store(head, Ordering::Release);
    }

    /// Whether everything committed has been read. For either side, and for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) == self.tail.load(Ordering::Acquire)
    }

    /// Consumer, when no producer is alive: an empty stream again.
    pub fn reset(&self) {
        self.head.store(0, Ordering::Release);
        self.tail.store(0, Ordering::Release);
    }
}
