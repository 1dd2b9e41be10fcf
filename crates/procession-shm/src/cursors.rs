//! The two positions of a stream: how far its producer has committed and how far its consumer has read. Each is written
//! by one side only, with one store, and never by a dead process again: that store is the commit.

use crate::primitive::{AtomicU64, Ordering};

/// Positions in bytes since the stream's beginning; they never wrap in practice (2^64 bytes).
#[derive(Debug)]
#[repr(C)]
pub struct Cursors {
    consumer: Consumer,
    producer: Producer,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Consumer {
    /// Read up to here. Never beyond `tail`.
    head: AtomicU64,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Producer {
    /// Committed up to here. Never more than the capacity beyond `head`.
    tail: AtomicU64,
    /// The head as the producer saw it last: it looks again only for want of room, so that the consumer's cache line does
    /// not cross for each record. Never beyond `head`.
    head_seen: AtomicU64,
}

impl Cursors {
    /// Of an empty stream.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Cursors {
        let zero = || AtomicU64::new(0);
        Cursors { consumer: Consumer { head: zero() }, producer: Producer { tail: zero(), head_seen: zero() } }
    }

    /// Producer: where it writes next, and how much room there is: `wanted` at least, or all that there is.
    #[inline]
    pub fn room(&self, capacity: usize, wanted: usize) -> (u64, usize) {
        let tail = self.producer.tail.load(Ordering::Relaxed);
        let left = |head| capacity.saturating_sub(tail.wrapping_sub(head) as usize);
        let room = left(self.producer.head_seen.load(Ordering::Relaxed));
        if room >= wanted {
            return (tail, room);
        }
        // Acquire: what the consumer read before it gave the room back, it had read.
        let head = self.consumer.head.load(Ordering::Acquire);
        self.producer.head_seen.store(head, Ordering::Relaxed);
        (tail, left(head))
    }

    /// Producer: commits everything before `tail`.
    #[inline]
    pub fn commit(&self, tail: u64) {
        self.producer.tail.store(tail, Ordering::Release);
    }

    /// Consumer, who has read up to `head`: how far is committed. `None`: further than there is room for, or the shared memory
    /// says that it has read up to elsewhere.
    #[inline]
    pub fn committed(&self, head: u64, capacity: usize) -> Option<u64> {
        let tail = self.producer.tail.load(Ordering::Acquire);
        let is_sound = tail.wrapping_sub(head) <= capacity as u64 && self.consumer.head.load(Ordering::Relaxed) == head;
        is_sound.then_some(tail)
    }

    /// Consumer: gives back the room before `head`.
    #[inline]
    pub fn release(&self, head: u64) {
        self.consumer.head.store(head, Ordering::Release);
    }

    /// Whether everything committed has been read. For either side, and for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.consumer.head.load(Ordering::Acquire) == self.producer.tail.load(Ordering::Acquire)
    }

    /// Consumer, when no producer is alive: an empty stream again.
    pub fn reset(&self) {
        self.consumer.head.store(0, Ordering::Release);
        self.producer.head_seen.store(0, Ordering::Relaxed);
        self.producer.tail.store(0, Ordering::Release);
    }
}
