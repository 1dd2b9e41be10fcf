//! A queue's segment: a ring, and gates to wait for items and for room. Used in any process that has the memfd.
//!
//! A `put` is over when the frame is committed: nobody needs to read before the producer may exit, and no thread feeds.
//! What a death leaves is the ring's; a wake that dies with its waker is made up for by the gates.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::gate::Gate;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::{Ring, RingFull, RingWords};
use crate::segment::{Placed, Segment, Words};
use crate::spin::Spin;

const MAGIC: u32 = u32::from_le_bytes(*b"queu");
/// Raised with every change of the layout.
const VERSION: u32 = 2;
/// How far the ring may grow.
const RESERVATION: usize = 8 << 30;

#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    /// Written last by the maker, and never again.
    magic: AtomicU32,
    version: AtomicU32,
    /// 1 once nothing more may be put.
    closed: AtomicU32,
    /// The most frames; 0 is no bound.
    bound: AtomicU64,
    /// Consumers sleep here for frames.
    frames: Gate,
    /// Producers sleep here for room.
    room: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is a header that `attach` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Header {}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    segment: Segment,
    header: Placed<Header>,
    ring: Ring,
    spin: Spin,
}

/// Why nothing was put.
#[derive(Debug)]
pub enum NotPut {
    /// It was full until the deadline.
    Full,
    /// It is closed.
    Closed,
    /// The ring cannot take it.
    Refused(RingFull),
    /// Shared memory is beyond use.
    Broken(io::Error),
}

impl Queue {
    /// A new one of at most `bound` frames; 0 is no bound.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create(bound: u64) -> io::Result<Queue> {
        let (segment, _) =
            Segment::create_within("procession-queue", |halvings| frames_at() + (RESERVATION >> halvings))?;
        Ring::create(&segment.words::<RingWords>(size_of::<Header>()))?;
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.bound.store(bound, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(Queue::map(segment, header))
    }

    /// Maps one that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not one, or of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Queue> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let segment = Segment::attach(fd)?;
        if segment.len() <= frames_at() {
            return Err(invalid("the segment is too short for a queue's"));
        }
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the segment is not a queue's, or one of another version"));
        }
        Ok(Queue::map(segment, header))
    }

    /// The memfd, to hand to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }

    /// Appends a frame; waits for room until the deadline, `None` being for ever.
    ///
    /// # Errors
    ///
    /// [`NotPut`]; the queue is as before.
    pub fn put(&self, frame: &[u8], deadline: Option<Instant>) -> Result<(), NotPut> {
        loop {
            if self.put_now(frame)? {
                self.header.frames.wake(1);
                return Ok(());
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(NotPut::Full);
            }
            let news = || self.has_room() || self.is_closed();
            self.header.room.wait_until(deadline, &self.spin, news);
        }
    }

    /// Takes the oldest frame, appended to `out`; waits for one until the deadline. `false`: there was none until then, or
    /// there is none and the queue is closed.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use.
    pub fn get(&self, out: &mut Vec<u8>, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            // Read first: what was put before the close is there to be taken after it.
            let is_closed = self.is_closed();
            if !self.ring.is_empty() && self.ring.lock_head(0)?.take(out)? {
                if self.bound() > 0 {
                    self.header.room.wake(1);
                }
                return Ok(true);
            }
            if is_closed || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
            let news = || !self.ring.is_empty() || self.is_closed();
            self.header.frames.wait_until(deadline, &self.spin, news);
        }
    }

    /// Frames in it.
    pub fn len(&self) -> u64 {
        self.ring.len()
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Lets nothing more be put, by anybody; what is there can be taken. Wakes all who wait.
    pub fn close(&self) {
        {
            // Whoever is putting has put: nothing comes behind a consumer that finds the queue closed and empty. A lock that is
            // beyond use lets nobody put.
            let _tail = self.ring.lock_tail();
            self.header.closed.store(1, Ordering::Release);
        }
        self.header.frames.wake(u32::MAX >> 1);
        self.header.room.wake(u32::MAX >> 1);
    }

    /// Whether nothing more may be put.
    pub fn is_closed(&self) -> bool {
        self.header.closed.load(Ordering::Acquire) != 0
    }

    fn put_now(&self, frame: &[u8]) -> Result<bool, NotPut> {
        let mut ring = self.ring.lock_tail().map_err(NotPut::Broken)?;
        // Under the lock, as `close` changes it.
        if self.is_closed() {
            return Err(NotPut::Closed);
        }
        if self.bound() > 0 && ring.len() >= self.bound() {
            return Ok(false);
        }
        ring.push(&[frame]).map_err(NotPut::Refused)?;
        Ok(true)
    }

    fn has_room(&self) -> bool {
        self.len() < self.bound()
    }

    fn bound(&self) -> u64 {
        self.header.bound.load(Ordering::Relaxed)
    }

    fn map(segment: Segment, header: Placed<Header>) -> Queue {
        let frames = segment.bytes(frames_at(), segment.len() - frames_at());
        let ring = Ring::at(&segment, size_of::<Header>(), frames, Arc::new([]));
        // One producer and one consumer are the least that it serves.
        Queue { segment, header, ring, spin: Spin::new(2) }
    }
}

const fn frames_at() -> usize {
    (size_of::<Header>() + size_of::<RingWords>()).next_multiple_of(4096)
}
