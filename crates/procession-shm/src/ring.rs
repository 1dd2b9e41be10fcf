//! The ring: a queue of frames from many producers to many consumers, in shared memory, under a robust lock.
//!
//! Positions only grow; a frame at position *p* lies at *p* modulo the capacity, in two parts where it meets the end. One
//! word holds a position and the number of frames before it, so that one store commits both. A frame exists from the
//! store that advances `tail` and is gone from the store that advances `head`; nothing else says so, and so there is
//! nothing to repair: the next to lock after a death finds one of two valid states.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **push** 1. lock | nothing; the next locker is told that the owner died |
//! | 2. copy the frame behind `tail` | bytes that nobody sees |
//! | 3. `tail` := behind it, **commit** | the frame |
//! | **growth** 1. copy what a ring of twice the capacity expects elsewhere | bytes that nobody sees: the upper half is unused, and shrinking gives it back too |
//! | 2. capacity := twice, **commit** | the larger ring |
//! | **shrinking**, when empty 1. give the pages back | an empty ring all the same |
//! | 2. capacity := initial, **commit** | the smaller ring |
//! | **take** 1. copy out | the frame, still there |
//! | 2. `head` := behind it, **commit** | the frame is the dead consumer's: lost with it |
//! | **voiding** a frame: its header's mark := void, **commit** | a frame that every consumer skips |
//! | **claim** 1. hands off the last claim | frames still there; the claimer has nothing (it had finished) |
//! | 2. copy the frames into the inbox | the same |
//! | 3. `from` := `head` | the same |
//! | 4. hands on the frames | frames still there, and hands on their copies: **void** while `from` = `head` |
//! | 5. `head` := behind them, **commit** | the frames are the dead claimer's, and all of them are in its inbox |
//! | **trimming** a large inbox, when its claim is done 1. hands off, give the pages back | an inbox that still counts as large: the next worker in the slot trims it again |
//! | 2. filled := 0 | an empty inbox |
//!
//! Recovery, by the next to lock: if the dead holder was a claimer with `from` = `head`, take its hands off; mark the lock
//! consistent. A death in the middle of that is found by the next, who does the same.
//!
//! The capacity is a power of two and a reservation says how far it may grow; memory is used only where frames have been.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use procession_sys::mutex::{Acquired, RobustMutex};

use crate::fault::{Step, point};
use crate::lease::{MOST_FRAMES, Slot};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::segment::{Bytes, Placed, Segment, Words};

/// The capacity a ring begins with and returns to.
const INITIAL: u64 = 64 * 1024;
/// A ring that has grown beyond this gives its memory back when it is empty.
const KEPT: u64 = 4 << 20;
/// Positions are multiples of this, and a frame's header never meets the end.
const UNIT: u64 = 16;
const HEADER: usize = 8;
/// In a header: the frame is to be skipped.
const VOID: u64 = 1 << 63;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct RingWords {
    lock: RobustMutex,
    /// Bytes; 0 stands for the initial one. Changed under the lock, with one store.
    capacity: AtomicU64,
    /// Slot + 1 of the worker that holds the lock; 0 if it is not a worker.
    holder: AtomicU32,
    /// [`Cursor`] of the oldest frame. Changed under the lock, with one store.
    head: AtomicU64,
    /// [`Cursor`] behind the newest frame. Changed under the lock, with one store.
    tail: AtomicU64,
}

// SAFETY: repr(C); atomics and a process-shared mutex. Zero is an empty ring once `create` has made the mutex.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for RingWords {}

/// A position and the number of frames before it, each modulo its width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor(u64);

impl Cursor {
    const COUNT_BITS: u32 = 28;
    const COUNT: u64 = (1 << Self::COUNT_BITS) - 1;
    const POSITION: u64 = (1 << (64 - Self::COUNT_BITS)) - 1;

    fn position(self) -> u64 {
        (self.0 >> Self::COUNT_BITS) * UNIT
    }

    /// Behind a frame that takes `bytes` bytes, a multiple of the unit.
    fn behind(self, bytes: u64) -> Cursor {
        let units = ((self.0 >> Self::COUNT_BITS) + bytes / UNIT) & Self::POSITION;
        Cursor(units << Self::COUNT_BITS | (self.0 + 1) & Self::COUNT)
    }

    /// Bytes and frames from `from` to here. Positions wrap at 2^40 bytes, a multiple of every capacity.
    fn since(self, from: Cursor) -> (u64, u64) {
        let units = (self.0 >> Self::COUNT_BITS).wrapping_sub(from.0 >> Self::COUNT_BITS) & Self::POSITION;
        (units * UNIT, self.0.wrapping_sub(from.0) & Self::COUNT)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ring {
    words: Placed<RingWords>,
    bytes: Bytes,
    slots: Arc<[Slot]>,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

impl fmt::Display for RingFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingFull::TooLong { len, most } => write!(f, "it takes {len} bytes, and one frame may take {most}"),
            RingFull::Reservation(bytes) => write!(f, "{bytes} bytes are queued already"),
        }
    }
}

impl std::error::Error for RingFull {}

impl Ring {
    /// Makes the lock of a ring at `words`, once, before any other process has the segment.
    pub(crate) fn create(words: &Placed<RingWords>) -> io::Result<()> {
        words.lock.init()
    }

    /// The ring at `words` with its frames in `reservation`, claimed from by `slots`.
    pub(crate) fn at(segment: &Segment, words: usize, reservation: Bytes, slots: Arc<[Slot]>) -> Ring {
        Ring { words: segment.words(words), bytes: reservation, slots }
    }

    /// Takes the lock. `holder` is 0, or 1 more than the caller's slot.
    ///
    /// # Errors
    ///
    /// If the lock is beyond use, which takes a process that overwrites it.
    pub fn lock(&self, holder: u32) -> io::Result<RingGuard<'_>> {
        if self.words.lock.lock()? == Acquired::OwnerDied {
            self.recover()?;
        }
        self.words.holder.store(holder, Ordering::Relaxed);
        let guard = RingGuard { ring: self, initial: self.initial(), _owner: PhantomData };
        point(Step::Locked);
        Ok(guard)
    }

    /// Whether it holds no frame. A look from outside the lock: for a gate's condition.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.head.load(Ordering::Acquire) == self.words.tail.load(Ordering::Acquire)
    }

    fn recover(&self) -> io::Result<()> {
        let holder = self.words.holder.load(Ordering::Relaxed) as usize;
        if let Some(slot) = holder.checked_sub(1).and_then(|index| self.slots.get(index))
            && slot.words.from.load(Ordering::Relaxed) == self.words.head.load(Ordering::Relaxed)
        {
            slot.words.hands.lay(0);
        }
        point(Step::RecoveryVoided);
        self.words.lock.mark_consistent()
    }

    /// The longest frame, in bytes: one that fits any inbox.
    fn longest(&self) -> usize {
        self.slots.first().map_or(self.bytes.len(), |slot| slot.inbox.len()) - UNIT as usize
    }

    fn initial(&self) -> u64 {
        INITIAL.min(self.bytes.len() as u64)
    }
}

/// The ring, locked. Unlocks when dropped.
#[derive(Debug)]
pub struct RingGuard<'a> {
    ring: &'a Ring,
    initial: u64,
    /// Only the thread that has locked a robust mutex may unlock it: the guard is not `Send`.
    _owner: PhantomData<*const ()>,
}

impl RingGuard<'_> {
    /// Frames queued.
    pub fn len(&self) -> u64 {
        self.tail().since(self.head()).1
    }

    /// Whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.head() == self.tail()
    }

    /// Appends a frame of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// [`RingFull`]; the ring is as before.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), RingFull> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let most = self.ring.longest();
        if len > most {
            return Err(RingFull::TooLong { len, most });
        }
        let room = footprint(len);
        let (head, tail) = (self.head(), self.tail());
        let (used, frames) = tail.since(head);
        if frames + 1 >= Cursor::COUNT {
            return Err(RingFull::Reservation(used));
        }
        while used + room > self.capacity() {
            self.grow(head, used)?;
        }
        let mut at = tail.position();
        self.write(at, &(len as u64).to_le_bytes());
        at += HEADER as u64;
        for part in parts {
            self.write(at, part);
            at += part.len() as u64;
        }
        point(Step::PushCopied);
        self.ring.words.tail.store(tail.behind(room).0, Ordering::Release);
        point(Step::PushCommitted);
        Ok(())
    }

    /// Appends the oldest frame to `out` and takes it off; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If the frame makes no sense, or memory cannot be given back.
    pub fn take(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut head = self.head();
        let len = loop {
            match self.frame_at(head)? {
                None => return Ok(false),
                Some(Frame { len, is_void: false }) => break len,
                Some(Frame { len, is_void: true }) => {
                    head = head.behind(footprint(len));
                    self.ring.words.head.store(head.0, Ordering::Release);
                }
            }
        };
        let [first, second] = self.parts(head.position() + HEADER as u64, len);
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        point(Step::TakeCopied);
        self.ring.words.head.store(head.behind(footprint(len)).0, Ordering::Release);
        point(Step::TakeCommitted);
        self.shrink()?;
        Ok(true)
    }

    /// Moves frames into the inbox of `slot`, whose holder this must be. Says how many.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense, or memory cannot be given back.
    pub fn claim(&mut self, slot: &Slot, limit: ClaimLimit) -> io::Result<usize> {
        let from = self.head();
        slot.words.hands.lay(0);
        point(Step::ClaimCleared);
        let (mut to, mut used, mut frames) = (from, 0, 0);
        while frames < limit.max_frames.clamp(1, MOST_FRAMES) && (frames == 0 || used < limit.max_bytes) {
            let Some(Frame { len, is_void }) = self.frame_at(to)? else { break };
            if is_void {
                to = to.behind(footprint(len));
                continue;
            }
            if used + HEADER + len > slot.inbox.len() {
                break;
            }
            used = slot.put(frames, used, self.parts(to.position() + HEADER as u64, len));
            to = to.behind(footprint(len));
            frames += 1;
        }
        if frames == 0 {
            // Nothing, or nothing but void frames: these go without a claim.
            self.ring.words.head.store(to.0, Ordering::Release);
            self.shrink()?;
            return Ok(0);
        }
        point(Step::ClaimCopied);
        slot.words.from.store(from.0, Ordering::Relaxed);
        point(Step::ClaimLeased);
        slot.words.hands.lay(frames as u32);
        point(Step::ClaimLaid);
        self.ring.words.head.store(to.0, Ordering::Release);
        point(Step::ClaimCommitted);
        self.shrink()?;
        Ok(frames)
    }

    /// Parent: cuts off what `slot` has claimed and not begun, and gives copies of it. Under the lock, so that no claim
    /// of the slot's is half made.
    pub fn take_back(&mut self, slot: &Slot) -> Vec<Vec<u8>> {
        slot.cut()
    }

    /// Marks every frame that begins with these bytes: no consumer gets it.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense.
    pub fn void(&mut self, beginning: [u8; 8]) -> io::Result<()> {
        let mut at = self.head();
        while let Some(Frame { len, is_void }) = self.frame_at(at)? {
            // A header and the eight bytes behind it are one unit, and never meet the end.
            let [unit, _] = self.parts(at.position(), UNIT as usize);
            if !is_void && len >= beginning.len() && unit[HEADER..] == beginning {
                self.write(at.position(), &(len as u64 | VOID).to_le_bytes());
                point(Step::Voided);
            }
            at = at.behind(footprint(len));
        }
        Ok(())
    }

    /// Worker, when its claim is done: gives the memory of a large inbox back. Under the lock, so that nobody is copying
    /// out of it.
    ///
    /// # Errors
    ///
    /// If memory cannot be given back.
    pub fn trim(&mut self, slot: &Slot) -> io::Result<()> {
        slot.trim()
    }

    fn grow(&mut self, head: Cursor, used: u64) -> Result<(), RingFull> {
        let capacity = self.capacity();
        let double = capacity * 2;
        if double > self.ring.bytes.len() as u64 {
            return Err(RingFull::Reservation(used));
        }
        // What lies at p mod C must lie at p mod 2C: the same place, or C higher.
        let (mut at, end) = (head.position(), head.position() + used);
        while at < end {
            let piece = (capacity - at % capacity).min(end - at);
            if at % double >= capacity {
                let old = (at % capacity) as usize;
                self.ring.bytes.copy(old, old + capacity as usize, piece as usize);
            }
            at += piece;
        }
        point(Step::GrowCopied);
        self.ring.words.capacity.store(double, Ordering::Release);
        point(Step::GrowCommitted);
        Ok(())
    }

    fn shrink(&mut self) -> io::Result<()> {
        let capacity = self.capacity();
        if capacity <= KEPT || !self.is_empty() {
            return Ok(());
        }
        // Twice the capacity: a growth that died before its commit has written there.
        self.ring.bytes.punch(0, (capacity as usize * 2).min(self.ring.bytes.len()))?;
        point(Step::ShrinkPunched);
        self.ring.words.capacity.store(self.initial, Ordering::Release);
        point(Step::ShrinkCommitted);
        Ok(())
    }

    /// The frame at `at`; `None` behind the newest.
    fn frame_at(&self, at: Cursor) -> io::Result<Option<Frame>> {
        let (left, _) = self.tail().since(at);
        if left == 0 {
            return Ok(None);
        }
        let [header, _] = self.parts(at.position(), HEADER);
        let header = u64::from_le_bytes(header.try_into().map_err(|_| senseless())?);
        let (len, is_void) = (header & !VOID, header & VOID != 0);
        if len > self.ring.longest() as u64 || footprint(len as usize) > left {
            return Err(senseless());
        }
        Ok(Some(Frame { len: len as usize, is_void }))
    }

    fn parts(&self, position: u64, len: usize) -> [&[u8]; 2] {
        let capacity = self.capacity() as usize;
        let at = position as usize % capacity;
        let first = len.min(capacity - at);
        [self.ring.bytes.slice(at, first), self.ring.bytes.slice(0, len - first)]
    }

    fn write(&self, position: u64, source: &[u8]) {
        let capacity = self.capacity() as usize;
        let at = position as usize % capacity;
        let (first, second) = source.split_at(source.len().min(capacity - at));
        self.ring.bytes.write(at, first);
        self.ring.bytes.write(0, second);
    }

    fn capacity(&self) -> u64 {
        match self.ring.words.capacity.load(Ordering::Relaxed) {
            0 => self.initial,
            capacity => capacity,
        }
    }

    fn head(&self) -> Cursor {
        Cursor(self.ring.words.head.load(Ordering::Relaxed))
    }

    fn tail(&self) -> Cursor {
        Cursor(self.ring.words.tail.load(Ordering::Relaxed))
    }
}

impl Drop for RingGuard<'_> {
    fn drop(&mut self) {
        self.ring.words.holder.store(0, Ordering::Relaxed);
        self.ring.words.lock.unlock();
    }
}

/// What a frame's header says.
struct Frame {
    len: usize,
    is_void: bool,
}

fn footprint(len: usize) -> u64 {
    (HEADER + len).next_multiple_of(UNIT as usize) as u64
}

fn senseless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame in the ring makes no sense: shared memory was overwritten")
}
