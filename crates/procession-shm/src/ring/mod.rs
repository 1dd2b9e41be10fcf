//! The ring: a queue of frames from many producers to many consumers, in shared memory, under two robust locks: one for
//! those who append at the tail, one for those who take at the head. A producer and a consumer do not wait for each other.
//!
//! Positions only grow; a frame at position *p* lies at *p* modulo the capacity, in two parts where it meets the end. One
//! word holds a position and the number of frames before it, so that one store commits both. A frame exists from the
//! store that advances `tail` and is gone from the store that advances `head`; nothing else says so, and so there is
//! nothing to repair: the next to lock after a death finds one of two valid states.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **push** 1. lock the tail | nothing; the next locker is told that the owner died |
//! | 2. copy the frame behind `tail` | bytes that nobody sees |
//! | 3. `tail` := behind it, **commit** | the frame |
//! | **growth**, with the tail locked: 1. lock the head too | nothing |
//! | 2. lengthen the [window](crate::window) | a longer window, of which the ring uses a part |
//! | 3. copy what a ring of twice the capacity expects elsewhere | bytes that nobody sees: the upper half is unused, and shrinking gives it back too |
//! | 4. capacity := twice, **commit** | the larger ring |
//! | **shrinking**, when empty, with the head locked: 1. lock the tail too, or leave it | nothing |
//! | 2. give the pages back | an empty ring all the same |
//! | 3. capacity := initial, **commit** | the smaller ring |
//! | **take** 1. lock the head; copy out | the frame, still there |
//! | 2. `head` := behind it, **commit** | the frame is the dead consumer's: lost with it |
//! | **voiding** a frame, with the head locked: its header's mark := void, **commit** | a frame that every consumer skips |
//! | **claim**, with the head locked: 1. hands off the last claim | frames still there; the claimer has nothing (it had finished) |
//! | 2. copy the frames into the inbox | the same |
//! | 3. `from` := `head` | the same |
//! | 4. hands on the frames | frames still there, and hands on their copies: **void** while `from` = `head` |
//! | 5. `head` := behind them, **commit** | the frames are the dead claimer's, and all of them are in its inbox |
//! | **trimming** a large inbox, when its claim is done 1. hands off, give the pages back | an inbox that still counts as large: the next worker in the slot trims it again |
//! | 2. filled := 0 | an empty inbox |
//!
//! Recovery, by the next to lock the head: if the dead holder was a claimer with `from` = `head`, take its hands off; mark
//! the lock consistent. A death in the middle of that is found by the next, who does the same. At the tail there is nothing
//! to do.
//!
//! **No deadlock.** Who holds the tail may wait for the head; who holds the head only tries the tail. A process may be stopped
//! while it holds either, so a parent gives each wait a deadline.
//!
//! **The capacity** is a power of two, changed with both locks held, and so fixed for who holds either. It is never more
//! than the window has; memory is used only where frames have been. A process maps as much as the capacity before it
//! reads or writes frames, and if it cannot, nothing is taken or pushed.
//!
//! `tests/loom_ring.rs` checks the orderings, growth and shrinking included; `tests/loom_handover.rs` what is claimed and taken back.
//!
//! **The other end is looked at rarely**: each side keeps what it saw of the other's cursor last (`head_seen`, `tail_seen`)
//! and looks again only when that does not suffice, so that a cache line does not cross for each frame. What was seen is
//! never too much: cursors only grow.

mod cursor;
mod head;
mod tail;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::lease::Slot;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, RobustMutex};
#[cfg(loom)]
use crate::segment::Window;
use crate::segment::{Placed, Words};
#[cfg(not(loom))]
use crate::window::Window;
use cursor::{Cursor, UNIT};
pub use head::HeadGuard;
pub use tail::TailGuard;

/// The capacity a ring begins with and returns to.
const INITIAL: u64 = if cfg!(loom) { 32 } else { 64 * 1024 };
const HEADER: usize = 8;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct RingWords {
    tail_lock: RobustMutex,
    tail: TailWords,
    head_lock: RobustMutex,
    head: HeadWords,
    /// Bytes; 0 stands for the initial one. Changed under both locks, with one store.
    capacity: AtomicU64,
}

/// Changed under the tail's lock.
#[derive(Debug)]
#[repr(C, align(64))]
struct TailWords {
    /// [`Cursor`] behind the newest frame.
    tail: AtomicU64,
    /// The head as a producer saw it last.
    head_seen: AtomicU64,
}

/// Changed under the head's lock.
#[derive(Debug)]
#[repr(C, align(64))]
struct HeadWords {
    /// [`Cursor`] of the oldest frame.
    head: AtomicU64,
    /// The tail as a consumer saw it last.
    tail_seen: AtomicU64,
    /// Slot + 1 of the worker that holds the lock; 0 if it is not a worker.
    holder: AtomicU32,
}

// SAFETY: repr(C); atomics and process-shared mutexes. Zero is an empty ring once `create` has made the mutexes.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for RingWords {}

#[cfg(loom)]
impl crate::segment::Zeroed for RingWords {
    fn zeroed() -> RingWords {
        let word = || AtomicU64::new(0);
        RingWords {
            tail_lock: RobustMutex::new(),
            tail: TailWords { tail: word(), head_seen: word() },
            head_lock: RobustMutex::new(),
            head: HeadWords { head: word(), tail_seen: word(), holder: AtomicU32::new(0) },
            capacity: word(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    words: Placed<RingWords>,
    bytes: Window,
    slots: Arc<[Slot]>,
    initial: u64,
}

/// How much one claim may take. It takes at least one frame if there is any.
#[derive(Clone, Copy, Debug)]
pub struct ClaimLimit {
    /// At most so many frames; more than 64 are never taken at once.
    pub max_frames: usize,
    /// No further frame once so many bytes are taken.
    pub max_bytes: usize,
}

/// The ring cannot take the frame.
#[derive(Debug)]
pub enum RingFull {
    /// The frame is longer than a consumer can claim.
    TooLong {
        /// Its bytes.
        len: usize,
        /// What they may be.
        most: usize,
    },
    /// The ring has grown to its reservation; its bytes.
    Reservation(u64),
    /// It would have to grow, or what it has grown to be mapped, and the system refuses that.
    NoMemory(io::Error),
    /// It would have to grow, and who holds the other end did not let go of it in time.
    Busy,
    /// A lock is beyond use, which takes a process that overwrites it.
    Unusable,
}

impl fmt::Display for RingFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingFull::TooLong { len, most } => write!(f, "it takes {len} bytes, and one frame may take {most}"),
            RingFull::Reservation(bytes) => write!(f, "{bytes} bytes are queued already"),
            RingFull::NoMemory(error) => error.fmt(f),
            RingFull::Busy => f.write_str("a process that is stopped holds its lock"),
            RingFull::Unusable => f.write_str("its shared memory has been overwritten"),
        }
    }
}

impl std::error::Error for RingFull {}

impl Ring {
    /// The bytes that it has when it is made.
    #[cfg(not(loom))]
    pub(crate) const BEGINS_WITH: usize = INITIAL as usize;

    /// Makes the locks of a ring at `words`, once, before any other process has the segment.
    #[cfg(not(loom))]
    pub(crate) fn create(words: &Placed<RingWords>) -> io::Result<()> {
        words.tail_lock.init()?;
        words.head_lock.init()
    }

    /// The ring with these words and its frames in `bytes`, claimed from by `slots`.
    pub(crate) fn over(words: Placed<RingWords>, bytes: Window, slots: Arc<[Slot]>) -> Ring {
        Ring { words, bytes, slots, initial: INITIAL }
    }

    /// Maps what holds frames, for who is to read or write some.
    #[inline]
    pub(crate) fn map(&self) -> io::Result<()> {
        self.bytes.map(self.capacity() as usize).map(drop)
    }

    /// Locks the end where frames are appended.
    ///
    /// # Errors
    ///
    /// If the lock is beyond use, which takes a process that overwrites it.
    pub fn lock_tail(&self) -> io::Result<TailGuard<'_>> {
        TailGuard::lock(self)
    }

    /// Locks the end where frames are taken. `holder` is 0, or 1 more than the caller's slot.
    ///
    /// # Errors
    ///
    /// As [`lock_tail`](Ring::lock_tail).
    pub fn lock_head(&self, holder: u32) -> io::Result<HeadGuard<'_>> {
        HeadGuard::lock(self, holder)
    }

    /// As [`lock_tail`](Ring::lock_tail), by the deadline: whoever holds the lock may be stopped. A push of the guard's waits no
    /// longer for the other end either, should the ring have to grow.
    ///
    /// # Errors
    ///
    /// As [`lock_tail`](Ring::lock_tail).
    pub fn lock_tail_until(&self, deadline: Instant) -> io::Result<Option<TailGuard<'_>>> {
        TailGuard::lock_until(self, deadline)
    }

    /// As [`lock_head`](Ring::lock_head) for who is not a worker, by the deadline.
    ///
    /// # Errors
    ///
    /// As [`lock_tail`](Ring::lock_tail).
    pub fn lock_head_until(&self, deadline: Instant) -> io::Result<Option<HeadGuard<'_>>> {
        HeadGuard::lock_until(self, deadline)
    }

    /// The threads that hold the locks of the head and of the tail, by their ids; 0 for nobody.
    pub fn holders(&self) -> [u32; 2] {
        [self.words.head_lock.holder(), self.words.tail_lock.holder()]
    }

    pub(crate) fn try_lock_tail(&self) -> io::Result<Option<TailGuard<'_>>> {
        TailGuard::try_lock(self)
    }

    pub(crate) fn try_lock_head(&self) -> io::Result<Option<HeadGuard<'_>>> {
        HeadGuard::try_lock(self)
    }

    /// Whether it holds no frame. A look from outside the locks: for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.head.head.load(Ordering::Acquire) == self.words.tail.tail.load(Ordering::Acquire)
    }

    /// How many frames it holds, at one moment.
    pub fn len(&self) -> u64 {
        loop {
            let head = self.head(Ordering::Acquire);
            let tail = self.tail(Ordering::Acquire);
            // The head has not moved meanwhile: both were so when the tail was read.
            if head == self.head(Ordering::Relaxed) {
                return tail.since(head).1;
            }
        }
    }

    /// How many bytes they take, or fewer if some are being pushed: for who decides whether to push more.
    pub fn bytes(&self) -> u64 {
        let head = self.head(Ordering::Acquire);
        // Read later, it is not before the head.
        self.tail(Ordering::Acquire).since(head).0
    }

    /// The longest frame, in bytes: one that fits any inbox.
    fn longest(&self) -> usize {
        self.slots.first().map_or(self.bytes.len(), |slot| slot.inbox.len()) - UNIT as usize
    }

    #[inline]
    fn parts(&self, position: u64, len: usize) -> [&[u8]; 2] {
        let capacity = self.capacity() as usize;
        let at = position as usize & (capacity - 1);
        let first = len.min(capacity - at);
        let bytes = self.bytes.mapped();
        [bytes.slice(at, first), if first < len { bytes.slice(0, len - first) } else { &[] }]
    }

    /// A copy of the bytes at a position, which need not be mapped.
    fn read(&self, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let capacity = self.capacity() as usize;
        let at = position as usize & (capacity - 1);
        let first = len.min(capacity - at);
        let mut bytes = self.bytes.read(at, first)?;
        bytes.extend(self.bytes.read(0, len - first)?);
        Ok(bytes)
    }

    fn write(&self, position: u64, source: &[u8]) {
        let capacity = self.capacity() as usize;
        let at = position as usize & (capacity - 1);
        let (first, second) = source.split_at(source.len().min(capacity - at));
        let bytes = self.bytes.mapped();
        bytes.write(at, first);
        if !second.is_empty() {
            bytes.write(0, second);
        }
    }

    fn capacity(&self) -> u64 {
        match self.words.capacity.load(Ordering::Relaxed) {
            0 => self.initial,
            capacity => capacity,
        }
    }

    fn head(&self, order: Ordering) -> Cursor {
        Cursor(self.words.head.head.load(order))
    }

    fn tail(&self, order: Ordering) -> Cursor {
        Cursor(self.words.tail.tail.load(order))
    }
}

/// The bytes that a frame takes.
fn footprint(len: usize) -> u64 {
    (HEADER + len).next_multiple_of(UNIT as usize) as u64
}
