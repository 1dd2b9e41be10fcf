//! Blocks: large buffers beside the frames and records of a pool. The sender copies a buffer into
//! memory that it has used before, and the receiver reads it in place. Each *area* belongs to one
//! process, which alone makes blocks in it: the parent's area is for arguments, each worker's for
//! results.
//!
//! A block is an entry in its area's table. The entry says where the block lies, and one word says
//! who has it. The word also counts the uses of the entry, and a block's name is its entry and its
//! use, so that no receiver takes a block that is meant for another:
//!
//! ```text
//!         owner            receiver             receiver        owner
//! FREE ──────────▶ SENT ──────────────▶ HELD ──────────▶ SENT ──────────▶ FREE, of the next use
//! ```
//!
//! The owner alone frees an argument, since it may have to be sent again. The parent frees a result
//! when it lets go of it.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | 1. place and length in the entry | a free entry |
//! | 2. word := SENT, **commit** | a block without a receiver: a worker's is freed when the parent deals with the worker's death; the parent's pool dies with it |
//! | 3. copy the bytes | the same |
//! | 4. the frame or record that names it, **commit** | the receiver's block |
//! | taking: word := HELD, **commit** | a block of a dead holder: the parent puts it back to SENT |
//! | letting go: word := SENT or FREE, **commit** | a block that nobody holds |
//!
//! The word orders the bytes, too. A process that finds a block free or sent again comes after its
//! last reader, so it may write over the bytes. `models/tests/block.rs` checks that.
//!
//! An area is a [window](crate::window), which begins with the table. Its owner lengthens it when a
//! block finds no room. If the system refuses memory or addresses, no block is made. A receiver
//! maps the area as far as the block.
//!
//! A process that has forked since it took a block never lets go of it, because the child may still
//! read it. The block is *pinned* until the pool ends.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use procession_sys::per_process::forks;

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::segment::{Placed, Words};
#[cfg(loom)]
use crate::segment::{Window, WindowArray};
#[cfg(not(loom))]
use crate::window::{View, Window, WindowArray};

/// The most blocks of an area at once.
pub(crate) const ENTRIES: usize = if cfg!(loom) { 2 } else { 1024 };
/// Blocks begin and end at multiples of this.
const PAGE: usize = if cfg!(loom) { 16 } else { 4096 };

/// The lower half of a block's word: who has the block. The upper half counts uses.
const HOLDER: u64 = u32::MAX as u64;
const FREE: u64 = 0;
const SENT: u64 = 1;
const PINNED: u64 = 2;
/// Held by the parent; by the worker in slot *n*: *n* + 1 more.
const HELD: u64 = 3;

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry {
    word: AtomicU64,
    /// The beginning of its bytes in the area. The owner writes it.
    offset: AtomicU64,
    /// The number of bytes. The owner writes it.
    len: AtomicU64,
}

// SAFETY: repr(C), nothing but atomics; zero is a free entry of the use 0.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Entry {}

/// The number of entries of an area's table that have been used.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Used {
    entries: AtomicU64,
}

// SAFETY: repr(C), an atomic; zero is a table that was never used.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Used {}

#[cfg(loom)]
impl crate::segment::Zeroed for Entry {
    fn zeroed() -> Entry {
        Entry { word: AtomicU64::new(0), offset: AtomicU64::new(0), len: AtomicU64::new(0) }
    }
}

#[cfg(loom)]
impl crate::segment::Zeroed for Used {
    fn zeroed() -> Used {
        Used { entries: AtomicU64::new(0) }
    }
}

/// A block's name within its area: entry and use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockId(pub u64);

impl BlockId {
    fn of(entry: usize, uses: u64) -> BlockId {
        BlockId(uses << 32 | entry as u64)
    }

    fn entry(self) -> usize {
        self.0 as u32 as usize
    }

    fn word(self, holder: u64) -> u64 {
        self.0 & !HOLDER | holder
    }
}

/// The holder of a block of another process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The pool's parent.
    Parent,
    /// The worker in this slot.
    Worker(u32),
}

impl Holder {
    fn as_word(self) -> u64 {
        match self {
            Holder::Parent => HELD,
            Holder::Worker(slot) => HELD + 1 + u64::from(slot),
        }
    }
}

/// An area, as every process of the pool sees it.
#[derive(Clone, Debug)]
pub struct Area {
    used: Arc<Placed<Used>>,
    entries: Arc<WindowArray<Entry>>,
    bytes: Window,
}

impl Area {
    /// The number of bytes that the table takes, before those of the blocks.
    pub(crate) const TABLE: usize = (ENTRIES * size_of::<Entry>()).next_multiple_of(PAGE);

    pub(crate) fn at(used: Placed<Used>, bytes: Window) -> Area {
        Area { used: Arc::new(used), entries: Arc::new(bytes.array(0, ENTRIES)), bytes }
    }

    /// Receiver: takes a block that was sent to it.
    ///
    /// # Errors
    ///
    /// `NotFound` if the block is gone because its call has ended. `OutOfMemory` if this process
    /// may have no more addresses; the block is unchanged.
    pub fn take(&self, id: BlockId, holder: Holder) -> io::Result<Held> {
        let gone =
            || io::Error::new(io::ErrorKind::NotFound, "the block is gone: the call that it belongs to has ended");
        let entry = self.entries.get()?.get(id.entry()).ok_or_else(gone)?;
        let (sent, held) = (id.word(SENT), id.word(holder.as_word()));
        if entry.word.load(Ordering::Acquire) != sent {
            return Err(gone());
        }
        // As long as the word says SENT, the owner does not change these.
        let (offset, len) = (entry.offset.load(Ordering::Relaxed) as usize, entry.len.load(Ordering::Relaxed) as usize);
        let at = offset.checked_add(Self::TABLE).filter(|at| at.checked_add(len).is_some());
        let at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a block lies outside of its area"))?;
        let place = self.map(at, len)?;
        entry.word.compare_exchange(sent, held, Ordering::AcqRel, Ordering::Relaxed).map_err(|_| gone())?;
        point(Step::BlockHeld);
        Ok(Held { area: self.clone(), id, holder, place, len, forks: forks() })
    }

    /// Maps the `len` bytes at `at`. Maps them alone if there are too few addresses for all bytes
    /// before them.
    fn map(&self, at: usize, len: usize) -> io::Result<Place> {
        match self.bytes.map(at + len) {
            Ok(_) => Ok(Place::Area { at }),
            #[cfg(not(loom))]
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                let (view, skip) = self.bytes.map_alone(at, len)?;
                Ok(Place::Alone { view, skip })
            }
            Err(error) => Err(error),
        }
    }

    /// Parent: puts the blocks of its own area that the dead worker of this slot held back to SENT.
    ///
    /// # Errors
    ///
    /// If the area is invalid, or cannot be mapped.
    pub fn release_held_by(&self, slot: u32) -> io::Result<()> {
        let held = Holder::Worker(slot).as_word();
        for entry in self.entries()? {
            let word = entry.word.load(Ordering::Acquire);
            if word & HOLDER == held {
                let _ = entry.word.compare_exchange(word, word & !HOLDER | SENT, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Parent, when the worker that owns this area is dead and all its records are read: frees the
    /// blocks that no record named.
    ///
    /// # Errors
    ///
    /// As [`release_held_by`](Area::release_held_by).
    pub fn reclaim(&self) -> io::Result<()> {
        for entry in self.entries()? {
            let word = entry.word.load(Ordering::Acquire);
            if word & HOLDER == SENT {
                entry.free(word);
            }
        }
        Ok(())
    }

    /// The entries that have ever been used. Nobody touches the memory of the others.
    fn entries(&self) -> io::Result<&[Entry]> {
        match ENTRIES.min(self.used.entries.load(Ordering::Acquire) as usize) {
            0 => Ok(&[]),
            used => Ok(&self.entries.get()?[..used]),
        }
    }
}

impl Entry {
    /// Makes the entry free, for its next use.
    fn free(&self, word: u64) -> bool {
        self.word.compare_exchange(word, free_after(word), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The owner's part: which bytes of its area are free. It is private memory; a replacement reads it
/// from the table.
#[derive(Debug)]
pub struct Allocator {
    area: Area,
    /// Free ranges: from, to.
    free: BTreeMap<usize, usize>,
    /// The entries in use, with their ranges.
    used: BTreeMap<usize, (usize, usize)>,
    /// The free entries. The lowest are last, and used first.
    vacant: Vec<usize>,
    /// The end of the bytes that blocks have used.
    touched: usize,
}

impl Allocator {
    /// Makes the allocator of this area's owner. The area may have had another owner before.
    ///
    /// # Errors
    ///
    /// If the system refuses memory for the table, or its addresses.
    pub fn new(area: Area) -> io::Result<Allocator> {
        area.bytes.reserve(Area::TABLE)?;
        let free = BTreeMap::from([(0, area.bytes.len() - Area::TABLE)]);
        let mut allocator = Allocator { free, used: BTreeMap::new(), vacant: Vec::new(), touched: 0, area };
        for (index, entry) in allocator.area.clone().entries()?.iter().enumerate() {
            if entry.word.load(Ordering::Acquire) & HOLDER != FREE {
                let len = (entry.len.load(Ordering::Relaxed) as usize).min(allocator.area.bytes.len());
                let from = entry.offset.load(Ordering::Relaxed) as usize;
                let to = from.saturating_add(span(len));
                if allocator.cut(from, to) {
                    allocator.used.insert(index, (from, to));
                }
            }
        }
        allocator.vacant = (0..ENTRIES).rev().filter(|index| !allocator.used.contains_key(index)).collect();
        Ok(allocator)
    }

    /// The table, which `new` has mapped.
    fn table(&self) -> &[Entry] {
        self.area.entries.get().expect("the table is mapped")
    }

    /// Copies the bytes into a new block. Returns `None` if there is no room and the system gives
    /// no more.
    pub fn allocate(&mut self, bytes: &[u8]) -> Option<BlockId> {
        self.collect();
        let index = *self.vacant.last()?;
        let len = span(bytes.len());
        let (from, _) = self.free.iter().map(|(from, to)| (*from, *to)).find(|(from, to)| to - from >= len)?;
        // If this is refused, the bytes travel with the frame. The caller then learns whether there
        // is room for them.
        self.area.bytes.reserve(Area::TABLE + from + len).ok()?;
        self.cut(from, from + len);
        self.vacant.pop();
        self.used.insert(index, (from, from + len));
        self.touched = self.touched.max(from + len);
        let area = self.area.clone();
        let entry = &area.entries.get().ok()?[index];
        let uses = entry.word.load(Ordering::Relaxed) >> 32;
        let id = BlockId::of(index, uses);
        entry.offset.store(from as u64, Ordering::Relaxed);
        entry.len.store(bytes.len() as u64, Ordering::Relaxed);
        if self.area.used.entries.load(Ordering::Relaxed) <= index as u64 {
            self.area.used.entries.store(index as u64 + 1, Ordering::Release);
        }
        point(Step::BlockPlaced);
        entry.word.store(id.word(SENT), Ordering::Release);
        point(Step::BlockSent);
        self.area.bytes.write(Area::TABLE + from, bytes);
        point(Step::BlockCopied);
        Some(id)
    }

    /// Frees a block that is no longer needed. Returns `false` if the block is still held: the
    /// caller must try again.
    pub fn free(&mut self, id: BlockId) -> bool {
        let entry = &self.table()[id.entry()];
        let word = entry.word.load(Ordering::Acquire);
        // The block has another use or is pinned: nothing is left to do.
        word & !HOLDER != id.word(0) || word & HOLDER == PINNED || (word & HOLDER == SENT && entry.free(word))
    }

    /// Returns how many bytes blocks take.
    pub fn in_use(&mut self) -> usize {
        self.collect();
        self.used.values().map(|(from, to)| to - from).sum()
    }

    /// Gives the memory of free ranges back to the system, if it keeps any.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn trim(&mut self) -> io::Result<()> {
        if !self.keeps_memory() {
            return Ok(());
        }
        let touched = std::mem::take(&mut self.touched);
        for (from, to) in self.free.range(..touched) {
            self.area.bytes.punch(Area::TABLE + from, touched.min(*to) - from)?;
        }
        self.touched = self.used.values().map(|(_, to)| *to).max().unwrap_or(0);
        Ok(())
    }

    /// Returns whether free memory is kept for the next blocks.
    fn keeps_memory(&mut self) -> bool {
        self.collect();
        self.touched > self.used.values().map(|(from, to)| to - from).sum()
    }

    /// Collects the ranges that have become free.
    fn collect(&mut self) {
        let entries = self.table();
        let freed: Vec<_> = self
            .used
            .iter()
            .filter(|(index, _)| entries[**index].word.load(Ordering::Acquire) & HOLDER == FREE)
            .map(|(index, range)| (*index, *range))
            .collect();
        for (index, (mut from, mut to)) in freed {
            self.used.remove(&index);
            self.vacant.push(index);
            if let Some((before, end)) = self.free.range(..from).next_back().map(|(a, b)| (*a, *b))
                && end == from
            {
                self.free.remove(&before);
                from = before;
            }
            if let Some(end) = self.free.remove(&to) {
                to = end;
            }
            self.free.insert(from, to);
        }
    }

    /// Takes a range out of the free ones. Returns `false` if it is not in one.
    fn cut(&mut self, from: usize, to: usize) -> bool {
        let Some((start, end)) = self.free.range(..=from).next_back().map(|(a, b)| (*a, *b)) else { return false };
        if to > end {
            return false;
        }
        self.free.remove(&start);
        if start < from {
            self.free.insert(start, from);
        }
        if to < end {
            self.free.insert(to, end);
        }
        true
    }
}

/// The mapping of a block.
#[derive(Debug)]
enum Place {
    /// With all bytes of its area before it.
    Area { at: usize },
    /// Alone: it begins behind `skip` bytes.
    #[cfg(not(loom))]
    Alone { view: View, skip: usize },
}

/// A block that its receiver has taken: bytes that nobody writes as long as this exists. Dropping
/// it lets go of the block.
#[derive(Debug)]
pub struct Held {
    area: Area,
    id: BlockId,
    holder: Holder,
    place: Place,
    len: usize,
    /// The value of `forks` when this process took the block.
    forks: u64,
}

impl Held {
    /// Returns how many bytes there are.
    #[allow(clippy::len_without_is_empty, reason = "of bytes that are read in place; the slice has the rest")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of the bytes, for a receiver that changes them: nobody else reads a
    /// block that was taken. They stay mapped as long as this exists. A caller that writes there
    /// must keep no slice of them.
    #[cfg(not(loom))]
    pub fn as_mut_ptr(&self) -> *mut u8 {
        match &self.place {
            Place::Area { at } => self.area.bytes.mapped().range(*at, self.len).as_ptr(),
            Place::Alone { view, skip } => view.range(*skip, self.len).as_ptr(),
        }
    }
}

impl Deref for Held {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.place {
            Place::Area { at } => self.area.bytes.slice(*at, self.len),
            #[cfg(not(loom))]
            Place::Alone { view, skip } => view.slice(*skip, self.len),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let next = match self.holder {
            _ if forks() != self.forks => self.id.word(PINNED),
            Holder::Worker(_) => self.id.word(SENT),
            Holder::Parent => free_after(self.id.0),
        };
        let held = self.id.word(self.holder.as_word());
        let entries = self.area.entries.get().expect("who took a block has mapped the table");
        // If this process was forked or has forked, the block is pinned already.
        let _ = entries[self.id.entry()].word.compare_exchange(held, next, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Returns the word of the next use, which is free.
fn free_after(word: u64) -> u64 {
    (word >> 32).wrapping_add(1) << 32
}

/// Returns how many bytes a block of `len` bytes takes.
fn span(len: usize) -> usize {
    len.max(1).next_multiple_of(PAGE)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::segment::Segment;
    use crate::window::{File, FileWords, GRAIN};

    fn area() -> Area {
        const FILE: usize = size_of::<Used>();
        const WINDOW: usize = FILE + size_of::<FileWords>();
        let segment = Segment::create_growing("procession-test", GRAIN, GRAIN).unwrap();
        let file = File::of(&segment, FILE, 1 << 20);
        file.begin(GRAIN);
        Area::at(segment.words(0), Window::at(&file, WINDOW, 1 << 20))
    }

    #[test]
    fn a_block_goes_there_and_back() {
        let area = area();
        let mut owner = Allocator::new(area.clone()).unwrap();
        let id = owner.allocate(b"argument").unwrap();
        let held = area.take(id, Holder::Worker(0)).unwrap();
        assert_eq!(&*held, b"argument");
        assert!(area.take(id, Holder::Worker(1)).is_err(), "it has one holder");
        assert!(!owner.free(id), "it is held");
        drop(held);
        assert!(owner.free(id) && area.take(id, Holder::Worker(0)).is_err());
        assert_ne!(owner.allocate(b"another").unwrap(), id, "its name is not used again");
        assert!(owner.free(id), "what is gone is gone");
    }

    #[test]
    fn memory_is_used_again_and_given_back() {
        let area = area();
        let mut owner = Allocator::new(area.clone()).unwrap();
        let full: Vec<_> = std::iter::from_fn(|| owner.allocate(&[7; 100_000])).collect();
        assert_eq!(full.len(), 10);
        for id in full.iter().step_by(2) {
            drop(area.take(*id, Holder::Parent).unwrap());
        }
        let again: Vec<_> = std::iter::from_fn(|| owner.allocate(&[8; 100_000])).collect();
        assert_eq!(again.len(), 5);
        let (kept, rest) = (again[0], again.iter().skip(1).chain(full.iter().skip(1).step_by(2)));
        rest.for_each(|id| assert!(owner.free(*id)));
        assert!(owner.in_use() < 110_000 && owner.keeps_memory());
        owner.trim().unwrap();
        assert_eq!(area.take(kept, Holder::Parent).unwrap().to_vec(), vec![8; 100_000]);
        assert!(owner.allocate(&[9; 850_000]).is_some(), "free ranges have grown together");
    }

    #[test]
    fn replacement_knows_blocks_in_use_and_dead_worker_holds_none() {
        let area = area();
        let mut first = Allocator::new(area.clone()).unwrap();
        let (told, untold) = (first.allocate(&[1; 5000]).unwrap(), first.allocate(&[2; 5000]).unwrap());
        let held = area.take(told, Holder::Parent).unwrap();
        drop(first);
        area.reclaim().unwrap();
        let mut second = Allocator::new(area.clone()).unwrap();
        let new = second.allocate(&[3; 5000]).unwrap();
        assert!(area.take(untold, Holder::Parent).is_err());
        assert_eq!((held[0], area.take(new, Holder::Worker(4)).map(|new| new[4999]).unwrap()), (1, 3));
        let lost = area.take(new, Holder::Worker(4)).unwrap();
        std::mem::forget(lost);
        assert!(!second.free(new));
        area.release_held_by(4).unwrap();
        assert!(second.free(new));
    }
}
