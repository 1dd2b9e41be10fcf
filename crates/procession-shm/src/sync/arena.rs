//! An arena is a segment of many cells, so that 100,000 locks are a few fds and no names. A process
//! places its new cells in an arena of its own, one behind the other. Other processes map the arena
//! once, when a handle to one of its cells arrives.
//!
//! # When a cell's bytes are used again
//!
//! A cell that never left its process is free when its handle is dropped: its bytes are zeroed and
//! serve the next cell of the same length. Two events let a cell leave, and each is noted before it
//! can:
//!
//! - A handle is encoded, for whatever process. Then the cell's kind says `TRAVELS`.
//! - The process is forked. Then the count of forks differs from that of the cell's making.
//!
//! A cell that may have left is never used a second time. Nobody can know when its last handle is
//! gone: it may lie in a queue, in a message on a socket, or in a forked child that has not looked
//! at it yet. A count in shared memory would be wrong after the first kill. Its bytes go with the
//! arena, which is gone when the last handle into it is, in whatever process. A cell with a mutex
//! that a thread still holds is not used again either: see [`Held::keep`].
//!
//! Pages that no cell has touched take no memory.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | **making** 1. take bytes, of which this process alone knows | bytes that nobody uses |
//! | 2. write the cell | the same: a handle is made from a finished cell only |
//! | 3. its kind, **commit** | the cell |
//! | **sending** 1. its kind says `TRAVELS` | the cell, to which no handle was sent |
//! | **freeing**, of a cell that no other process knows 1. zero it | bytes that nobody uses |
//! | 2. put it on this process's list of free cells | the same |
//!
//! Handles that arrive are not trusted: an offset that is not a cell's, or a cell of another kind,
//! is an error.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_sys::memfd;
use procession_sys::named::{Identity, identity};
use procession_sys::per_process::{PerProcess, forks};

use super::Primitive;
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::{Placed, Segment, WeakSegment, Words};

/// Cells begin at multiples of this, and are as long as a multiple of it.
pub(crate) const UNIT: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"aren");
/// Raised with every change of the layout of any cell.
const VERSION: u32 = 1;
/// Of address space: 262,000 locks.
const RESERVATION: usize = 16 << 20;
/// An arena without cells is kept for the next cells if no more than this has been used of it.
const MAX_EMPTY: usize = 1 << 20;
/// From this length on, a free cell's pages are given back to the system.
const MIN_PUNCHED: usize = 64 << 10;
/// A bit of a cell's kind: a handle to it was encoded.
const TRAVELS: u32 = 1 << 31;

#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    /// Written last by the maker, and never again.
    magic: AtomicU32,
    version: AtomicU32,
}

// SAFETY: repr(C), nothing but atomics; zero is a header that `attach` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Header {}

/// The head of every cell.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// Written last by the maker. It never changes but for [`TRAVELS`].
    kind: AtomicU32,
    /// Written by the maker: a size, a number of parties, a bound. It never changes.
    pub(crate) measure: AtomicU32,
}

// SAFETY: repr(C), nothing but atomics; zero is the head of no cell.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Head {}

/// A cell: words that begin with a [`Head`].
pub(crate) trait Cell: Words {
    /// Tells kinds of cells apart. Neither 0 nor more than 31 bits.
    const KIND: u32;

    /// Returns its first field.
    fn head(&self) -> &Head;

    /// Returns how many bytes a cell of this measure takes; `None` if there can be no such cell.
    fn len(measure: u32) -> Option<usize>;

    /// Returns how many of its `len` bytes, from the first on, may have been written.
    fn written(&self, len: usize) -> usize {
        len
    }
}

/// A handle's reference to its cell. The last one is dropped with the handle; the cell is then free
/// if it never left.
#[derive(Debug)]
pub(crate) struct Held<C: Cell> {
    cell: Placed<C>,
    /// The length and the [count of forks](forks) with which this process made it; `None` if it
    /// came from another process.
    made: Option<(usize, u64)>,
}

impl<C: Cell> Held<C> {
    /// Returns its arena.
    pub(crate) fn segment(&self) -> &Segment {
        self.cell.segment()
    }

    /// Returns where in the arena it is.
    pub(crate) fn offset(&self) -> usize {
        self.cell.offset()
    }

    /// Never frees the cell, and leaves its arena mapped. A thread of this process holds a mutex in
    /// the cell, and glibc's and the kernel's list of that thread's mutexes goes through it.
    pub(crate) fn keep(&mut self) {
        self.made = None;
        std::mem::forget(self.cell.segment().clone());
    }

    /// Notes that another process may have a handle to it.
    fn send(&self) {
        let kind = &self.cell.head().kind;
        if kind.load(Ordering::Relaxed) & TRAVELS == 0 {
            kind.fetch_or(TRAVELS, Ordering::Relaxed);
        }
    }
}

impl<C: Cell> Deref for Held<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.cell
    }
}

impl<C: Cell> Drop for Held<C> {
    fn drop(&mut self) {
        let Some((len, made_at)) = self.made else { return };
        // A later fork cannot copy the handle to where a child reaches it: the handle is being
        // dropped.
        let has_left = forks() != made_at || self.cell.head().kind.load(Ordering::Relaxed) & TRAVELS != 0;
        if !has_left {
            // A cell that cannot be zeroed is not used again.
            let _ = wipe(&self.cell, len).map(|()| arenas().free(self.cell.segment(), self.cell.offset(), len));
        }
    }
}

/// Zeroes a cell that no handle refers to.
fn wipe<C: Cell>(cell: &Placed<C>, len: usize) -> io::Result<()> {
    let written = cell.written(len).min(len);
    if written < MIN_PUNCHED {
        cell.segment().zero(cell.offset(), written);
        return Ok(());
    }
    // The kernel zeroes the parts that are no whole page.
    cell.segment().punch(cell.offset(), written)
}

/// Makes a cell of this measure. `init` writes the words that must not be zero.
pub(crate) fn make<C: Cell>(measure: u32, init: impl FnOnce(&Held<C>) -> io::Result<()>) -> io::Result<Held<C>> {
    let len = C::len(measure).ok_or(io::ErrorKind::InvalidInput)?.next_multiple_of(UNIT);
    // Before anybody can have a copy of the handle.
    let forks = forks();
    let (segment, offset) = arenas().reserve(len)?;
    let cell = Held { cell: segment.words::<C>(offset), made: Some((len, forks)) };
    cell.head().measure.store(measure, Ordering::Relaxed);
    init(&cell)?;
    cell.head().kind.store(C::KIND, Ordering::Release);
    Ok(cell)
}

/// Returns the cell of this kind that another process, or this one, made there.
pub(crate) fn find<C: Cell>(fd: OwnedFd, offset: u64) -> io::Result<Held<C>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let segment = arenas().attach(fd)?;
    let outside = || invalid(format!("no cell can be at {offset} in an arena of {} bytes", segment.len()));
    let fits = |at: usize, len: usize| at.checked_add(len).is_some_and(|end| end <= segment.len());
    let at = usize::try_from(offset).map_err(|_| outside())?;
    if at < UNIT || !at.is_multiple_of(UNIT) || !fits(at, size_of::<Head>()) {
        return Err(outside());
    }
    let head = segment.words::<Head>(at);
    if head.kind.load(Ordering::Acquire) & !TRAVELS != C::KIND {
        return Err(invalid(format!("what is at {offset} in the arena is of another kind")));
    }
    let len = C::len(head.measure.load(Ordering::Relaxed));
    if !len.is_some_and(|len| len >= size_of::<C>() && fits(at, len)) {
        return Err(outside());
    }
    let cell = Held { cell: segment.words::<C>(at), made: None };
    // Also if the offset was made up, and this process has made the cell for itself.
    cell.send();
    Ok(cell)
}

fn arenas() -> MutexGuard<'static, Arenas> {
    static ARENAS: PerProcess<Mutex<Arenas>> = PerProcess::new(Mutex::default);
    ARENAS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The arenas that this process knows.
#[derive(Default)]
struct Arenas {
    /// The arenas with cells of this process, the oldest first.
    own: Vec<Own>,
    /// Keeps the last of these mapped: the next cell goes there.
    last: Option<Segment>,
    /// All arenas that are mapped. A mapping keeps its file open, so no other file has the same
    /// identity.
    known: HashMap<Identity, WeakSegment>,
}

/// An arena in which this process places cells.
struct Own {
    segment: WeakSegment,
    /// No byte from here on was ever used.
    used: usize,
    /// The number of cells that are not free.
    cells: usize,
    /// Free cells, all zeros, by their length.
    free: HashMap<usize, Vec<usize>>,
}

impl Own {
    fn reserve(&mut self, len: usize) -> Option<(Segment, usize)> {
        let segment = self.segment.upgrade()?;
        let offset = match self.free.get_mut(&len).and_then(Vec::pop) {
            Some(offset) => offset,
            None if segment.len() - self.used >= len => {
                self.used += len;
                self.used - len
            }
            None => return None,
        };
        self.cells += 1;
        Some((segment, offset))
    }
}

impl Arenas {
    fn reserve(&mut self, len: usize) -> io::Result<(Segment, usize)> {
        if let Some(reserved) = self.own.iter_mut().find_map(|own| own.reserve(len)) {
            return Ok(reserved);
        }
        // A shorter one where files may not be that long.
        let most = usize::try_from(memfd::max_len()).unwrap_or(usize::MAX);
        let segment = Segment::create("procession-arena", RESERVATION.min(most).max(UNIT + len))?;
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        self.note(identity(segment.as_fd())?, &segment);
        self.own.retain(|own| own.segment.upgrade().is_some());
        self.own.push(Own { segment: segment.downgrade(), used: UNIT + len, cells: 1, free: HashMap::new() });
        self.last = Some(segment.clone());
        Ok((segment, UNIT))
    }

    /// Takes back a cell of this process, which is all zeros.
    fn free(&mut self, segment: &Segment, offset: usize, len: usize) {
        let Some(index) = self.own.iter().position(|own| own.segment.is(segment)) else { return };
        let own = &mut self.own[index];
        own.cells -= 1;
        own.free.entry(len).or_default().push(offset);
        if own.cells == 0 && own.used > MAX_EMPTY {
            self.own.remove(index);
            self.last.take_if(|last| last.downgrade().is(segment));
        }
    }

    fn attach(&mut self, fd: OwnedFd) -> io::Result<Segment> {
        let identity = identity(fd.as_fd())?;
        if let Some(segment) = self.known.get(&identity).and_then(WeakSegment::upgrade) {
            return Ok(segment);
        }
        let segment = Segment::attach(fd)?;
        if segment.len() < UNIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is too short for an arena"));
        }
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the segment is not an arena, or one of another version",
            ));
        }
        self.note(identity, &segment);
        Ok(segment)
    }

    fn note(&mut self, identity: Identity, segment: &Segment) {
        self.known.retain(|_, known| known.upgrade().is_some());
        self.known.insert(identity, segment.downgrade());
    }
}

/// A handle of a cell.
pub(crate) trait Handle: Sized {
    type Cell: Cell;

    /// Returns the cell.
    fn cell(&self) -> &Held<Self::Cell>;

    /// Makes a handle of a cell that was made or found.
    fn at(cell: Held<Self::Cell>) -> io::Result<Self>;
}

impl<H: Handle> Primitive for H {
    fn fd(&self) -> BorrowedFd<'_> {
        self.cell().segment().as_fd()
    }

    fn offset(&self) -> u64 {
        self.cell().send();
        self.cell().offset() as u64
    }

    fn attach(fd: OwnedFd, offset: u64) -> io::Result<Self> {
        H::at(find(fd, offset)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use procession_sys::memfd;

    use super::*;
    use crate::sync::{Event, Lock, RLock};

    fn fd(primitive: &impl Primitive) -> OwnedFd {
        primitive.fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn cell_that_comes_back_is_the_same_and_mapped_once() {
        let event = Event::create().unwrap();
        let same = Event::attach(fd(&event), event.offset()).unwrap();
        event.set();
        assert!(same.is_set());
        assert_eq!(event.fd().as_raw_fd(), same.fd().as_raw_fd());
    }

    /// Drops the event, and returns whether a new event gets its cell.
    fn is_used_again(event: Event) -> bool {
        let place = (event.fd().as_raw_fd(), event.cell().offset());
        drop(event);
        // Other tests run in other threads, and take free cells, too.
        let others: Vec<Event> = (0..1000).map(|_| Event::create().unwrap()).collect();
        let is_used = others.iter().any(|event| (event.fd().as_raw_fd(), event.cell().offset()) == place);
        assert!(others.iter().all(|event| !event.is_set()), "a cell is zeroed before it is used again");
        is_used
    }

    #[test]
    fn cell_that_never_left_is_used_again_and_one_that_did_is_not() {
        let make = || {
            let event = Event::create().unwrap();
            event.set();
            event
        };
        let used_again = (0..100).filter(|_| is_used_again(make())).count();
        assert!(used_again > 0, "not once in a hundred times");
        let sent = make();
        assert!(sent.offset() > 0);
        assert!(!is_used_again(sent), "its place was said to others");
        let guessed = make();
        let found = Event::attach(fd(&guessed), guessed.cell().offset() as u64).unwrap();
        assert!(!is_used_again(guessed), "another handle was made of a guess");
        assert!(found.is_set());
    }

    #[test]
    fn a_wrong_place_or_kind_is_an_error() {
        let lock = Lock::create().unwrap();
        for offset in [0, 1, 63, 64 + 1, lock.offset() + 8, 15 << 20, 16 << 20, u64::MAX - 63, u64::MAX] {
            let error = Lock::attach(fd(&lock), offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{offset}: {error}");
        }
        assert!(RLock::attach(fd(&lock), lock.offset()).is_err(), "it is a Lock");
        assert!(Lock::attach(fd(&lock), lock.offset()).is_ok());
        let other = memfd::create("other", 1 << 20).unwrap();
        assert!(Lock::attach(other, 64).is_err());
        assert!(Lock::attach(memfd::create("short", 8).unwrap(), 64).is_err());
        assert!(Lock::attach(memfd::from_bytes("unsealed", &[0; 4096]).unwrap(), 64).is_err());
    }
}
