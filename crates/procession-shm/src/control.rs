//! The layout of a pool's segment: one memfd for everything that the parent and its workers share.
//!
//! ```text
//! 0            header: magic, version, room and slots, closed, the two gates
//! RING         words of the task ring
//! SLOTS        words of each slot
//! STREAMS      words of each stream
//! MARKS        words of each area
//! (page)       bytes of each stream
//!              inbox of each slot      sparse
//!              frames of the ring      sparse
//!              area of the arguments   sparse
//!              area of each slot's results, sparse
//! ```
//!
//! There is room for more slots than are used, so that a pool can grow. Nobody looks at a slot that is not used: the room
//! is addresses, not memory.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::block::{Area, Mark};
use crate::gate::Gate;
use crate::lease::{Slot, SlotWords};
use crate::primitive::{AtomicBool, AtomicU32, Ordering};
use crate::ring::{Overwritten, TaskRing, TaskWords};
use crate::segment::{MOST_HALVINGS, Placed, Segment, Words};
use crate::stream::{STREAM_CAPACITY, Stream, StreamWords};

const MAGIC: u32 = u32::from_le_bytes(*b"pool");
/// Raised with every change of the layout.
const VERSION: u32 = 6;
/// The most slots of a segment.
const MOST_SLOTS: usize = 1024;
const PAGE: usize = 4096;
/// How far the ring may grow.
const RING_RESERVATION: usize = 8 << 30;
/// Room for one frame of the greatest length, and its header.
const INBOX_RESERVATION: usize = 2 << 30;
/// Room for the parent's blocks, and for those of each worker.
const ARGUMENTS_RESERVATION: usize = 16 << 30;
const RESULTS_RESERVATION: usize = 4 << 30;

#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    /// Written last by the maker, and never again.
    magic: AtomicU32,
    version: AtomicU32,
    /// How many slots there is room for.
    room: AtomicU32,
    /// How many are used; the parent's. It only grows.
    slots: AtomicU32,
    /// How often the reservations were halved.
    halvings: AtomicU32,
    /// 1 once no more tasks will come.
    closed: AtomicU32,
    /// Workers sleep here for tasks.
    tasks: Gate,
    /// The parent sleeps here for results.
    results: Gate,
}

// SAFETY: repr(C), nothing but atomics; zero is a header that `attach` refuses.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for Header {}

/// A pool's segment, mapped.
#[derive(Debug)]
pub struct Control {
    segment: Segment,
    header: Placed<Header>,
    ring: TaskRing,
    slots: Arc<[Slot]>,
    streams: Vec<Stream>,
    arguments: Area,
    layout: Layout,
    own: Own,
}

/// What the parent has told the workers in the header, as it keeps it for itself.
#[derive(Debug)]
struct Own {
    slots: AtomicU32,
    is_closed: AtomicBool,
}

impl Control {
    /// A new one with this many slots, 1 to 1024.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for another number; what the system refuses.
    pub fn create(slots: usize) -> io::Result<Control> {
        Control::with_room(slots, slots)
    }

    /// A new one with this many slots and room to [`grow`](Control::grow) to `room`; to fewer where address space is
    /// limited.
    ///
    /// # Errors
    ///
    /// As [`create`](Control::create).
    pub fn with_room(slots: usize, room: usize) -> io::Result<Control> {
        if !(1..=MOST_SLOTS).contains(&slots) {
            let text = format!("a segment has 1 to {MOST_SLOTS} slots, not {slots}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let room_within = |halvings| slots.max(room.min(MOST_SLOTS) >> halvings);
        let within = |halvings| Layout::of(room_within(halvings), halvings).len;
        let (segment, halvings) = Segment::create_within("procession-pool", within)?;
        let layout = Layout::of(room_within(halvings), halvings);
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.room.store(layout.count as u32, Ordering::Relaxed);
        header.slots.store(slots as u32, Ordering::Relaxed);
        header.halvings.store(halvings, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(Control::map(segment, header, layout, slots))
    }

    /// Maps one that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not one, or of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Control> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let segment = Segment::attach(fd)?;
        if segment.len() < size_of::<Header>() {
            return Err(invalid("the segment is too short for a pool's"));
        }
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the segment is not a pool's, or one of another version"));
        }
        let room = header.room.load(Ordering::Relaxed) as usize;
        let slots = header.slots.load(Ordering::Relaxed) as usize;
        let halvings = header.halvings.load(Ordering::Relaxed);
        if !(1..=MOST_SLOTS).contains(&room) || !(1..=room).contains(&slots) || halvings > MOST_HALVINGS {
            return Err(invalid("the segment's numbers make no sense"));
        }
        let layout = Layout::of(room, halvings);
        if layout.len != segment.len() {
            return Err(invalid("the segment's length does not fit its number of slots"));
        }
        Ok(Control::map(segment, header, layout, slots))
    }

    /// The memfd, to hand to a worker.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }

    /// Parent: how many slots are used: workers have had them, or are to.
    #[inline]
    pub fn slots(&self) -> usize {
        self.own.slots.load(Ordering::Acquire) as usize
    }

    /// Worker: how many slots are used now.
    pub fn used_slots(&self) -> usize {
        (self.header.slots.load(Ordering::Acquire) as usize).clamp(1, self.room())
    }

    /// How many slots it can have.
    pub fn room(&self) -> usize {
        self.slots.len()
    }

    /// Parent: uses so many slots, if it has not used more before.
    ///
    /// # Panics
    ///
    /// If there is no room for them.
    pub fn grow(&self, slots: usize) {
        assert!(slots <= self.room(), "there is room for {} slots, not for {slots}", self.room());
        let before = self.own.slots.fetch_max(slots as u32, Ordering::AcqRel);
        self.header.slots.store(before.max(slots as u32), Ordering::Release);
    }

    /// Tasks on their way to workers.
    #[inline]
    pub fn tasks(&self) -> &TaskRing {
        &self.ring
    }

    /// A worker's words.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    /// A worker's results on their way to the parent.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn stream(&self, index: usize) -> &Stream {
        &self.streams[index]
    }

    /// Where the parent makes blocks, for arguments.
    pub fn arguments(&self) -> &Area {
        &self.arguments
    }

    /// Where a worker makes blocks, for results.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn results(&self, index: usize) -> Area {
        // Made for who asks: a worker needs its own alone, and has the less memory.
        let Layout { count, areas, arguments, results, .. } = self.layout;
        assert!(index < count, "there are {count} slots, and no {index}");
        Area::at(&self.segment, self.layout.mark(index + 1), areas + arguments + index * results, results)
    }

    /// Where workers sleep for tasks.
    #[inline]
    pub fn task_gate(&self) -> &Gate {
        &self.header.tasks
    }

    /// Where the parent sleeps for results.
    #[inline]
    pub fn result_gate(&self) -> &Gate {
        &self.header.results
    }

    /// Parent: no more tasks will come: workers end once the ring is empty. Wake them at the task gate.
    pub fn close(&self) {
        self.own.is_closed.store(true, Ordering::Release);
        self.header.closed.store(1, Ordering::Release);
    }

    /// Parent: whether it has said so.
    pub fn has_closed(&self) -> bool {
        self.own.is_closed.load(Ordering::Acquire)
    }

    /// Worker: whether no more tasks will come.
    pub fn is_closed(&self) -> bool {
        self.header.closed.load(Ordering::Acquire) != 0
    }

    /// Parent: looks whether what it alone writes is still as it wrote it. Not while another thread is at [`grow`](Control::grow)
    /// or [`close`](Control::close).
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn check(&self) -> Result<(), Overwritten> {
        let header = &self.header;
        let is_whole = header.magic.load(Ordering::Relaxed) == MAGIC
            && header.version.load(Ordering::Relaxed) == VERSION
            && header.room.load(Ordering::Relaxed) as usize == self.layout.count
            && header.halvings.load(Ordering::Relaxed) == self.layout.halvings
            && header.slots.load(Ordering::Relaxed) as usize == self.slots()
            && header.closed.load(Ordering::Relaxed) == u32::from(self.has_closed());
        if is_whole { self.ring.check() } else { Err(Overwritten("the header")) }
    }

    fn map(segment: Segment, header: Placed<Header>, layout: Layout, used: usize) -> Control {
        let slot = |index: usize| Slot {
            words: segment.words(layout.slots + index * size_of::<SlotWords>()),
            inbox: segment.bytes(layout.inboxes + index * layout.inbox, layout.inbox),
        };
        let stream = |index: usize| {
            let words = segment.words(layout.streams + index * size_of::<StreamWords>());
            Stream::at(words, segment.bytes(layout.stream_bytes + index * STREAM_CAPACITY, STREAM_CAPACITY))
        };
        let slots: Arc<[Slot]> = (0..layout.count).map(slot).collect();
        let frames = segment.bytes(layout.frames, layout.areas - layout.frames);
        let ring = TaskRing::at(&segment, layout.ring, frames, layout.inbox);
        let streams = (0..layout.count).map(stream).collect();
        let arguments = Area::at(&segment, layout.mark(0), layout.areas, layout.arguments);
        let own = Own { slots: AtomicU32::new(used as u32), is_closed: AtomicBool::new(false) };
        Control { segment, header, ring, slots, streams, arguments, layout, own }
    }
}

#[derive(Debug)]
struct Layout {
    count: usize,
    halvings: u32,
    /// Bytes of one inbox.
    inbox: usize,
    ring: usize,
    slots: usize,
    streams: usize,
    stream_bytes: usize,
    inboxes: usize,
    frames: usize,
    marks: usize,
    areas: usize,
    /// Bytes of the arguments' area.
    arguments: usize,
    /// Bytes of the area of one slot's results.
    results: usize,
    len: usize,
}

impl Layout {
    fn of(count: usize, halvings: u32) -> Layout {
        let inbox = INBOX_RESERVATION >> halvings;
        let ring = size_of::<Header>();
        let slots = ring + size_of::<TaskWords>();
        let streams = slots + count * size_of::<SlotWords>();
        let marks = streams + count * size_of::<StreamWords>();
        let stream_bytes = (marks + (count + 1) * size_of::<Mark>()).next_multiple_of(PAGE);
        let inboxes = stream_bytes + count * STREAM_CAPACITY;
        let frames = inboxes + count * inbox;
        let areas = frames + (RING_RESERVATION >> halvings);
        let (arguments, results) = (ARGUMENTS_RESERVATION >> halvings, RESULTS_RESERVATION >> halvings);
        let len = areas + arguments + count * results;
        Layout {
            count,
            halvings,
            inbox,
            ring,
            slots,
            streams,
            stream_bytes,
            inboxes,
            frames,
            marks,
            areas,
            arguments,
            results,
            len,
        }
    }

    /// Where the words of an area lie: the arguments' first, then those of each slot's results.
    fn mark(&self, area: usize) -> usize {
        self.marks + area * size_of::<Mark>()
    }
}
