//! The tail of a queue's ring: appending frames, and growth. Runs in any process that produces,
//! under the tail's lock.

use std::io;
use std::marker::PhantomData;

use procession_sys::mutex::Acquired;

use super::frames::footprint;
use super::{Cursor, Ring, RingFull};
use crate::fault::{Step, point};
use crate::primitive::Ordering;

/// The ring, its tail locked. Unlocks when dropped.
#[derive(Debug)]
pub struct TailGuard<'a> {
    ring: &'a Ring,
    /// Only the thread that has locked a robust mutex may unlock it: the guard is not `Send`.
    _owner: PhantomData<*const ()>,
}

impl<'a> TailGuard<'a> {
    pub(super) fn lock(ring: &'a Ring) -> io::Result<TailGuard<'a>> {
        let acquired = ring.words.tail_lock.lock()?;
        TailGuard::locked(ring, acquired)
    }

    /// As [`lock`](TailGuard::lock), if nobody holds it.
    pub(super) fn try_lock(ring: &'a Ring) -> io::Result<Option<TailGuard<'a>>> {
        let acquired = ring.words.tail_lock.try_lock()?;
        acquired.map(|acquired| TailGuard::locked(ring, acquired)).transpose()
    }

    fn locked(ring: &'a Ring, acquired: Acquired) -> io::Result<TailGuard<'a>> {
        if acquired == Acquired::OwnerDied {
            ring.words.tail_lock.mark_consistent()?;
        }
        point(Step::TailLocked);
        Ok(TailGuard { ring, _owner: PhantomData })
    }

    /// Returns how many frames are queued. There may be fewer, if some are being taken.
    pub fn len(&self) -> u64 {
        self.tail().since(self.ring.words.ends.head(Ordering::Acquire)).1
    }

    /// Returns whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a frame of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// [`RingFull`]; the ring is unchanged.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), RingFull> {
        let (frames, ends, tail) = (&self.ring.frames, &self.ring.words.ends, self.tail());
        let len = frames.len_of(parts)?;
        self.make_room(tail, footprint(len))?;
        let laid = frames.map(self.ring.capacity()).map_err(RingFull::of_window)?;
        ends.commit_tail(laid.append(tail, len, parts));
        Ok(())
    }

    /// Returns whether a push of these parts needs no growth.
    pub(crate) fn has_room(&self, parts: &[&[u8]]) -> bool {
        let room = footprint(parts.iter().map(|part| part.len()).sum());
        let (used, _) = self.tail().since(self.ring.words.ends.head(Ordering::Acquire));
        used + room <= self.ring.capacity()
    }

    fn make_room(&self, tail: Cursor, room: u64) -> Result<(), RingFull> {
        let (ring, words) = (self.ring, &self.ring.words);
        if tail.has_room(Cursor(words.head_seen.load(Ordering::Relaxed)), room, ring.capacity()) {
            return Ok(());
        }
        let head = words.ends.head(Ordering::Acquire);
        words.head_seen.store(head.0, Ordering::Relaxed);
        if tail.has_room(head, room, ring.capacity()) {
            return Ok(());
        }
        // Consumers read at the places that the capacity says, so they must not read now.
        let _head = ring.lock_head().map_err(|_| RingFull::Unusable)?;
        let head = words.ends.head(Ordering::Relaxed);
        ring.frames.grow(&words.ends, ring.capacity(), [head, tail], room).map(|_| ())
    }

    fn tail(&self) -> Cursor {
        self.ring.words.ends.tail(Ordering::Relaxed)
    }
}

impl Drop for TailGuard<'_> {
    fn drop(&mut self) {
        self.ring.words.tail_lock.unlock();
    }
}
