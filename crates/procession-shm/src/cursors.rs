//! The two positions of a stream: how far its producer has committed and how far its consumer has
//! read. Each is written by one side only, with one store, and never by a dead process again: that
//! store is the commit.

use crate::primitive::{AtomicU64, Ordering};

/// Positions in bytes since the stream's beginning; they never wrap in practice (2^64 bytes).
#[derive(Debug)]
#[repr(C)]
pub struct Cursors {
    head: Head,
    tail: Tail,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Head {
    /// Read up to here. Never beyond `tail`. The consumer's.
    word: AtomicU64,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Tail {
    /// Committed up to here. Never more than the capacity beyond `head`. The producer's.
    word: AtomicU64,
}

/// What the producer keeps in its own memory: what it has written it does not read from where
/// others may overwrite it.
#[derive(Debug)]
pub struct Produced {
    tail: AtomicU64,
    /// The head as the producer saw it last: it looks again only for want of room, so that the
    /// consumer's cache line does not cross for each record. Never beyond `head`.
    head_seen: AtomicU64,
}

impl Produced {
    /// Of an empty stream.
    #[allow(clippy::new_without_default, reason = "beside Cursors::new")]
    pub fn new() -> Produced {
        Produced { tail: AtomicU64::new(0), head_seen: AtomicU64::new(0) }
    }

    /// Producer: where it writes next, and how much room there is: `wanted` at least, or all that
    /// there is.
    #[inline]
    pub fn room(&self, cursors: &Cursors, capacity: usize, wanted: usize) -> (u64, usize) {
        let tail = self.tail.load(Ordering::Relaxed);
        let left = |head| capacity.saturating_sub(tail.wrapping_sub(head) as usize);
        let room = left(self.head_seen.load(Ordering::Relaxed));
        if room >= wanted {
            return (tail, room);
        }
        // Acquire: what the consumer read before it gave the room back, it had read.
        let head = cursors.head.word.load(Ordering::Acquire);
        self.head_seen.store(head, Ordering::Relaxed);
        (tail, left(head))
    }

    /// Producer: commits everything before `tail`.
    #[inline]
    pub fn commit(&self, cursors: &Cursors, tail: u64) {
        self.tail.store(tail, Ordering::Relaxed);
        cursors.tail.word.store(tail, Ordering::Release);
    }
}

impl Cursors {
    /// Of an empty stream.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Cursors {
        Cursors { head: Head { word: AtomicU64::new(0) }, tail: Tail { word: AtomicU64::new(0) } }
    }

    /// Consumer, who has read up to `head`: how far is committed. `None`: further than there is
    /// room for, or the shared memory says that it has read up to elsewhere.
    #[inline]
    pub fn committed(&self, head: u64, capacity: usize) -> Option<u64> {
        let tail = self.tail.word.load(Ordering::Acquire);
        let is_sound = tail.wrapping_sub(head) <= capacity as u64 && self.head.word.load(Ordering::Relaxed) == head;
        is_sound.then_some(tail)
    }

    /// Consumer: gives back the room before `head`.
    #[inline]
    pub fn release(&self, head: u64) {
        self.head.word.store(head, Ordering::Release);
    }

    /// Whether everything committed has been read. For either side, and for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.word.load(Ordering::Acquire) == self.tail.word.load(Ordering::Acquire)
    }

    /// Consumer, when no producer is alive: an empty stream again.
    pub fn reset(&self) {
        self.head.word.store(0, Ordering::Release);
        self.tail.word.store(0, Ordering::Release);
    }
}
