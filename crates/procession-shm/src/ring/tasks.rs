//! The task ring as a pool's parent has it: appending frames, growing and shrinking the ring,
//! taking claims back. Runs in threads of the parent.
//!
//! The parent alone appends, and alone changes the capacity. It keeps both numbers in its own
//! memory, and workers read copies in shared memory. Of the words that workers write it reads the
//! head and the headers of frames, and checks each where it reads it. [`TaskRing::check`] finds
//! copies that were overwritten.

use std::io;
use std::sync::PoisonError;
use std::time::Instant;

use super::frames::{Frames, capacity_of, footprint};
use super::lock::SlotLock;
use super::{Cursor, Ends, Overwritten, RingFull};
use crate::block::Holder;
use crate::fault::{Step, point};
use crate::lease::Slot;
use crate::primitive::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};
#[cfg(loom)]
use crate::segment::Window;
use crate::segment::{Placed, Words};
#[cfg(not(loom))]
use crate::window::Window;

/// The largest frame, in bytes, that a worker claims in the place of one for which it has no
/// memory.
pub(super) const MAX_REPLACEMENT: usize = 1024;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct TaskWords {
    pub(super) ends: Ends,
    pub(super) lock: SlotLock,
}

// SAFETY: repr(C), nothing but atomics; zero is an empty ring.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for TaskWords {}

#[cfg(loom)]
impl crate::segment::Zeroed for TaskWords {
    fn zeroed() -> TaskWords {
        TaskWords { ends: Ends::new(), lock: SlotLock::new() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct TaskRing {
    pub(super) words: Placed<TaskWords>,
    pub(super) frames: Frames,
    own: Own,
}

/// The parent's own numbers. A worker does not use them.
#[derive(Debug)]
struct Own {
    /// The tail's lock.
    pushing: Mutex<()>,
    tail: AtomicU64,
    capacity: AtomicU64,
    /// The head as a thread saw it last, and found it possible.
    head_seen: AtomicU64,
    /// The longest frame that was ever pushed.
    longest: AtomicU64,
    /// A thread of the parent holds the head.
    is_holding: AtomicBool,
    /// Somebody else changed the lock's word meanwhile.
    has_lost: AtomicBool,
}

impl TaskRing {
    /// Returns the ring with these words and its frames in `window`. Each frame must fit an inbox
    /// of `inbox` bytes.
    pub(crate) fn over(words: Placed<TaskWords>, window: Window, inbox: usize) -> TaskRing {
        let frames = Frames::new(window, inbox);
        let word = || AtomicU64::new(0);
        let own = Own {
            pushing: Mutex::new(()),
            tail: word(),
            capacity: AtomicU64::new(capacity_of(0)),
            head_seen: word(),
            longest: word(),
            is_holding: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
        };
        TaskRing { words, frames, own }
    }

    /// Onlooker: returns how many frames there are, at about this moment.
    pub fn observed_len(&self) -> u64 {
        self.words.ends.len()
    }

    /// Parent: locks the end where frames are appended.
    pub fn lock_tail(&self) -> ParentTail<'_> {
        let pushing = self.own.pushing.lock().unwrap_or_else(PoisonError::into_inner);
        point(Step::TailLocked);
        ParentTail { ring: self, head: None, _pushing: pushing }
    }

    /// Parent: as [`lock_tail`](TaskRing::lock_tail), with the other end locked too, so that the
    /// ring can grow. Returns `None` if a worker holds the head until the deadline.
    pub fn lock_both_until(&self, deadline: Instant) -> Option<ParentTail<'_>> {
        let head = self.lock_head_until(deadline)?;
        Some(ParentTail { head: Some(head), ..self.lock_tail() })
    }

    /// Parent: locks the end where frames are claimed. Returns `None` if a worker holds it until
    /// the deadline.
    pub fn lock_head_until(&self, deadline: Instant) -> Option<ParentHead<'_>> {
        self.words.lock.lock(Holder::Parent, Some(deadline)).then(|| ParentHead::locked(self))
    }

    fn try_lock_head(&self) -> Option<ParentHead<'_>> {
        self.words.lock.try_lock(Holder::Parent).then(|| ParentHead::locked(self))
    }

    /// Parent: returns whether no frame is queued.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn is_empty(&self) -> Result<bool, Overwritten> {
        Ok(self.bytes()? == 0)
    }

    /// Parent: returns how many bytes the queued frames take. There may be more, if some are being
    /// pushed.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn bytes(&self) -> Result<u64, Overwritten> {
        let head = self.head()?;
        // Read after the head, so it is not before the head.
        Ok(self.tail().since(head).0)
    }

    /// Parent: returns a number that changes with every frame that is pushed.
    pub fn pushed(&self) -> u64 {
        self.tail().0
    }

    /// Parent: returns the length in bytes of the longest frame that was ever pushed or claimed as
    /// a replacement.
    pub fn longest(&self) -> usize {
        (self.own.longest.load(Ordering::Relaxed) as usize).max(MAX_REPLACEMENT)
    }

    /// Parent: gives back the memory of a ring that has grown and is empty, if nobody holds an end.
    ///
    /// # Errors
    ///
    /// If memory cannot be given back; [`Overwritten`].
    pub fn shrink(&self) -> io::Result<()> {
        let capacity = self.capacity();
        if !self.frames.is_large(capacity) || !self.is_empty()? {
            return Ok(());
        }
        let tail = self.lock_tail();
        let Some(_head) = self.try_lock_head() else { return Ok(()) };
        if self.capacity() == capacity && self.is_empty()? {
            self.own.capacity.store(self.frames.shrink(&self.words.ends, capacity)?, Ordering::Relaxed);
        }
        drop(tail);
        Ok(())
    }

    /// Parent, when the worker of this slot is dead and before the slot has another: if the worker
    /// died with the head locked, voids its unfinished claim and unlocks.
    pub fn release(&self, index: u32, slot: &Slot) {
        if !self.words.lock.pass_on(index) {
            return;
        }
        let _head = ParentHead::locked(self);
        if slot.words.from.load(Ordering::Relaxed) == self.words.ends.head(Ordering::Relaxed).0 {
            slot.words.begun.set_claimed(0);
        }
    }

    /// Parent: returns the holder of the head: a thread of the parent, or the worker in one of
    /// `slots` slots.
    ///
    /// # Errors
    ///
    /// [`Overwritten`], if it can be none of them.
    pub fn holder(&self, slots: usize) -> Result<Option<Holder>, Overwritten> {
        self.words.lock.holder(slots as u32).map_err(|()| Overwritten("the lock of the task ring"))
    }

    /// Parent: returns whether one of its threads holds the head, according to the parent's own
    /// memory.
    pub fn is_held(&self) -> bool {
        self.own.is_holding.load(Ordering::Acquire)
    }

    /// Parent: checks that the words which only the parent writes are as it wrote them, and that
    /// the head is possible.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn check(&self) -> Result<(), Overwritten> {
        self.head()?;
        if self.own.has_lost.load(Ordering::Relaxed) {
            return Err(Overwritten("the lock of the task ring"));
        }
        // A thread that is pushing changes it now. The next check will do.
        let Ok(_pushing) = self.own.pushing.try_lock() else { return Ok(()) };
        let ends = &self.words.ends;
        if ends.tail(Ordering::Relaxed) != self.tail() {
            return Err(Overwritten("the tail of the task ring"));
        }
        if ends.capacity() != self.capacity() {
            return Err(Overwritten("the capacity of the task ring"));
        }
        Ok(())
    }

    /// The head, if it lies between its last value and the tail.
    fn head(&self) -> Result<Cursor, Overwritten> {
        // In this order: the head is not before its last value, nor behind the later tail.
        let seen = Cursor(self.own.head_seen.load(Ordering::Acquire));
        let head = self.words.ends.head(Ordering::Acquire);
        if head == seen {
            return Ok(head);
        }
        if !head.is_between(seen, self.tail()) {
            return Err(Overwritten("the head of the task ring"));
        }
        // A slow thread may store an older head, which serves as well.
        self.own.head_seen.store(head.0, Ordering::Release);
        Ok(head)
    }

    fn tail(&self) -> Cursor {
        Cursor(self.own.tail.load(Ordering::Acquire))
    }

    fn capacity(&self) -> u64 {
        self.own.capacity.load(Ordering::Relaxed)
    }
}

/// The task ring, its tail locked in the parent. Unlocks when dropped.
#[derive(Debug)]
pub struct ParentTail<'a> {
    ring: &'a TaskRing,
    /// The other end, if it was locked first. A thread that has the tail does not wait for the
    /// head.
    head: Option<ParentHead<'a>>,
    _pushing: MutexGuard<'a, ()>,
}

impl ParentTail<'_> {
    /// Appends a frame of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// [`RingFull`]; the ring is unchanged. It is `Busy` if the ring must grow and a worker holds
    /// its other end.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), RingFull> {
        let TaskRing { words, frames, own } = self.ring;
        let (len, tail) = (frames.len_of(parts)?, self.ring.tail());
        let room = footprint(len);
        if !tail.has_room(Cursor(own.head_seen.load(Ordering::Relaxed)), room, self.ring.capacity())
            && !tail.has_room(self.ring.head()?, room, self.ring.capacity())
        {
            // Consumers read at the places that the capacity says, so they must not read now.
            let held = if self.head.is_some() { None } else { Some(self.ring.try_lock_head().ok_or(RingFull::Busy)?) };
            let ends = [self.ring.head()?, tail];
            own.capacity.store(frames.grow(&words.ends, self.ring.capacity(), ends, room)?, Ordering::Relaxed);
            drop(held);
        }
        let laid = frames.map(self.ring.capacity()).map_err(RingFull::of_window)?;
        own.longest.fetch_max(len as u64, Ordering::Relaxed);
        let behind = laid.append(tail, len, parts);
        // Stored before workers see the frame: their head is never behind this tail.
        own.tail.store(behind.0, Ordering::Release);
        words.ends.commit_tail(behind);
        Ok(())
    }
}

/// The task ring, its head locked in the parent. Unlocks when dropped.
#[derive(Debug)]
pub struct ParentHead<'a> {
    ring: &'a TaskRing,
}

impl<'a> ParentHead<'a> {
    fn locked(ring: &'a TaskRing) -> ParentHead<'a> {
        ring.own.is_holding.store(true, Ordering::Release);
        ParentHead { ring }
    }

    /// Cuts off the frames that the worker of `slot` has claimed and not begun, and returns copies
    /// of them. It needs the lock, so that no claim of the slot is half made.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn take_back(&mut self, slot: &Slot) -> Result<Vec<Vec<u8>>, Overwritten> {
        slot.cut(self.ring.longest())
    }

    /// Voids every frame that begins with these bytes, so that no worker gets it.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn void(&mut self, beginning: [u8; 8]) -> Result<(), Overwritten> {
        self.void_where(|begun| begun == beginning)
    }

    /// Marks every frame whose first eight bytes `is_wanted` says to: no worker gets it.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn void_where(&mut self, mut is_wanted: impl FnMut([u8; 8]) -> bool) -> Result<(), Overwritten> {
        let overwritten = |_| Overwritten("a frame in the task ring");
        let (mut at, tail) = (self.ring.head()?, self.ring.tail());
        if at == tail {
            return Ok(());
        }
        // This process mapped these bytes when it pushed the frames, so the system cannot refuse it
        // now.
        let laid = self.ring.frames.map(self.ring.capacity()).map_err(overwritten)?;
        while let Some(frame) = laid.frame_at(at, tail).map_err(overwritten)? {
            laid.void(at, frame, &mut is_wanted);
            at = at.behind(footprint(frame.len));
        }
        Ok(())
    }
}

impl Drop for ParentHead<'_> {
    fn drop(&mut self) {
        self.ring.own.is_holding.store(false, Ordering::Release);
        if !self.ring.words.lock.unlock(Holder::Parent) {
            self.ring.own.has_lost.store(true, Ordering::Relaxed);
        }
    }
}
