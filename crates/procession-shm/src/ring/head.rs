//! The head of a queue's ring: taking frames, and giving memory back when the ring is empty. Runs
//! in any process that consumes, under the head's lock.

use std::io;
use std::marker::PhantomData;

use procession_sys::mutex::Acquired;

use super::frames::{Frame, footprint};
use super::{Cursor, Ring, TailGuard};
use crate::fault::{Step, point};
use crate::primitive::Ordering;

/// The ring, its head locked. Unlocks when dropped.
#[derive(Debug)]
pub struct HeadGuard<'a> {
    ring: &'a Ring,
    /// Only the thread that has locked a robust mutex may unlock it: the guard is not `Send`.
    _owner: PhantomData<*const ()>,
}

impl<'a> HeadGuard<'a> {
    pub(super) fn lock(ring: &'a Ring) -> io::Result<HeadGuard<'a>> {
        let acquired = ring.words.head_lock.lock()?;
        HeadGuard::locked(ring, acquired)
    }

    /// As [`lock`](HeadGuard::lock), if nobody holds it.
    pub(super) fn try_lock(ring: &'a Ring) -> io::Result<Option<HeadGuard<'a>>> {
        let acquired = ring.words.head_lock.try_lock()?;
        acquired.map(|acquired| HeadGuard::locked(ring, acquired)).transpose()
    }

    fn locked(ring: &'a Ring, acquired: Acquired) -> io::Result<HeadGuard<'a>> {
        if acquired == Acquired::OwnerDied {
            ring.words.head_lock.mark_consistent()?;
        }
        point(Step::HeadLocked);
        Ok(HeadGuard { ring, _owner: PhantomData })
    }

    /// Returns how many frames are queued. There may be more, if some are being pushed.
    pub fn len(&self) -> u64 {
        self.ring.words.ends.tail(Ordering::Acquire).since(self.head()).1
    }

    /// Returns whether no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest frame and appends it to `out`. Returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// If the frame is invalid, or memory cannot be mapped or given back.
    pub fn take(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let append = |[first, second]: [&[u8]; 2]| {
            out.extend_from_slice(first);
            out.extend_from_slice(second);
            Some(())
        };
        Ok(self.take_with(append)?.is_some())
    }

    /// Shows the oldest frame to `read`, in place and in two parts, and takes it off unless `read`
    /// returns `None`. Returns `None` if there is no frame.
    ///
    /// # Errors
    ///
    /// As [`take`](HeadGuard::take).
    pub fn take_with<T>(&mut self, read: impl FnOnce([&[u8]; 2]) -> Option<T>) -> io::Result<Option<T>> {
        let (ends, head) = (&self.ring.words.ends, self.head());
        let laid = self.ring.frames.map(self.ring.capacity())?;
        let Some(frame) = laid.next(ends, head)? else { return self.shrink().map(|()| None) };
        let Frame { len, .. } = frame;
        let Some(taken) = read(laid.content(head, frame)) else { return Ok(None) };
        point(Step::TakeCopied);
        ends.head.head.store(head.behind(footprint(len)).0, Ordering::Release);
        point(Step::TakeCommitted);
        self.shrink()?;
        Ok(Some(taken))
    }

    fn shrink(&self) -> io::Result<()> {
        let capacity = self.ring.capacity();
        if !self.ring.frames.is_large(capacity) || !self.ring.is_empty() {
            return Ok(());
        }
        // A producer that holds the tail is about to fill the ring again.
        let Some(tail) = TailGuard::try_lock(self.ring)? else { return Ok(()) };
        if tail.is_empty() {
            self.ring.frames.shrink(&self.ring.words.ends, capacity)?;
        }
        Ok(())
    }

    fn head(&self) -> Cursor {
        self.ring.words.ends.head(Ordering::Relaxed)
    }
}

impl Drop for HeadGuard<'_> {
    fn drop(&mut self) {
        self.ring.words.head_lock.unlock();
    }
}
