//! A ring is a queue of frames from many producers to many consumers, in shared memory, under two
//! locks: one at the tail, where producers append, and one at the head, where consumers take. A
//! producer and a consumer do not wait for each other.
//!
//! There are two kinds, over the same [`Frames`] and the same words:
//!
//! | | [`Ring`], of a queue | [`TaskRing`], of a pool |
//! |---|---|---|
//! | producers | any process | threads of the parent |
//! | consumers | any process | workers; the parent takes claims back |
//! | the tail's lock | a robust mutex | a mutex of the parent's own memory |
//! | the head's lock | a robust mutex | one word that names its holder (`lock.rs`) |
//! | memory is given back by | any process that finds the ring empty | the parent |
//! | tail, capacity | in shared memory | the parent's own, of which workers see copies |
//!
//! The processes of a queue are equals. The parent of a pool must survive whatever its workers do
//! to their shared memory, so it checks every number that it reads there.
//!
//! Positions only grow. A frame at position *p* lies at *p* modulo the capacity, in two parts where
//! it meets the end. One word holds a position and the number of frames before it, so that one
//! store commits both. A frame exists from the store that advances `tail` until the store that
//! advances `head`. Nothing else says so, and so nothing needs repair: the next process to lock
//! after a death finds one of two valid states.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **push** 1. lock the tail | nothing; the next to lock a queue's tail learns that the owner died |
//! | 2. copy the frame behind `tail` | bytes that nobody sees |
//! | 3. `tail` := behind it, **commit** | the frame |
//! | **growth**, with the tail locked: 1. lock the head too | nothing |
//! | 2. lengthen the [window](crate::window) | a longer window, of which the ring uses a part |
//! | 3. copy the frames that a ring of twice the capacity expects elsewhere | bytes that nobody sees: the upper half is unused, and shrinking gives it back too |
//! | 4. capacity := twice, **commit** | the larger ring |
//! | **shrinking**, when empty, with one end locked: 1. lock the other too, or leave it | nothing |
//! | 2. give the pages back | an empty ring all the same |
//! | 3. capacity := initial, **commit** | the smaller ring |
//! | **take** (queue) 1. lock the head; copy out | the frame, still there |
//! | 2. `head` := behind it, **commit** | the frame is the dead consumer's: lost with it |
//! | **voiding** a frame (pool), with the head locked: its header's void bit := 1, **commit** | a frame that every consumer skips |
//! | **claim** (pool), with the head locked: 1. copy the frames into the inbox | frames still there; the worker has nothing |
//! | 2. `from` := `head` | the same |
//! | 3. count the frames as claimed | frames still there, and a claim of their copies: **void** while `from` = `head` |
//! | 4. `head` := behind them, **commit** | the frames are the dead worker's, and all of them are in its inbox |
//! | **finishing** a claim: count none, **commit** | nothing: all its results are committed |
//! | **trimming** a large inbox, when its claim is finished 1. give the pages back | an inbox that still counts as large: the next worker in the slot trims it again |
//! | 2. filled := 0 | an empty inbox |
//!
//! A dead holder's lock is recovered in two ways. In a queue, the next to lock marks it consistent.
//! In a pool, the parent takes the lock over when it learns of the death, voids the dead worker's
//! claim if its `from` = `head`, and unlocks.
//!
//! **No deadlock.** In a queue, the holder of the tail may wait for the head, and the holder of the
//! head only tries the tail. In a pool's parent it is the other way round, so that no thread waits
//! for a worker while it holds the tail. A process may be stopped while it holds either, so a
//! parent gives each wait a deadline.
//!
//! **The capacity** is a power of two. It changes with both locks held, so it is fixed for the
//! holder of either. It is never more than the window has; memory is used only where frames have
//! been. A process maps as much as the capacity before it reads or writes frames ([`Frames::map`]).
//! If it cannot, it takes and pushes nothing.
//!
//! `models/tests/ring.rs` checks the orderings, growth and shrinking included;
//! `models/tests/handover.rs` checks claims and their return.
//!
//! **Each side seldom looks at the other end.** It keeps the other's cursor as it saw it last
//! (`head_seen`, `tail_seen`) and looks again only when that does not suffice, so that a cache line
//! does not cross for each frame. The cursor it saw is never too far, since cursors only grow.

mod claim;
mod cursor;
mod frames;
mod head;
mod lock;
mod tail;
mod tasks;

use std::fmt;
use std::io;

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering, RobustMutex};
#[cfg(loom)]
use crate::segment::Window;
use crate::segment::{Placed, Words};
#[cfg(not(loom))]
use crate::window::Window;
pub use claim::{ClaimLimit, WorkerHead};
use cursor::{Cursor, UNIT};
#[cfg(not(loom))]
pub(crate) use frames::BEGINS_WITH;
use frames::{Frames, capacity_of};
pub use head::HeadGuard;
pub use tail::TailGuard;
#[cfg(not(loom))]
pub(crate) use tasks::TaskWords;
pub use tasks::{ParentHead, ParentTail, TaskRing};

/// The words that both rings have in shared memory, beside their locks.
#[derive(Debug)]
#[repr(C)]
struct Ends {
    tail: TailWords,
    head: HeadWords,
    /// In bytes; 0 stands for the initial one. It changes with one store, with both ends held.
    capacity: AtomicU64,
}

/// Changed under the tail's lock.
#[derive(Debug)]
#[repr(C, align(64))]
struct TailWords {
    /// [`Cursor`] behind the newest frame.
    tail: AtomicU64,
}

/// Changed under the head's lock.
#[derive(Debug)]
#[repr(C, align(64))]
struct HeadWords {
    /// [`Cursor`] of the oldest frame.
    head: AtomicU64,
    /// The tail as a consumer saw it last.
    tail_seen: AtomicU64,
}

impl Ends {
    #[cfg(loom)]
    fn new() -> Ends {
        let word = || AtomicU64::new(0);
        let (tail, head) = (TailWords { tail: word() }, HeadWords { head: word(), tail_seen: word() });
        Ends { tail, head, capacity: word() }
    }

    fn head(&self, order: Ordering) -> Cursor {
        Cursor(self.head.head.load(order))
    }

    fn tail(&self, order: Ordering) -> Cursor {
        Cursor(self.tail.tail.load(order))
    }

    /// The capacity in shared memory, for a process that does not keep its own.
    fn capacity(&self) -> u64 {
        capacity_of(self.capacity.load(Ordering::Relaxed))
    }

    fn commit_tail(&self, tail: Cursor) {
        self.tail.tail.store(tail.0, Ordering::Release);
        point(Step::PushCommitted);
    }

    /// Onlooker: returns how many frames there are, at about this moment.
    fn len(&self) -> u64 {
        let head = self.head(Ordering::Acquire);
        self.tail(Ordering::Acquire).since(head).1
    }

    /// Returns whether there is no frame. Works without the locks: for a gate's condition.
    fn is_empty(&self) -> bool {
        self.head(Ordering::Acquire) == self.tail(Ordering::Acquire)
    }
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct RingWords {
    tail_lock: RobustMutex,
    /// The head as a producer saw it last. Changed under the tail's lock.
    head_seen: AtomicU64,
    ends: Ends,
    head_lock: RobustMutex,
}

// SAFETY: repr(C); atomics and process-shared mutexes. Zero is an empty ring once `create` has made
// the mutexes.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for RingWords {}

#[cfg(loom)]
impl crate::segment::Zeroed for RingWords {
    fn zeroed() -> RingWords {
        let (tail_lock, head_lock) = (RobustMutex::new(), RobustMutex::new());
        RingWords { tail_lock, head_seen: AtomicU64::new(0), ends: Ends::new(), head_lock }
    }
}

/// The ring of a queue; see the module.
#[derive(Debug)]
pub struct Ring {
    words: Placed<RingWords>,
    frames: Frames,
}

/// A word in shared memory has a value that no protocol writes: a process that uses the memory has
/// overwritten it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overwritten(pub &'static str);

impl fmt::Display for Overwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was overwritten", self.0)
    }
}

impl std::error::Error for Overwritten {}

impl From<Overwritten> for io::Error {
    fn from(overwritten: Overwritten) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, overwritten)
    }
}

/// Why the ring cannot take the frame.
#[derive(Debug)]
pub enum RingFull {
    /// The frame is longer than a consumer can claim.
    TooLong {
        /// The bytes of the frame.
        len: usize,
        /// The most bytes of a frame.
        most: usize,
    },
    /// The ring has grown as far as it may, to this many bytes.
    Reservation(u64),
    /// The ring must grow, or this process must map more of it, and the system refuses.
    NoMemory(io::Error),
    /// The ring must grow, and another process holds its other end.
    Busy,
    /// A lock is damaged, because a process has overwritten it.
    Unusable,
    /// Its words are invalid.
    Overwritten(Overwritten),
}

impl fmt::Display for RingFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingFull::TooLong { len, most } => write!(f, "it takes {len} bytes, and one frame may take {most}"),
            RingFull::Reservation(bytes) => write!(f, "{bytes} bytes are queued already"),
            RingFull::NoMemory(error) => error.fmt(f),
            RingFull::Busy => f.write_str("a process that is stopped holds its lock"),
            RingFull::Unusable => f.write_str("its shared memory has been overwritten"),
            RingFull::Overwritten(what) => what.fmt(f),
        }
    }
}

impl std::error::Error for RingFull {}

impl From<Overwritten> for RingFull {
    fn from(overwritten: Overwritten) -> RingFull {
        RingFull::Overwritten(overwritten)
    }
}

impl RingFull {
    /// Says why the window of the ring could not grow or be mapped.
    fn of_window(error: io::Error) -> RingFull {
        match error.kind() {
            io::ErrorKind::InvalidData => RingFull::Overwritten(Overwritten("the record of where the ring lies")),
            _ => RingFull::NoMemory(error),
        }
    }
}

impl Ring {
    /// Makes the locks of a ring at `words`, once, before any other process has the segment.
    #[cfg(not(loom))]
    pub(crate) fn create(words: &Placed<RingWords>) -> io::Result<()> {
        words.tail_lock.init()?;
        words.head_lock.init()
    }

    /// Returns the ring with these words and its frames in `window`.
    pub(crate) fn over(words: Placed<RingWords>, window: Window) -> Ring {
        let most = window.len();
        Ring { words, frames: Frames::new(window, most) }
    }

    /// Locks the end where frames are appended.
    ///
    /// # Errors
    ///
    /// If the lock is damaged, because a process has overwritten it.
    pub fn lock_tail(&self) -> io::Result<TailGuard<'_>> {
        TailGuard::lock(self)
    }

    /// Locks the end where frames are taken.
    ///
    /// # Errors
    ///
    /// As [`lock_tail`](Ring::lock_tail).
    pub fn lock_head(&self) -> io::Result<HeadGuard<'_>> {
        HeadGuard::lock(self)
    }

    pub(crate) fn try_lock_tail(&self) -> io::Result<Option<TailGuard<'_>>> {
        TailGuard::try_lock(self)
    }

    pub(crate) fn try_lock_head(&self) -> io::Result<Option<HeadGuard<'_>>> {
        HeadGuard::try_lock(self)
    }

    /// Returns whether it holds no frame. Works without the locks: for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.ends.is_empty()
    }

    /// Returns how many frames it holds, at one moment.
    pub fn len(&self) -> u64 {
        let ends = &self.words.ends;
        loop {
            let head = ends.head(Ordering::Acquire);
            let tail = ends.tail(Ordering::Acquire);
            // The head has not moved meanwhile, so both were so when the tail was read.
            if head == ends.head(Ordering::Relaxed) {
                return tail.since(head).1;
            }
        }
    }

    fn capacity(&self) -> u64 {
        self.words.ends.capacity()
    }
}
