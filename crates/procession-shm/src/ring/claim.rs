//! The head of the task ring as a worker has it: claiming frames. In a worker's only thread.

use std::io;

use super::frames::{HEADER, footprint};
use super::{Cursor, TaskRing};
use crate::block::Holder;
use crate::fault::{Step, point};
use crate::lease::{MAX_CLAIM_BYTES, MOST_FRAMES, Slot};
use crate::primitive::Ordering;

/// How much one claim may take. It takes at least one frame if there is any.
#[derive(Clone, Copy, Debug)]
pub struct ClaimLimit {
    /// At most so many frames; more than 64 are never taken at once.
    pub max_frames: usize,
    /// No further frame once so many bytes are taken; 1 MiB at most.
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

    /// Worker: whether there is no frame to claim. A look from outside the lock: for a gate's condition.
    #[inline]
    pub fn looks_empty(&self) -> bool {
        self.words.ends.is_empty()
    }
}

impl WorkerHead<'_> {
    /// Frames queued: so many at least, and more when some are being pushed.
    pub fn len(&self) -> u64 {
        self.ring.words.ends.tail(Ordering::Acquire).since(self.head()).1
    }

    /// Whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves frames into the inbox of `slot`, whose holder this must be. Says how many.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense.
    pub fn claim(&mut self, slot: &Slot, limit: ClaimLimit) -> io::Result<usize> {
        let (frames, ends, from) = (&self.ring.frames, &self.ring.words.ends, self.head());
        let capacity = frames.capacity(ends.capacity.load(Ordering::Relaxed));
        let (mut to, mut used, mut claimed) = (from, 0, 0);
        while claimed < limit.max_frames.clamp(1, MOST_FRAMES)
            && (claimed == 0 || used < limit.max_bytes.min(MAX_CLAIM_BYTES))
        {
            let Some(frame) = frames.next(ends, capacity, to)? else { break };
            if !frame.is_void {
                if used + HEADER + frame.len > slot.inbox.len() {
                    break;
                }
                used = slot.put(claimed, used, frames.content(capacity, to, frame));
                claimed += 1;
            }
            to = to.behind(footprint(frame.len));
        }
        if claimed > 0 {
            point(Step::ClaimCopied);
            slot.words.from.store(from.0, Ordering::Relaxed);
            point(Step::ClaimLeased);
            slot.words.hands.lay(claimed as u32);
            point(Step::ClaimLaid);
        }
        // Nothing but void frames go without a claim.
        ends.head.head.store(to.0, Ordering::Release);
        if claimed > 0 {
            point(Step::ClaimCommitted);
        }
        Ok(claimed)
    }

    /// When its claim is finished: gives the memory of a large inbox back. Under the lock, so that the parent is not copying out of
    /// it.
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
        // A word that named another is the parent's to find.
        self.ring.words.lock.unlock(self.holder);
    }
}
