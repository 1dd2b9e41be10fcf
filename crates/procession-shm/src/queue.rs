//! A queue's segment: a ring, and gates to wait for items and for room. Used in any process that
//! has the memfd.
//!
//! A `put` is over when the frame is committed: the producer may exit before anybody reads, and no
//! thread feeds. The ring says what a death leaves; in a joinable queue the table of consumers
//! does, too. If a process dies before it has woken others, the gates make up for it.
//!
//! A process may *watch* the queue, to have a file descriptor that is readable while the queue
//! holds frames. Then a `put` is over when that descriptor is readable, or *lit*: a process that
//! polls sees an item no later than its producer's end. A word in the header says how far the
//! watcher is:
//!
//! | the word | set by | a `put` |
//! |---|---|---|
//! | unwatched | nobody has watched, or no longer; or a producer that has waited too long | is over |
//! | dark | the watcher, which then looks once more whether the queue is empty | waits while there are frames |
//! | lit | the watcher, when the descriptor is readable | is over |
//!
//! A watcher that is dead or stopped delays one `put`, by [`LIGHT_TIMEOUT`]. Of several watchers
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
/// The size to which the ring may grow.
const MAX_RING: usize = 8 << 30;
/// The interval at which `join` looks whether a process died with unfinished items.
const DEATH_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The time for which a `put` waits for a watcher to light its descriptor, which takes some 50 us.
const LIGHT_TIMEOUT: Duration = Duration::from_millis(200);
/// The interval at which the `put` looks meanwhile whether somebody took the item.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

const UNWATCHED: u32 = 0;
const DARK: u32 = 1;
const LIT: u32 = 2;

#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    /// Written last by the process that makes the queue, and never again.
    magic: AtomicU32,
    version: AtomicU32,
    /// 1 once nothing more may be put.
    closed: AtomicU32,
    /// The most frames; 0 is no bound.
    bound: AtomicU64,
    /// 1 if the queue counts unfinished items.
    joinable: AtomicU32,
    /// [`UNWATCHED`], [`DARK`] or [`LIT`].
    light: AtomicU32,
    /// Consumers sleep here for frames.
    frames: Gate,
    /// Producers sleep here for room.
    room: Gate,
    /// Processes in `join` sleep here until the last item is done.
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

/// The outcome of an attempt that does not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried<T> {
    /// It succeeded.
    Done(T),
    /// The queue is full, or empty.
    NotNow,
    /// Another process holds the lock, the ring must grow, or a watcher must light its descriptor.
    /// Only a call that waits can succeed.
    Busy,
}

/// The event that a queue is awaited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Frames to take.
    Frames,
    /// Room to put one.
    Room,
}

/// Why nothing was put.
#[derive(Debug)]
pub enum NotPut {
    /// The queue was full until the deadline.
    Full,
    /// The queue is closed.
    Closed,
    /// The ring cannot take the frame.
    Refused(RingFull),
    /// Shared memory is damaged.
    Broken(io::Error),
}

impl Queue {
    /// Makes a queue of at most `bound` frames; 0 is no bound. A joinable queue counts the items
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

    /// Maps a queue that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the memfd is not a queue's, or is one of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Queue> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let segment = Segment::attach_growing(fd, FIXED)?;
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the segment is not a queue's, or one of another version"));
        }
        Ok(Queue::map(segment, header).0)
    }

    /// Returns the memfd, to hand to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }

    /// Appends a frame. Waits for room until the deadline; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// [`NotPut`]; the queue is unchanged.
    pub fn put(&self, frame: &[u8], deadline: Option<Instant>) -> Result<(), NotPut> {
        self.put_parts(&[frame], deadline)
    }

    /// As [`put`](Queue::put), with a frame of all `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// [`NotPut`]; the queue is unchanged.
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

    /// As [`put_parts`](Queue::put_parts), without waiting.
    ///
    /// # Errors
    ///
    /// [`NotPut`] but for `Full`; the queue is unchanged.
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
            // The ring would have to grow, or this process would have to map more of it.
            return Ok(Tried::Busy);
        }
        ring.push(parts).map_err(NotPut::Refused)?;
        drop(ring);
        self.header.frames.wake(1);
        Ok(Tried::Done(()))
    }

    /// Takes the oldest frame, without waiting. `read` sees it in place and in two parts, and
    /// declines it by returning `None`. `read` must not wait, because the head is locked.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
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

    /// Takes the oldest frame and appends it to `out`. Waits for a frame until the deadline.
    /// Returns `false` if none came, or if the queue is empty and closed.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
    pub fn get(&self, out: &mut Vec<u8>, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            // Read first, so that frames from before the close are taken after it.
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

    /// Says that an item which was taken is done. Returns `false` if no item is unfinished.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged, or more processes use the queue than it has room for.
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

    /// Waits until every item that was put is done, or has died with its consumer. Returns `false`
    /// if the deadline came first.
    ///
    /// # Errors
    ///
    /// If shared memory is damaged.
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

    /// Waits until there are frames, without taking any. Returns `false` if the deadline came
    /// first. A caller that takes no frame afterwards must [`wake`](Queue::wake) another in its
    /// place.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let news = || !self.ring.is_empty() || self.is_closed();
        self.header.frames.wait_until(deadline, &self.spin, news)
    }

    /// Waits until one of several queues has [news](Queue::has_news), or `is_over` returns `true`,
    /// which is looked at after each wake of `bell`. A caller that takes no frame, or puts none,
    /// afterwards must [pass on](Queue::pass_on) what woke it.
    pub fn wait_any(waits: &[(&Queue, Side)], bell: &Gate, is_over: impl Fn() -> bool) {
        let gates = waits.iter().map(|(queue, side)| queue.gate(*side));
        let gates: Vec<&Gate> = std::iter::once(bell).chain(gates).collect();
        Gate::wait_at_any(&gates, || is_over() || waits.iter().any(|(queue, side)| queue.has_news(*side)));
    }

    /// Returns whether a call on this side would not wait now.
    pub fn has_news(&self, side: Side) -> bool {
        let is_open_to_it = match side {
            Side::Frames => !self.ring.is_empty(),
            Side::Room => self.bound() == 0 || self.has_room(),
        };
        is_open_to_it || self.is_closed()
    }

    /// Wakes another process that waits on this side, in the place of the caller.
    pub fn pass_on(&self, side: Side) {
        self.gate(side).wake(1);
    }

    fn gate(&self, side: Side) -> &Gate {
        match side {
            Side::Frames => &self.header.frames,
            Side::Room => &self.header.room,
        }
    }

    /// Waits, without taking any frame, until there are frames, or the queue is closed, or
    /// `is_over` returns `true`.
    pub fn watch(&self, is_over: impl Fn() -> bool) {
        let news = || !self.ring.is_empty() || self.is_closed() || is_over();
        self.header.frames.wait_until(None, &Spin::none(), news);
    }

    /// Watcher: says that its descriptor is not readable. It must look once more whether the queue
    /// is empty, since a `put` may have found it lit.
    pub fn darken(&self) {
        self.header.light.store(DARK, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Watcher: says that its descriptor is readable.
    pub fn light(&self) {
        self.header.light.store(LIT, Ordering::Release);
        futex_wake(&self.header.light, u32::MAX >> 1);
    }

    /// Watcher: stops watching.
    pub fn unwatch(&self) {
        self.header.light.store(UNWATCHED, Ordering::Release);
        futex_wake(&self.header.light, u32::MAX >> 1);
    }

    /// Wakes up to `count` processes that wait for frames, or watch.
    pub fn wake(&self, count: u32) {
        self.header.frames.wake(count);
    }

    /// Returns the number of frames.
    pub fn len(&self) -> u64 {
        self.ring.len()
    }

    /// Returns whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Closes the queue for every process: nothing more can be put, and the frames that are there
    /// can be taken. Wakes all waiters.
    pub fn close(&self) {
        {
            // The lock waits for producers in their `put`, so that no frame comes after a consumer
            // has found the queue closed and empty. If the lock is damaged, nobody can put.
            let _tail = self.ring.lock_tail();
            self.header.closed.store(1, Ordering::Release);
        }
        self.header.frames.wake(u32::MAX >> 1);
        self.header.room.wake(u32::MAX >> 1);
    }

    /// Returns whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.header.closed.load(Ordering::Acquire) != 0
    }

    /// After a `put`, and the fence of its wake: waits until a watcher's poll can see the item.
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

    /// Returns whether nothing is queued and no consumer has an unfinished item. The ring comes
    /// first: an item is counted for its consumer before it is gone from the ring.
    fn is_finished(&self) -> bool {
        self.ring.is_empty() && self.consumers.unfinished() == 0
    }

    fn put_now(&self, parts: &[&[u8]]) -> Result<bool, NotPut> {
        let mut ring = self.ring.lock_tail().map_err(NotPut::Broken)?;
        // Under the lock, because `close` changes it there.
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

    /// Returns the most frames that the queue holds; 0 is no bound.
    pub fn bound(&self) -> u64 {
        self.header.bound.load(Ordering::Relaxed)
    }

    fn map(segment: Segment, header: Placed<Header>) -> (Queue, File, Window) {
        let file = File::of(&segment, FILE, MAX_RING);
        let window = Window::at(&file, WINDOW, MAX_RING);
        let ring = Ring::over(segment.words(RING), window.clone());
        let consumers = segment.words(CONSUMERS);
        // At least one producer and one consumer use it.
        (Queue { segment, header, ring, consumers, spin: Spin::new(2) }, file, window)
    }
}

/// The place of its words.
const RING: usize = size_of::<Header>();
const FILE: usize = RING + size_of::<RingWords>();
const WINDOW: usize = FILE + size_of::<FileWords>();
const CONSUMERS: usize = (WINDOW + size_of::<WindowWords>()).next_multiple_of(4096);
/// The number of bytes that are always mapped.
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
