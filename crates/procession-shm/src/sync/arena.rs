//! The arena: a segment of many cells, so that 100,000 locks are a few fds and no names. A process places its new cells in
//! an arena of its own, one behind the other; others map it when a handle to one of its cells arrives, once.
//!
//! A cell is never used a second time: an arena is gone when the last handle into it is, in whatever process. Pages that no
//! cell has touched take no memory.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | 1. take the next bytes, of which this process alone knows | bytes that nobody uses |
//! | 2. write the cell | the same: a handle is made from a finished cell only |
//! | 3. its kind, **commit** | the cell |
//!
//! What arrives is not trusted: an offset that is not a cell's, or a cell of another kind, is an error.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use procession_sys::memfd;
use procession_sys::named::{Identity, identity};
use procession_sys::per_process::PerProcess;

use super::Primitive;
use crate::primitive::{AtomicU32, Ordering};
use crate::segment::{Placed, Segment, WeakSegment, Words};

/// Where cells begin, and a multiple of which every cell is long.
pub(crate) const UNIT: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"aren");
/// Raised with every change of the layout of any cell.
const VERSION: u32 = 1;
/// Of address space: 262,000 locks.
const RESERVATION: usize = 16 << 20;

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

/// What every cell begins with.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// Written last by the maker, and never again.
    kind: AtomicU32,
    /// Said by the maker: a size, a number of parties, a bound. Never changed.
    pub(crate) measure: AtomicU32,
}

// SAFETY: repr(C), nothing but atomics; zero is the head of no cell.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Head {}

/// A cell: words that begin with a [`Head`].
pub(crate) trait Cell: Words {
    /// Which cell it is. Never 0.
    const KIND: u32;

    /// Its first field.
    fn head(&self) -> &Head;

    /// How many bytes it takes that has this measure; `None` if none can have it.
    fn len(measure: u32) -> Option<usize>;
}

/// Makes a cell of this measure; `init` writes what must not be zero.
pub(crate) fn make<C: Cell>(measure: u32, init: impl FnOnce(&Placed<C>) -> io::Result<()>) -> io::Result<Placed<C>> {
    let len = C::len(measure).ok_or(io::ErrorKind::InvalidInput)?.next_multiple_of(UNIT);
    let (segment, offset) = arenas().reserve(len)?;
    let cell = segment.words::<C>(offset);
    cell.head().measure.store(measure, Ordering::Relaxed);
    init(&cell)?;
    cell.head().kind.store(C::KIND, Ordering::Release);
    Ok(cell)
}

/// The cell of this kind that another process, or this one, made there.
pub(crate) fn find<C: Cell>(fd: OwnedFd, offset: u64) -> io::Result<Placed<C>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let segment = arenas().attach(fd)?;
    let outside = || invalid(format!("no cell can be at {offset} in an arena of {} bytes", segment.len()));
    let fits = |at: usize, len: usize| at.checked_add(len).is_some_and(|end| end <= segment.len());
    let at = usize::try_from(offset).map_err(|_| outside())?;
    if at < UNIT || !at.is_multiple_of(UNIT) || !fits(at, size_of::<Head>()) {
        return Err(outside());
    }
    let head = segment.words::<Head>(at);
    if head.kind.load(Ordering::Acquire) != C::KIND {
        return Err(invalid(format!("what is at {offset} in the arena is of another kind")));
    }
    let len = C::len(head.measure.load(Ordering::Relaxed));
    if !len.is_some_and(|len| len >= size_of::<C>() && fits(at, len)) {
        return Err(outside());
    }
    Ok(segment.words::<C>(at))
}

fn arenas() -> MutexGuard<'static, Arenas> {
    static ARENAS: PerProcess<Mutex<Arenas>> = PerProcess::new(Mutex::default);
    ARENAS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those that this process knows.
#[derive(Default)]
struct Arenas {
    /// Where the next cell of this process goes, and how much of it is taken.
    current: Option<(Segment, usize)>,
    /// All that are mapped. A mapping keeps its file open, so that no other has the same identity.
    known: HashMap<Identity, WeakSegment>,
}

impl Arenas {
    fn reserve(&mut self, len: usize) -> io::Result<(Segment, usize)> {
        if let Some((segment, used)) = &mut self.current
            && segment.len() - *used >= len
        {
            *used += len;
            return Ok((segment.clone(), *used - len));
        }
        // Less where files may not be as long.
        let most = usize::try_from(memfd::max_len()).unwrap_or(usize::MAX);
        let segment = Segment::create("procession-arena", RESERVATION.min(most).max(UNIT + len))?;
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        self.note(identity(segment.as_fd())?, &segment);
        self.current = Some((segment.clone(), UNIT + len));
        Ok((segment, UNIT))
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

    /// Where it is.
    fn cell(&self) -> &Placed<Self::Cell>;

    /// A handle of the cell that was found.
    fn at(cell: Placed<Self::Cell>) -> io::Result<Self>;
}

impl<H: Handle> Primitive for H {
    fn fd(&self) -> BorrowedFd<'_> {
        self.cell().segment().as_fd()
    }

    fn offset(&self) -> u64 {
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
    fn what_is_sent_here_is_mapped_once_and_the_same() {
        let event = Event::create().unwrap();
        let same = Event::attach(fd(&event), event.offset()).unwrap();
        event.set();
        assert!(same.is_set());
        assert_eq!(event.fd().as_raw_fd(), same.fd().as_raw_fd());
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
