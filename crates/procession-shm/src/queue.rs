//! A queue's segment: a ring, and gates to wait for items and for room. Used in any process that
//! has the memfd.
//!
//! A `put` is over when the frame is committed: nobody needs to read before the producer may exit,
//! and no thread feeds. What a death leaves is the ring's and, where a queue can be joined, its
//! takers'; a wake that dies with its waker is made up for by the gates.
//!
//! A process may *watch* the queue, to have a file descriptor readable while it holds frames. Then
//! a `put` is over when that is lit: who polls sees an item no later than its producer's end. The
//! header's word says how far the watcher is:
//!
//! | the word | set by | a `put` |
//! |---|---|---|
//! | unwatched | nobody has watched, or no longer; a producer that has waited too long | is over |
//! | dark | the watcher, which then looks once more whether the queue is empty | waits while there are frames |
//! | lit | the watcher, when it has lit | is over |
//!
//! A watcher that is dead or stopped holds one `put` up, for [`LIGHT_TIMEOUT`]. Of several watchers
//! the last counts.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_sys::mapping::Extent;

use crate::consumers::ConsumerTable;
use crate::fault::{Step, point};
use crate::gate::Gate;
use crate::interrupt;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence, futex_wait, futex_wake};
use crate::ring::{BEGINS_WITH, HeadGuard, Ring, RingFull, RingWords, TailGuard};
use crate::segment::{Placed, Segment, Words};
use crate::spin::Spin;
use crate::window::{File, FileWords, GRAIN, Window, WindowWords};

const MAGIC: u32 = u32::from_le_bytes(*b"queu");
/// Raised with every change of the layout.
const VERSION: u32 = 4;
/// How far the ring may grow.
const MAX_RING: usize = 8 << 30;
/// How often who joins looks whether somebody died with items in hand.
const DEATH_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a `put` waits for a watcher to light. It takes some 50 us.
const LIGHT_TIMEOUT: Duration = Duration::from_millis(200);
/// How often it looks meanwhile whether somebody took the item.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

const UNWATCHED: u32 = 0;
const DARK: u32 = 1;
const LIT: u32 = 2;

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
    /// 1 if it counts who has items and is not done with them.
    joinable: AtomicU32,
    /// [`UNWATCHED`], [`DARK`] or [`LIT`].
    light: AtomicU32,
    /// Consumers sleep here for frames.
    frames: Gate,
    /// Producers sleep here for room.
    room: Gate,
    /// Those who join sleep here for the last item to be done.
    finished: Gate,
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
    consumers: Placed<ConsumerTable>,
    spin: Spin,
}

/// What came of an attempt that waits for nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried<T> {
    /// It is done.
    Done(T),
    /// The queue is full, or empty.
    NotNow,
    /// Somebody else is at it, the ring must grow, or who watches is to light: only one who may
    /// wait can tell.
    Busy,
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
    /// A new one of at most `bound` frames; 0 is no bound. One that is joinable counts the items
    /// that are not done.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create(bound: u64, is_joinable: bool) -> io::Result<Queue> {
        let segment = Segment::create_growing("procession-queue", FIXED, FIXED + BEGINS_WITH)?;
        Ring::create(&segment.words::<RingWords>(size_of::<Header>()))?;
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.bound.store(bound, Ordering::Relaxed);
        header.joinable.store(is_joinable.into(), Ordering::Relaxed);
        let (queue, file, window) = Queue::map(segment, header);
        file.begin(FIXED + BEGINS_WITH);
        window.begin(Extent { offset: FIXED as u64, len: BEGINS_WITH });
        queue.header.magic.store(MAGIC, Ordering::Release);
        Ok(queue)
    }

    /// Maps one that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not one, or of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Queue> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let segment = Segment::attach_growing(fd, FIXED)?;
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the segment is not a queue's, or one of another version"));
        }
        Ok(Queue::map(segment, header).0)
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
        self.put_parts(&[frame], deadline)
    }

    /// As [`put`](Queue::put), a frame of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// [`NotPut`]; the queue is as before.
    pub fn put_parts(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<(), NotPut> {
        loop {
            if self.put_now(parts)? {
                self.header.frames.wake(1);
                self.await_light();
                return Ok(());
            }
            if interrupt::is_over_by(deadline) {
                return Err(NotPut::Full);
            }
            let news = || self.has_room() || self.is_closed();
            self.header.room.wait_until(deadline, &self.spin, news);
        }
    }

    /// As [`put_parts`](Queue::put_parts), without any wait.
    ///
    /// # Errors
    ///
    /// [`NotPut`] but for `Full`; the queue is as before.
    pub fn try_put(&self, parts: &[&[u8]]) -> Result<Tried<()>, NotPut> {
        if self.header.light.load(Ordering::Relaxed) == DARK {
            return Ok(Tried::Busy);
        }
        let Some(mut ring) = self.ring.try_lock_tail().map_err(NotPut::Broken)? else { return Ok(Tried::Busy) };
        if self.is_closed() {
            return Err(NotPut::Closed);
        }
        if self.is_full(&ring) {
            return Ok(Tried::NotNow);
        }
        if !ring.has_room(parts) {
            // It would have to grow, or what it has grown to be mapped.
            return Ok(Tried::Busy);
        }
        ring.push(parts).map_err(NotPut::Refused)?;
        drop(ring);
        self.header.frames.wake(1);
        Ok(Tried::Done(()))
    }

    /// Takes the oldest frame, which `read` sees in place and in two parts, unless `read` declines
    /// it with `None`. Without any wait, and nor may `read` wait: the head is locked.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use.
    pub fn try_get<T>(&self, read: impl FnOnce([&[u8]; 2]) -> Option<T>) -> io::Result<Tried<T>> {
        if self.ring.is_empty() {
            return Ok(Tried::NotNow);
        }
        let Some(mut head) = self.ring.try_lock_head()? else { return Ok(Tried::Busy) };
        let taken = self.take_with(&mut head, read)?;
        drop(head);
        if taken.is_some() && self.bound() > 0 {
            self.header.room.wake(1);
        }
        Ok(taken.map_or(Tried::NotNow, Tried::Done))
    }

    /// Takes the oldest frame, appended to `out`; waits for one until the deadline. `false`: there
    /// was none until then, or there is none and the queue is closed.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use.
    pub fn get(&self, out: &mut Vec<u8>, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            // Read first: what was put before the close is there to be taken after it.
            let is_closed = self.is_closed();
            if self.take(out)? {
                if self.bound() > 0 {
                    self.header.room.wake(1);
                }
                return Ok(true);
            }
            if is_closed || interrupt::is_over_by(deadline) {
                return Ok(false);
            }
            let news = || !self.ring.is_empty() || self.is_closed();
            self.header.frames.wait_until(deadline, &self.spin, news);
        }
    }

    /// Says that an item which was taken is done. `false`: none is unfinished.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use, or more processes use the queue than it has room for.
    pub fn done(&self) -> io::Result<bool> {
        let is_last = {
            let _head = self.ring.lock_head()?;
            if self.consumers.unfinished() == 0 {
                return Ok(false);
            }
            self.consumers.count(-1)?;
            self.is_finished()
        };
        if is_last {
            self.header.finished.wake(u32::MAX >> 1);
        }
        Ok(true)
    }

    /// Waits until every item that was put has been taken and is done, or died with its taker;
    /// `false` when the deadline came first.
    ///
    /// # Errors
    ///
    /// If shared memory is beyond use.
    pub fn join(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let look = Instant::now() + DEATH_CHECK_INTERVAL;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            if self.header.finished.wait_until(Some(until), &self.spin, || self.is_finished()) {
                return Ok(true);
            }
            {
                let _head = self.ring.lock_head()?;
                self.consumers.remove_dead();
            }
            if interrupt::is_over_by(deadline) {
                return Ok(self.is_finished());
            }
        }
    }

    /// Waits until there are frames, without taking any; `false` when the deadline came first. Who
    /// then takes none is to [`wake`](Queue::wake) another in its place.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let news = || !self.ring.is_empty() || self.is_closed();
        self.header.frames.wait_until(deadline, &self.spin, news)
    }

    /// Waits until there are frames, or it is closed, or `is_over`, without taking any.
    pub fn watch(&self, is_over: impl Fn() -> bool) {
        let news = || !self.ring.is_empty() || self.is_closed() || is_over();
        self.header.frames.wait_until(None, &Spin::none(), news);
    }

    /// Watcher: nothing is lit. It is to look once more whether the queue is empty, since a `put`
    /// may have found it lit.
    pub fn darken(&self) {
        self.header.light.store(DARK, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Watcher: it is lit.
    pub fn light(&self) {
        self.header.light.store(LIT, Ordering::Release);
        futex_wake(&self.header.light, u32::MAX >> 1);
    }

    /// Watcher: it watches no longer.
    pub fn unwatch(&self) {
        self.header.light.store(UNWATCHED, Ordering::Release);
        futex_wake(&self.header.light, u32::MAX >> 1);
    }

    /// Wakes so many who wait for frames, or watch.
    pub fn wake(&self, count: u32) {
        self.header.frames.wake(count);
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
            // Whoever is putting has put: nothing comes behind a consumer that finds the queue
            // closed and empty. A lock that is beyond use lets nobody put.
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

    /// After a `put`, and the fence of its wake: waits until who watches can see it.
    fn await_light(&self) {
        let light = &self.header.light;
        if light.load(Ordering::Acquire) != DARK {
            return;
        }
        let end = Instant::now() + LIGHT_TIMEOUT;
        while light.load(Ordering::Acquire) == DARK && !self.ring.is_empty() {
            if interrupt::is_over_by(Some(end)) {
                let _ = light.compare_exchange(DARK, UNWATCHED, Ordering::AcqRel, Ordering::Relaxed);
                return;
            }
            futex_wait(light, DARK, LOOK_INTERVAL);
        }
    }

    fn take(&self, out: &mut Vec<u8>) -> io::Result<bool> {
        if self.ring.is_empty() {
            return Ok(false);
        }
        let mut head = self.ring.lock_head()?;
        let append = |[first, second]: [&[u8]; 2]| {
            out.extend_from_slice(first);
            out.extend_from_slice(second);
            Some(())
        };
        Ok(self.take_with(&mut head, append)?.is_some())
    }

    fn take_with<T>(
        &self,
        head: &mut HeadGuard<'_>,
        read: impl FnOnce([&[u8]; 2]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        if self.header.joinable.load(Ordering::Relaxed) == 0 {
            return head.take_with(read);
        }
        if head.is_empty() {
            return Ok(None);
        }
        self.consumers.count(1)?;
        point(Step::TakeCounted);
        let taken = head.take_with(read)?;
        if taken.is_none() {
            self.consumers.count(-1)?;
        }
        Ok(taken)
    }

    /// Nothing is queued, and nobody has what was. The ring first: an item is its taker's before it
    /// is gone from there.
    fn is_finished(&self) -> bool {
        self.ring.is_empty() && self.consumers.unfinished() == 0
    }

    fn put_now(&self, parts: &[&[u8]]) -> Result<bool, NotPut> {
        let mut ring = self.ring.lock_tail().map_err(NotPut::Broken)?;
        // Under the lock, as `close` changes it.
        if self.is_closed() {
            return Err(NotPut::Closed);
        }
        if self.is_full(&ring) {
            return Ok(false);
        }
        ring.push(parts).map_err(NotPut::Refused)?;
        Ok(true)
    }

    fn is_full(&self, ring: &TailGuard<'_>) -> bool {
        self.bound() > 0 && ring.len() >= self.bound()
    }

    fn has_room(&self) -> bool {
        self.len() < self.bound()
    }

    /// The most frames it holds; 0 is no bound.
    pub fn bound(&self) -> u64 {
        self.header.bound.load(Ordering::Relaxed)
    }

    fn map(segment: Segment, header: Placed<Header>) -> (Queue, File, Window) {
        let file = File::of(&segment, FILE, MAX_RING);
        let window = Window::at(&file, WINDOW, MAX_RING);
        let ring = Ring::over(segment.words(RING), window.clone());
        let consumers = segment.words(CONSUMERS);
        // One producer and one consumer are the least that it serves.
        (Queue { segment, header, ring, consumers, spin: Spin::new(2) }, file, window)
    }
}

/// Where its words lie.
const RING: usize = size_of::<Header>();
const FILE: usize = RING + size_of::<RingWords>();
const WINDOW: usize = FILE + size_of::<FileWords>();
const CONSUMERS: usize = (WINDOW + size_of::<WindowWords>()).next_multiple_of(4096);
/// How much is always mapped.
const FIXED: usize = (CONSUMERS + size_of::<ConsumerTable>()).next_multiple_of(GRAIN);

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn a_put_waits_for_the_light_of_who_watches() {
        let (queue, is_lit) = (Queue::create(0, false).unwrap(), AtomicBool::new(false));
        queue.darken();
        assert_eq!(queue.try_put(&[b"one"]).unwrap(), Tried::Busy);
        thread::scope(|scope| {
            scope.spawn(|| {
                queue.watch(|| false);
                is_lit.store(true, Ordering::SeqCst);
                queue.light();
            });
            queue.put(b"one", None).unwrap();
            assert!(is_lit.load(Ordering::SeqCst) || queue.header.light.load(Ordering::SeqCst) == UNWATCHED);
        });
        queue.light();
        assert_eq!(queue.try_put(&[b"two"]).unwrap(), Tried::Done(()), "it is lit");
    }

    #[test]
    fn a_watcher_that_does_not_light_holds_one_put_up_and_no_other() {
        let queue = Queue::create(0, false).unwrap();
        queue.darken();
        queue.put(b"one", None).unwrap();
        assert_eq!(queue.try_put(&[b"two"]).unwrap(), Tried::Done(()));
        assert_eq!(queue.len(), 2);
    }
}
