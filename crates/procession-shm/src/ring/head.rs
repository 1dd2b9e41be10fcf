//! The head of a ring: taking frames, claiming them for a worker, voiding them; and giving memory back when it is empty. In
//! any process that consumes, under the head's lock.

use std::io;
use std::marker::PhantomData;
use std::time::Instant;

use procession_sys::mutex::Acquired;

use super::{ClaimLimit, Cursor, HEADER, Ring, TailGuard, UNIT, footprint};
use crate::fault::{Step, point};
use crate::lease::{MOST_FRAMES, Slot};
use crate::primitive::Ordering;

/// A ring that has grown beyond this gives its memory back when it is empty.
const KEPT: u64 = if cfg!(loom) { 32 } else { 4 << 20 };
/// In a header: the frame is to be skipped.
const VOID: u64 = 1 << 63;

/// The ring, its head locked. Unlocks when dropped.
#[derive(Debug)]
pub struct HeadGuard<'a> {
    ring: &'a Ring,
    is_worker: bool,
    /// Only the thread that has locked a robust mutex may unlock it: the guard is not `Send`.
    _owner: PhantomData<*const ()>,
}

impl<'a> HeadGuard<'a> {
    pub(super) fn lock(ring: &'a Ring, holder: u32) -> io::Result<HeadGuard<'a>> {
        let acquired = ring.words.head_lock.lock()?;
        HeadGuard::locked(ring, holder, acquired)
    }

    /// As [`lock`](HeadGuard::lock), by the deadline, for one that is not a worker.
    pub(super) fn lock_until(ring: &'a Ring, deadline: Instant) -> io::Result<Option<HeadGuard<'a>>> {
        let acquired = ring.words.head_lock.lock_until(Some(deadline))?;
        acquired.map(|acquired| HeadGuard::locked(ring, 0, acquired)).transpose()
    }

    /// As [`lock`](HeadGuard::lock), if nobody holds it, for one that is not a worker.
    pub(super) fn try_lock(ring: &'a Ring) -> io::Result<Option<HeadGuard<'a>>> {
        let acquired = ring.words.head_lock.try_lock()?;
        acquired.map(|acquired| HeadGuard::locked(ring, 0, acquired)).transpose()
    }

    fn locked(ring: &'a Ring, holder: u32, acquired: Acquired) -> io::Result<HeadGuard<'a>> {
        if acquired == Acquired::OwnerDied {
            recover(ring)?;
        }
        let is_worker = holder != 0;
        if is_worker {
            ring.words.head.holder.store(holder, Ordering::Relaxed);
        }
        point(Step::HeadLocked);
        Ok(HeadGuard { ring, is_worker, _owner: PhantomData })
    }

    /// Frames queued: so many at least, and more when some are being pushed.
    pub fn len(&self) -> u64 {
        self.ring.tail(Ordering::Acquire).since(self.head()).1
    }

    /// Whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the oldest frame to `out` and takes it off; `false` if there is none.
    ///
    /// # Errors
    ///
    /// If the frame makes no sense, or memory cannot be mapped or given back.
    pub fn take(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let append = |[first, second]: [&[u8]; 2]| {
            out.extend_from_slice(first);
            out.extend_from_slice(second);
            Some(())
        };
        Ok(self.take_with(append)?.is_some())
    }

    /// Shows the oldest frame to `read`, in place and in two parts, and takes it off unless `read` gives `None`; `None` too if
    /// there is none.
    ///
    /// # Errors
    ///
    /// As [`take`](HeadGuard::take).
    pub fn take_with<T>(&mut self, read: impl FnOnce([&[u8]; 2]) -> Option<T>) -> io::Result<Option<T>> {
        self.ring.map()?;
        let mut head = self.head();
        let len = loop {
            match self.frame_at(head)? {
                None => return self.shrink().map(|()| None),
                Some(Frame { len, is_void: false }) => break len,
                Some(Frame { len, is_void: true }) => {
                    head = head.behind(footprint(len));
                    self.commit(head);
                }
            }
        };
        let Some(taken) = read(self.ring.parts(head.position() + HEADER as u64, len)) else { return Ok(None) };
        point(Step::TakeCopied);
        self.commit(head.behind(footprint(len)));
        point(Step::TakeCommitted);
        self.shrink()?;
        Ok(Some(taken))
    }

    /// Moves frames into the inbox of `slot`, whose holder this must be. Says how many.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense, or memory cannot be mapped or given back.
    pub fn claim(&mut self, slot: &Slot, limit: ClaimLimit) -> io::Result<usize> {
        self.ring.map()?;
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
            if let Err(error) = slot.make_room(used, len) {
                if frames > 0 {
                    break;
                }
                return Err(error);
            }
            used = slot.put(frames, used, self.ring.parts(to.position() + HEADER as u64, len));
            to = to.behind(footprint(len));
            frames += 1;
        }
        if frames == 0 {
            // Nothing, or nothing but void frames: these go without a claim.
            self.commit(to);
            self.shrink()?;
            return Ok(0);
        }
        self.commit_claim(slot, from, to, frames)
    }

    /// Worker, when there was no memory to claim the oldest frame: takes it off all the same, and claims in its place what
    /// `instead` makes of its first bytes, 64 at most. Says how many frames that are.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense, or there is no memory for its replacement either.
    pub fn claim_instead(&mut self, slot: &Slot, instead: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<usize> {
        let from = self.head();
        slot.words.hands.lay(0);
        point(Step::ClaimCleared);
        let tail = self.ring.tail(Ordering::Acquire);
        let mut at = from;
        let len = loop {
            if at == tail {
                self.commit(at);
                return Ok(0);
            }
            let header = self.ring.read(at.position(), HEADER)?;
            match self.frame_of(&header, tail.since(at).0)? {
                Frame { len, is_void: false } => break len,
                Frame { len, is_void: true } => at = at.behind(footprint(len)),
            }
        };
        let replacement = instead(&self.ring.read(at.position() + HEADER as u64, len.min(64))?);
        slot.make_room(0, replacement.len())?;
        slot.put(0, 0, [&replacement, &[]]);
        self.commit_claim(slot, from, at.behind(footprint(len)), 1)
    }

    /// The claimed frames are in the inbox.
    fn commit_claim(&mut self, slot: &Slot, from: Cursor, to: Cursor, frames: usize) -> io::Result<usize> {
        point(Step::ClaimCopied);
        slot.words.from.store(from.0, Ordering::Relaxed);
        point(Step::ClaimLeased);
        slot.words.hands.lay(frames as u32);
        point(Step::ClaimLaid);
        self.commit(to);
        point(Step::ClaimCommitted);
        self.shrink()?;
        Ok(frames)
    }

    /// Parent: cuts off what `slot` has claimed and not begun, and gives copies of it. Under the lock, so that no claim
    /// of the slot's is half made.
    ///
    /// # Errors
    ///
    /// If the slot makes no sense.
    pub fn take_back(&mut self, slot: &Slot) -> io::Result<Vec<Vec<u8>>> {
        slot.cut()
    }

    /// Marks every frame that begins with these bytes: no consumer gets it.
    ///
    /// # Errors
    ///
    /// If a frame makes no sense, or memory cannot be mapped.
    pub fn void(&mut self, beginning: [u8; 8]) -> io::Result<()> {
        self.ring.map()?;
        let mut at = self.head();
        while let Some(Frame { len, is_void }) = self.frame_at(at)? {
            // A header and the eight bytes behind it are one unit, and never meet the end.
            let [unit, _] = self.ring.parts(at.position(), UNIT as usize);
            if !is_void && len >= beginning.len() && unit[HEADER..] == beginning {
                self.ring.write(at.position(), &(len as u64 | VOID).to_le_bytes());
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

    fn commit(&self, head: Cursor) {
        self.ring.words.head.head.store(head.0, Ordering::Release);
    }

    fn shrink(&self) -> io::Result<()> {
        let capacity = self.ring.capacity();
        if capacity <= KEPT || !self.ring.is_empty() {
            return Ok(());
        }
        // A producer that is at it is about to fill the ring again.
        let Some(tail) = TailGuard::try_lock(self.ring)? else { return Ok(()) };
        if tail.is_empty() {
            // Twice the capacity: a growth that died before its commit has written there.
            self.ring.bytes.punch(0, capacity as usize * 2)?;
            point(Step::ShrinkPunched);
            self.ring.words.capacity.store(self.ring.initial, Ordering::Release);
            point(Step::ShrinkCommitted);
        }
        Ok(())
    }

    /// The frame at `at`; `None` behind the newest.
    fn frame_at(&self, at: Cursor) -> io::Result<Option<Frame>> {
        let seen = &self.ring.words.head.tail_seen;
        let mut tail = Cursor(seen.load(Ordering::Relaxed));
        if tail == at {
            tail = self.ring.tail(Ordering::Acquire);
            seen.store(tail.0, Ordering::Relaxed);
            if tail == at {
                return Ok(None);
            }
        }
        let (left, _) = tail.since(at);
        let [header, _] = self.ring.parts(at.position(), HEADER);
        self.frame_of(header, left).map(Some)
    }

    /// What a header says, with so many bytes between it and the tail.
    fn frame_of(&self, header: &[u8], left: u64) -> io::Result<Frame> {
        let header = u64::from_le_bytes(header.try_into().map_err(|_| senseless())?);
        let (len, is_void) = (header & !VOID, header & VOID != 0);
        if len > self.ring.longest() as u64 || footprint(len as usize) > left {
            return Err(senseless());
        }
        Ok(Frame { len: len as usize, is_void })
    }

    fn head(&self) -> Cursor {
        self.ring.head(Ordering::Relaxed)
    }
}

impl Drop for HeadGuard<'_> {
    fn drop(&mut self) {
        if self.is_worker {
            self.ring.words.head.holder.store(0, Ordering::Relaxed);
        }
        self.ring.words.head_lock.unlock();
    }
}

/// After the death of who held the head.
fn recover(ring: &Ring) -> io::Result<()> {
    let words = &ring.words.head;
    let holder = words.holder.load(Ordering::Relaxed) as usize;
    if let Some(slot) = holder.checked_sub(1).and_then(|index| ring.slots.get(index))
        && slot.words.from.load(Ordering::Relaxed) == words.head.load(Ordering::Relaxed)
    {
        slot.words.hands.lay(0);
    }
    point(Step::RecoveryVoided);
    words.holder.store(0, Ordering::Relaxed);
    ring.words.head_lock.mark_consistent()
}

/// What a frame's header says.
struct Frame {
    len: usize,
    is_void: bool,
}

fn senseless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame in the ring makes no sense: shared memory was overwritten")
}
