//! The head of the task ring as a worker has it: claiming frames. Runs in a worker's only thread.

use std::io;

use super::frames::{Frame, HEADER, footprint};
use super::tasks::MAX_REPLACEMENT;
use super::{Cursor, TaskRing};
use crate::begun::MAX_CLAIM_FRAMES;
use crate::block::Holder;
use crate::fault::{Step, point};
use crate::lease::{MAX_CLAIM_BYTES, Slot};
use crate::primitive::Ordering;

/// The longest frame that a worker claims without mapping the ring. It is copied twice.
const SHORT: usize = 64 << 10;

/// The limits of what one claim takes. It takes at least one frame if there is any.
#[derive(Clone, Copy, Debug)]
pub struct ClaimLimit {
    /// At most this many frames; never more than 64.
    pub max_frames: usize,
    /// No further frame once this many bytes are taken; 1 MiB at most.
    pub max_bytes: usize,
}

/// The task ring, its head locked for a worker. Unlocks when dropped.
#[derive(Debug)]
pub struct WorkerHead<'a> {
    ring: &'a TaskRing,
    holder: Holder,
}

impl TaskRing {
    /// Worker: locks the end where frames are claimed.
    pub fn lock_for(&self, slot: u32) -> WorkerHead<'_> {
        let holder = Holder::Worker(slot);
        // Without a deadline it ends with the lock.
        self.words.lock.lock(holder, None);
        point(Step::HeadLocked);
        WorkerHead { ring: self, holder }
    }

    /// Worker: maps the part that holds frames.
    ///
    /// # Errors
    ///
    /// If this process may have no more addresses.
    pub(crate) fn map(&self) -> io::Result<()> {
        self.frames.map(self.words.ends.capacity()).map(drop)
    }

    /// Worker: returns whether there is no frame to claim. Works without the lock: for a gate's
    /// condition.
    #[inline]
    pub fn looks_empty(&self) -> bool {
        self.words.ends.is_empty()
    }
}

impl WorkerHead<'_> {
    /// Returns how many frames are queued. There may be more, if some are being pushed.
    pub fn len(&self) -> u64 {
        self.ring.words.ends.tail(Ordering::Acquire).since(self.head()).1
    }

    /// Returns whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves frames into the inbox of `slot`, which must be this holder's. Returns how many.
    ///
    /// # Errors
    ///
    /// If a frame is invalid, or there is no memory for the oldest.
    pub fn claim(&mut self, slot: &Slot, limit: ClaimLimit) -> io::Result<usize> {
        let (ends, from) = (&self.ring.words.ends, self.head());
        let laid = self.ring.frames.map(ends.capacity())?;
        let (mut to, mut used, mut claimed) = (from, 0, 0);
        while claimed < limit.max_frames.clamp(1, MAX_CLAIM_FRAMES)
            && (claimed == 0 || used < limit.max_bytes.min(MAX_CLAIM_BYTES))
        {
            let Some(frame) = laid.next(ends, to)? else { break };
            if !frame.is_void {
                if used + HEADER + frame.len > slot.inbox.len() {
                    break;
                }
                match slot.make_room(used, frame.len) {
                    Ok(()) => {}
                    Err(_) if claimed > 0 => break,
                    Err(error) => return Err(error),
                }
                used = slot.put(claimed, used, laid.content(to, frame));
                claimed += 1;
            }
            to = to.behind(footprint(frame.len));
        }
        Ok(self.commit(slot, from, to, claimed))
    }

    /// Claims the oldest frame where [`claim`](WorkerHead::claim) found no memory for it. Returns
    /// the number of frames claimed.
    ///
    /// A short frame is claimed without mapping the ring. A long one is taken off the ring, and the
    /// worker claims a replacement. `instead` makes it, up to 1 KiB, from the frame's first bytes,
    /// up to 64.
    ///
    /// # Errors
    ///
    /// If a frame is invalid, or there is no memory for its replacement either.
    pub fn claim_instead(&mut self, slot: &Slot, instead: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<usize> {
        let (ends, from) = (&self.ring.words.ends, self.head());
        let (capacity, tail) = (ends.capacity(), ends.tail(Ordering::Acquire));
        // The head is never ahead of the tail that was seen.
        ends.head.tail_seen.store(tail.0, Ordering::Relaxed);
        let mut to = from;
        while let Some((Frame { len, is_void }, beginning)) = self.ring.frames.read(capacity, to, tail, 64)? {
            let at = to;
            to = to.behind(footprint(len));
            if is_void {
                continue;
            }
            let whole = if len <= SHORT && slot.make_room(0, len).is_ok() {
                self.ring.frames.read(capacity, at, tail, len)?
            } else {
                None
            };
            let content = match whole {
                Some((_, content)) => content,
                None => {
                    let mut replacement = instead(&beginning);
                    replacement.truncate(MAX_REPLACEMENT);
                    slot.make_room(0, replacement.len())?;
                    replacement
                }
            };
            slot.put(0, 0, [&content, &[]]);
            return Ok(self.commit(slot, from, to, 1));
        }
        Ok(self.commit(slot, from, to, 0))
    }

    /// Commits a claim of this many frames, which are in the inbox: they are no longer in the ring.
    fn commit(&mut self, slot: &Slot, from: Cursor, to: Cursor, claimed: usize) -> usize {
        if claimed > 0 {
            point(Step::ClaimCopied);
            slot.words.from.store(from.0, Ordering::Relaxed);
            point(Step::ClaimLeased);
            slot.words.begun.set_claimed(claimed as u32);
            point(Step::ClaimCounted);
        }
        // If nothing is claimed, only void frames go.
        self.ring.words.ends.head.head.store(to.0, Ordering::Release);
        if claimed > 0 {
            point(Step::ClaimCommitted);
        }
        claimed
    }

    /// When its claim is finished: gives the memory of a large inbox back. It needs the lock, so
    /// that the parent is not copying out of the inbox.
    ///
    /// # Errors
    ///
    /// If memory cannot be given back.
    pub fn trim(&mut self, slot: &Slot) -> io::Result<()> {
        slot.trim()
    }

    fn head(&self) -> Cursor {
        self.ring.words.ends.head(Ordering::Relaxed)
    }
}

impl Drop for WorkerHead<'_> {
    fn drop(&mut self) {
        // If the word named another holder, the parent will find that.
        self.ring.words.lock.unlock(self.holder);
    }
}
