//! The tail of a ring: appending frames, and growth. In any process that produces, under the tail's lock.

use std::io;
use std::marker::PhantomData;
use std::time::Instant;

use procession_sys::mutex::Acquired;

use super::{Cursor, HEADER, Ring, RingFull, footprint};
use crate::fault::{Step, point};
use crate::primitive::Ordering;

/// The ring, its tail locked. Unlocks when dropped.
#[derive(Debug)]
pub struct TailGuard<'a> {
    ring: &'a Ring,
    /// For the head, if the ring must grow.
    deadline: Option<Instant>,
    /// Only the thread that has locked a robust mutex may unlock it: the guard is not `Send`.
    _owner: PhantomData<*const ()>,
}

impl<'a> TailGuard<'a> {
    pub(super) fn lock(ring: &'a Ring) -> io::Result<TailGuard<'a>> {
        let acquired = ring.words.tail_lock.lock()?;
        TailGuard::locked(ring, acquired, None)
    }

    /// As [`lock`](TailGuard::lock), by the deadline.
    pub(super) fn lock_until(ring: &'a Ring, deadline: Instant) -> io::Result<Option<TailGuard<'a>>> {
        let acquired = ring.words.tail_lock.lock_until(Some(deadline))?;
        acquired.map(|acquired| TailGuard::locked(ring, acquired, Some(deadline))).transpose()
    }

    /// As [`lock`](TailGuard::lock), if nobody holds it.
    pub(super) fn try_lock(ring: &'a Ring) -> io::Result<Option<TailGuard<'a>>> {
        let acquired = ring.words.tail_lock.try_lock()?;
        acquired.map(|acquired| TailGuard::locked(ring, acquired, None)).transpose()
    }

    fn locked(ring: &'a Ring, acquired: Acquired, deadline: Option<Instant>) -> io::Result<TailGuard<'a>> {
        if acquired == Acquired::OwnerDied {
            ring.words.tail_lock.mark_consistent()?;
        }
        point(Step::TailLocked);
        Ok(TailGuard { ring, deadline, _owner: PhantomData })
    }

    /// Frames queued: so many at most, and fewer when some are being taken.
    pub fn len(&self) -> u64 {
        self.ring.tail(Ordering::Relaxed).since(self.ring.head(Ordering::Acquire)).1
    }

    /// Whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let tail = self.ring.tail(Ordering::Relaxed);
        self.make_room(tail, room)?;
        self.ring.map().map_err(RingFull::NoMemory)?;
        let mut at = tail.position();
        self.ring.write(at, &(len as u64).to_le_bytes());
        at += HEADER as u64;
        for part in parts {
            self.ring.write(at, part);
            at += part.len() as u64;
        }
        point(Step::PushCopied);
        self.ring.words.tail.tail.store(tail.behind(room).0, Ordering::Release);
        point(Step::PushCommitted);
        Ok(())
    }

    /// Whether a push of these needs no growth.
    pub(crate) fn has_room(&self, parts: &[&[u8]]) -> bool {
        let room = footprint(parts.iter().map(|part| part.len()).sum());
        let (used, _) = self.ring.tail(Ordering::Relaxed).since(self.ring.head(Ordering::Acquire));
        used + room <= self.ring.capacity()
    }

    fn make_room(&self, tail: Cursor, room: u64) -> Result<(), RingFull> {
        let words = &self.ring.words.tail;
        let seen = tail.since(Cursor(words.head_seen.load(Ordering::Relaxed)));
        if seen.0 + room <= self.ring.capacity() && seen.1 + 1 < Cursor::COUNT {
            return Ok(());
        }
        let head = self.ring.head(Ordering::Acquire);
        words.head_seen.store(head.0, Ordering::Relaxed);
        let (used, frames) = tail.since(head);
        if frames + 1 >= Cursor::COUNT {
            return Err(RingFull::Reservation(used));
        }
        if used + room > self.ring.capacity() { self.grow(tail, room) } else { Ok(()) }
    }

    #[cold]
    fn grow(&self, tail: Cursor, room: u64) -> Result<(), RingFull> {
        // Consumers read where the capacity says, and must not be at it.
        let head = match self.deadline {
            None => self.ring.lock_head(0).map(Some),
            Some(deadline) => self.ring.lock_head_until(deadline),
        };
        let _head = head.map_err(|_| RingFull::Unusable)?.ok_or(RingFull::Busy)?;
        let from = self.ring.head(Ordering::Relaxed);
        let (used, _) = tail.since(from);
        let mut needed = self.ring.capacity();
        while used + room > needed {
            needed *= 2;
        }
        if needed > self.ring.bytes.len() as u64 {
            return Err(RingFull::Reservation(used));
        }
        self.ring.bytes.reserve(needed as usize).map_err(RingFull::NoMemory)?;
        while self.ring.capacity() < needed {
            let capacity = self.ring.capacity();
            let double = capacity * 2;
            // What lies at p mod C must lie at p mod 2C: the same place, or C higher.
            let (mut at, end) = (from.position(), from.position() + used);
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
        }
        Ok(())
    }
}

impl Drop for TailGuard<'_> {
    fn drop(&mut self) {
        self.ring.words.tail_lock.unlock();
    }
}
