//! The two positions of a stream: how far its producer has committed, and how far its consumer has
//! read. One side alone writes each position, with one store that is the commit.

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
    /// Read up to here. Never beyond `tail`. The consumer writes it.
    word: AtomicU64,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Tail {
    /// Committed up to here. Never more than the capacity beyond `head`. The producer writes it.
    word: AtomicU64,
}

/// The producer's copy in its own memory, so that it need not read back what others may overwrite.
#[derive(Debug)]
pub struct Produced {
    tail: AtomicU64,
    /// The head as the producer saw it last, never beyond `head`. The producer reads the head again
    /// only if it has no room, so that the consumer's cache line does not cross for each record.
    head_seen: AtomicU64,
}

impl Produced {
    /// Makes that of an empty stream.
    #[allow(clippy::new_without_default, reason = "beside Cursors::new")]
    pub fn new() -> Produced {
        Produced { tail: AtomicU64::new(0), head_seen: AtomicU64::new(0) }
    }

    /// Producer: returns where it writes next, and how much room there is: at least `wanted`, or
    /// all there is.
    #[inline]
    pub fn room(&self, cursors: &Cursors, capacity: usize, wanted: usize) -> (u64, usize) {
        let tail = self.tail.load(Ordering::Relaxed);
        let left = |head| capacity.saturating_sub(tail.wrapping_sub(head) as usize);
        let room = left(self.head_seen.load(Ordering::Relaxed));
        if room >= wanted {
            return (tail, room);
        }
        // Acquire: the consumer had read the bytes before it gave their room back.
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
    /// Makes those of an empty stream.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Cursors {
        Cursors { head: Head { word: AtomicU64::new(0) }, tail: Tail { word: AtomicU64::new(0) } }
    }

    /// Consumer, which has read up to `head`: returns how far the producer has committed. Returns
    /// `None` if that is further than there is room for, or if shared memory has another head.
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

    /// Returns how many bytes are committed and not read, at about this moment.
    pub fn len(&self) -> u64 {
        // The head first: it only grows, and never beyond the tail.
        let head = self.head.word.load(Ordering::Acquire);
        self.tail.word.load(Ordering::Acquire).saturating_sub(head)
    }

    /// Returns whether everything committed has been read. For either side, and for a gate's
    /// condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.word.load(Ordering::Acquire) == self.tail.word.load(Ordering::Acquire)
    }

    /// Consumer, when no producer is alive: makes the stream empty.
    pub fn reset(&self) {
        self.head.word.store(0, Ordering::Release);
        self.tail.word.store(0, Ordering::Release);
    }
}
