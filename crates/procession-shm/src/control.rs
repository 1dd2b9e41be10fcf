//! The layout of a pool's segment: one memfd for everything that the parent and its workers share.
//!
//! ```text
//! 0            header: magic, version, room and slots, closed, the two gates
//! RING         words of the task ring
//! SLOTS        words of each slot
//! STREAMS      words of each stream
//! USED         words of each area
//! FILE         how much of the file is given out
//! WINDOWS      words of each window: the ring's, that of the arguments, three of each slot
//! METERS       words of each slot's meter, in a pool that measures
//! (grain)      the windows, in the order in which they grew
//! ```
//!
//! | window | owner | mapped by |
//! |---|---|---|
//! | frames of the ring | the parent | parent and workers |
//! | area of the arguments | the parent | parent and workers |
//! | bytes of a slot's stream | its worker | its worker and the parent |
//! | inbox of a slot | its worker | its worker |
//! | area of a slot's results | its worker | its worker and the parent |
//!
//! The segment has room for more slots than are used, so that a pool can grow. Nobody touches an
//! unused slot: it is words, and untouched pages take no memory. The parent gives a slot its first
//! bytes before its first worker starts.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use procession_sys::mapping::Extent;
use procession_sys::memfd;
use procession_sys::named::{Identity, identity};

use crate::block::{Area, Used};
use crate::gate::Gate;
use crate::lease::{Slot, SlotWords};
use crate::meter::{Meter, MeterReading, MeterWords, SlowCall};
use crate::primitive::{AtomicBool, AtomicU32, Ordering};
use crate::ring::{BEGINS_WITH, Overwritten, TaskRing, TaskWords};
use crate::search::Search;
use crate::segment::{Placed, Segment, Words};
use crate::spin::Spin;
use crate::stream::{STREAM_CAPACITY, Stream, StreamWords};
use crate::window::{File, FileWords, GRAIN, Window, WindowWords};

const MAGIC: u32 = u32::from_le_bytes(*b"pool");
/// Raised with every change of the layout.
const VERSION: u32 = 9;
/// The most slots of a segment.
const MAX_SLOTS: usize = 1024;
/// The size to which the ring may grow.
const MAX_RING: usize = 8 << 30;
/// Room for one frame of the greatest length, and its header.
const MAX_INBOX: usize = 2 << 30;
/// Room for the parent's blocks, and for those of each worker.
const MAX_ARGUMENTS: usize = 16 << 30;
const MAX_RESULTS: usize = 4 << 30;
/// The size with which an inbox begins.
const INBOX: usize = GRAIN;

#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    /// Written last by the process that makes the segment, and never again.
    magic: AtomicU32,
    version: AtomicU32,
    /// The number of slots that there is room for.
    room: AtomicU32,
    /// The number of slots that are used. The parent writes it, and it only grows.
    slots: AtomicU32,
    /// 1 once no more tasks will come.
    closed: AtomicU32,
    /// The time that the wake of a sleeping process takes, in nanoseconds. The parent writes it
    /// once.
    wake_nanos: AtomicU32,
    /// The parent's pid. It writes it once, for those who look on.
    owner: AtomicU32,
    /// 1: slots have meters. The parent writes it once.
    measures: AtomicU32,
    /// Workers sleep here for tasks.
    tasks: Gate,
    search: Search,
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
    results: Vec<Area>,
    /// Empty in a pool that does not measure.
    meters: Vec<Placed<MeterWords>>,
    file: File,
    /// The memfd's identity.
    identity: Option<Identity>,
    own: Own,
}

/// The parent's own copy of what it tells the workers in the header.
#[derive(Debug)]
struct Own {
    slots: AtomicU32,
    /// The number of slots that have their first bytes.
    begun: AtomicU32,
    is_closed: AtomicBool,
}

impl Control {
    /// Makes a segment with this many slots, 1 to 1024.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for another number; any error of the system.
    pub fn create(slots: usize) -> io::Result<Control> {
        Control::with_room(slots, slots)
    }

    /// Makes a segment with this many slots and room to [`grow`](Control::grow) to `room`.
    ///
    /// # Errors
    ///
    /// As [`create`](Control::create).
    pub fn with_room(slots: usize, room: usize) -> io::Result<Control> {
        Control::make(slots, room, false)
    }

    /// As [`with_room`](Control::with_room), of a pool whose workers measure their time.
    ///
    /// # Errors
    ///
    /// As [`create`](Control::create).
    pub fn measured(slots: usize, room: usize) -> io::Result<Control> {
        Control::make(slots, room, true)
    }

    fn make(slots: usize, room: usize, measures: bool) -> io::Result<Control> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            let text = format!("a segment has 1 to {MAX_SLOTS} slots, not {slots}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let layout = Layout::of(slots.max(room.min(MAX_SLOTS)), measures);
        let begun = BEGINS_WITH + slots * OF_A_SLOT;
        let segment = Segment::create_growing("procession-pool", layout.fixed, layout.fixed + begun)?;
        let header = segment.words::<Header>(0);
        header.version.store(VERSION, Ordering::Relaxed);
        header.room.store(layout.count as u32, Ordering::Relaxed);
        header.slots.store(slots as u32, Ordering::Relaxed);
        header.wake_nanos.store(Spin::wake_time().as_nanos() as u32, Ordering::Relaxed);
        header.owner.store(std::process::id(), Ordering::Relaxed);
        header.measures.store(measures.into(), Ordering::Relaxed);
        let control = Control::map(segment, header, &layout, slots);
        control.file.begin(layout.fixed + begun);
        let mut place = layout.fixed as u64;
        layout.window(&control.file, RING, MAX_RING).begin(Extent { offset: place, len: BEGINS_WITH });
        place += BEGINS_WITH as u64;
        for index in 0..slots {
            control.begin_slot(index, place);
            place += OF_A_SLOT as u64;
            control.streams[index].map()?;
        }
        control.header.magic.store(MAGIC, Ordering::Release);
        Ok(control)
    }

    /// Maps a segment that another process made.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the memfd is not a pool's, or is one of another version.
    pub fn attach(fd: OwnedFd) -> io::Result<Control> {
        Control::open(fd, Segment::attach_growing)
    }

    /// As [`attach`](Control::attach), for an onlooker: nothing can be written. `Observed` keeps to
    /// what only reads.
    pub(crate) fn observe(fd: OwnedFd) -> io::Result<Control> {
        Control::open(fd, Segment::observe)
    }

    fn open(fd: OwnedFd, map: impl FnOnce(OwnedFd, usize) -> io::Result<Segment>) -> io::Result<Control> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        // The room says how much must be mapped, and whether there are meters.
        let number = |offset: usize| {
            let mut bytes = [0; 4];
            memfd::read_at(fd.as_fd(), offset as u64, &mut bytes)
                .map_err(|_| invalid("the segment is too short for a pool's"))?;
            Ok::<_, io::Error>(u32::from_ne_bytes(bytes))
        };
        let (room, measures) = (number(offset_of!(Header, room))?, number(offset_of!(Header, measures))?);
        let layout = Layout::of((room as usize).clamp(1, MAX_SLOTS), measures == 1);
        let segment = map(fd, layout.fixed)?;
        let header = segment.words::<Header>(0);
        if header.magic.load(Ordering::Acquire) != MAGIC || header.version.load(Ordering::Relaxed) != VERSION {
            return Err(invalid("the segment is not a pool's, or one of another version"));
        }
        let slots = header.slots.load(Ordering::Relaxed) as usize;
        if header.room.load(Ordering::Relaxed) as usize != layout.count || !(1..=layout.count).contains(&slots) {
            return Err(invalid("the segment's numbers make no sense"));
        }
        Ok(Control::map(segment, header, &layout, slots))
    }

    /// Returns the memfd, to hand to a worker.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }

    /// Parent: returns how many slots are used, by workers of the past, present or near future.
    #[inline]
    pub fn slots(&self) -> usize {
        self.own.slots.load(Ordering::Acquire) as usize
    }

    /// Worker: returns how many slots are used now.
    pub fn used_slots(&self) -> usize {
        (self.header.slots.load(Ordering::Acquire) as usize).clamp(1, self.room())
    }

    /// Returns how many slots there is room for.
    pub fn room(&self) -> usize {
        self.slots.len()
    }

    /// Parent: uses this many slots, unless it uses more already.
    ///
    /// # Errors
    ///
    /// If there is no memory for them; the number stays as it was. `InvalidData` if the words that
    /// say where they are were overwritten.
    ///
    /// # Panics
    ///
    /// If there is no room for them.
    pub fn grow(&self, slots: usize) -> io::Result<()> {
        assert!(slots <= self.room(), "there is room for {} slots, not for {slots}", self.room());
        for index in self.slots()..slots {
            if index >= self.own.begun.load(Ordering::Relaxed) as usize {
                self.begin_slot(index, self.file.take(OF_A_SLOT)?.offset);
                self.own.begun.store(index as u32 + 1, Ordering::Relaxed);
            }
            self.streams[index].map()?;
        }
        let before = self.own.slots.fetch_max(slots as u32, Ordering::AcqRel);
        self.header.slots.store(before.max(slots as u32), Ordering::Release);
        Ok(())
    }

    /// Worker: maps the windows that every worker in this slot needs.
    ///
    /// # Errors
    ///
    /// If this process may have no more addresses.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn enter(&self, index: usize) -> io::Result<()> {
        self.streams[index].map()?;
        self.slots[index].inbox.map(INBOX)?;
        self.slots[index].set_pid(std::process::id());
        self.ring.map()
    }

    /// Returns the ring of tasks on their way to workers.
    #[inline]
    pub fn tasks(&self) -> &TaskRing {
        &self.ring
    }

    /// Returns a worker's words.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    /// Returns a worker's stream of results on their way to the parent.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    #[inline]
    pub fn stream(&self, index: usize) -> &Stream {
        &self.streams[index]
    }

    /// Returns the area where the parent makes blocks, for arguments.
    pub fn arguments(&self) -> &Area {
        &self.arguments
    }

    /// Returns the area where a worker makes blocks, for results.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn results(&self, index: usize) -> &Area {
        &self.results[index]
    }

    /// Worker: returns its meter, in a pool that measures. `clock` gives nanoseconds of the
    /// monotonic clock.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn meter(&self, index: usize, clock: fn() -> u64) -> Option<Meter> {
        let words = (!self.meters.is_empty()).then(|| self.meters[index].clone())?;
        Some(Meter::new(words, clock))
    }

    /// Parent: returns what a slot's meter says, in a pool that measures.
    pub fn read_meter(&self, index: usize) -> Option<MeterReading> {
        self.meters.get(index).map(|words| words.read())
    }

    /// Parent: returns a slot's slowest calls that are wanted, by their duration and their job.
    pub fn slowest_calls(&self, index: usize, is_wanted: impl Fn(u64, u64) -> bool) -> Vec<SlowCall> {
        self.meters.get(index).map_or_else(Vec::new, |words| words.slowest(is_wanted))
    }

    /// Parent, while a slot has no worker: sets its meter back.
    pub fn reset_meter(&self, index: usize) {
        if let Some(words) = self.meters.get(index) {
            words.reset();
        }
    }

    /// The place of the meters in the file.
    #[cfg(test)]
    pub(crate) fn meters_at(&self) -> u64 {
        self.meters[0].offset() as u64
    }

    /// Returns the gate where workers sleep for tasks.
    #[inline]
    pub fn task_gate(&self) -> &Gate {
        &self.header.tasks
    }

    /// Returns which idle worker looks for tasks.
    #[inline]
    pub fn search(&self) -> &Search {
        &self.header.search
    }

    /// Onlooker: returns the parent's pid, as the parent sees it.
    pub(crate) fn owner(&self) -> u32 {
        self.header.owner.load(Ordering::Relaxed)
    }

    /// Returns how a process waits, before it sleeps, for one other process of this pool.
    pub fn spin(&self) -> Spin {
        Spin::for_wakes_of(Duration::from_nanos(self.header.wake_nanos.load(Ordering::Relaxed).into()))
    }

    /// Returns the gate where the parent sleeps for results.
    #[inline]
    pub fn result_gate(&self) -> &Gate {
        &self.header.results
    }

    /// Parent: says that no more tasks will come, so that workers end once the ring is empty. The
    /// caller must wake them at the task gate.
    pub fn close(&self) {
        self.own.is_closed.store(true, Ordering::Release);
        self.header.closed.store(1, Ordering::Release);
    }

    /// Parent: returns whether it has said so.
    pub fn has_closed(&self) -> bool {
        self.own.is_closed.load(Ordering::Acquire)
    }

    /// Worker: returns whether no more tasks will come.
    pub fn is_closed(&self) -> bool {
        self.header.closed.load(Ordering::Acquire) != 0
    }

    /// Parent: checks that the words which it alone writes are as it wrote them. No other thread
    /// may call [`grow`](Control::grow) or [`close`](Control::close) meanwhile.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn check(&self) -> Result<(), Overwritten> {
        let header = &self.header;
        let is_whole = header.magic.load(Ordering::Relaxed) == MAGIC
            && header.version.load(Ordering::Relaxed) == VERSION
            && header.room.load(Ordering::Relaxed) as usize == self.room()
            && header.slots.load(Ordering::Relaxed) as usize == self.slots()
            && header.measures.load(Ordering::Relaxed) == u32::from(!self.meters.is_empty())
            && header.closed.load(Ordering::Relaxed) == u32::from(self.has_closed());
        if is_whole { self.ring.check() } else { Err(Overwritten("the header")) }
    }

    /// Parent: checks that the file is as long as its words say; otherwise nothing could grow any
    /// more. It takes system calls.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn check_file(&self) -> Result<(), Overwritten> {
        self.file.check().map(drop).map_err(|_| Overwritten("the record of how much shared memory is given out"))
    }

    /// Returns whether the segment's fd is still its own. A program that closes all of its fds, or
    /// puts others in their place, takes it away. Mapped memory stays.
    pub fn has_file(&self) -> bool {
        identity(self.segment.as_fd()).ok() == self.identity
    }

    /// Gives a slot the first bytes of its stream and its inbox, which lie at `place` in the file.
    fn begin_slot(&self, index: usize, place: u64) {
        self.slots[index].inbox.begin(Extent { offset: place + STREAM_CAPACITY as u64, len: INBOX });
        self.streams[index].bytes.begin(Extent { offset: place, len: STREAM_CAPACITY });
    }

    fn map(segment: Segment, header: Placed<Header>, layout: &Layout, used: usize) -> Control {
        let most = MAX_RING + MAX_ARGUMENTS + layout.count * (STREAM_CAPACITY + MAX_INBOX + MAX_RESULTS);
        let file = File::of(&segment, layout.file, most);
        let window = |index, max| layout.window(&file, index, max);
        let slot = |index: usize| Slot {
            words: segment.words(layout.slots + index * size_of::<SlotWords>()),
            inbox: window(of_slot(index) + 1, MAX_INBOX),
        };
        let stream = |index: usize| {
            let words = segment.words(layout.streams + index * size_of::<StreamWords>());
            Stream::at(words, window(of_slot(index), STREAM_CAPACITY))
        };
        let area = |index: usize, window| Area::at(segment.words(layout.used + index * size_of::<Used>()), window);
        let slots: Arc<[Slot]> = (0..layout.count).map(slot).collect();
        let ring = TaskRing::over(segment.words(layout.ring), window(RING, MAX_RING), MAX_INBOX);
        let streams = (0..layout.count).map(stream).collect();
        let arguments = area(0, window(ARGUMENTS, MAX_ARGUMENTS));
        let results = (0..layout.count).map(|index| area(index + 1, window(of_slot(index) + 2, MAX_RESULTS)));
        let results = results.collect();
        let meter = |index: usize| segment.words(layout.meters + index * size_of::<MeterWords>());
        let meters = (0..if layout.measures { layout.count } else { 0 }).map(meter).collect();
        let used = used as u32;
        let own = Own { slots: used.into(), begun: used.into(), is_closed: AtomicBool::new(false) };
        let identity = identity(segment.as_fd()).ok();
        Control { segment, header, ring, slots, streams, arguments, results, meters, file, identity, own }
    }
}

/// The number of bytes of the file that a slot has before its first worker starts.
const OF_A_SLOT: usize = STREAM_CAPACITY + INBOX;

/// The index of the ring's window, and of the arguments' window.
const RING: usize = 0;
const ARGUMENTS: usize = 1;

/// The index of a slot's first window, its stream's. Behind it are those of the inbox and of the
/// results.
const fn of_slot(index: usize) -> usize {
    2 + 3 * index
}

#[derive(Debug)]
struct Layout {
    count: usize,
    ring: usize,
    slots: usize,
    streams: usize,
    used: usize,
    file: usize,
    windows: usize,
    meters: usize,
    measures: bool,
    /// The number of bytes that are always mapped.
    fixed: usize,
}

impl Layout {
    fn of(count: usize, measures: bool) -> Layout {
        let ring = size_of::<Header>();
        let slots = ring + size_of::<TaskWords>();
        let streams = slots + count * size_of::<SlotWords>();
        let used = streams + count * size_of::<StreamWords>();
        let file = used + (count + 1) * size_of::<Used>();
        let windows = file + size_of::<FileWords>();
        let windows_end = windows + of_slot(count) * size_of::<WindowWords>();
        let meters = windows_end.next_multiple_of(align_of::<MeterWords>());
        let end = if measures { meters + count * size_of::<MeterWords>() } else { windows_end };
        Layout {
            count,
            ring,
            slots,
            streams,
            used,
            file,
            windows,
            meters,
            measures,
            fixed: end.next_multiple_of(GRAIN),
        }
    }

    fn window(&self, file: &File, index: usize, max: usize) -> Window {
        Window::at(file, self.windows + index * size_of::<WindowWords>(), max)
    }
}
