//! A slot: one worker's words in a pool's segment. It records what the worker has claimed *before* that is gone from the
//! ring, so that at any moment a task is in the ring or in one slot. The worker writes its slot; the parent reads it, cuts
//! off what the worker has not begun, and resets it for a replacement.

use std::io;
use std::ops::Range;

use crate::fault::{Step, point};
use crate::hands::Hands;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::running::Running;
#[cfg(loom)]
use crate::segment::Window;
use crate::segment::{Placed, Words};
#[cfg(not(loom))]
use crate::window::Window;

/// The most frames of one claim.
pub(crate) const MOST_FRAMES: usize = if cfg!(loom) { 2 } else { 64 };

/// An inbox that has been filled further than this is given back when a claim is done.
const INBOX_KEPT: usize = 1 << 20;

/// The worker is on its way.
const STARTING: u32 = 0;
/// The worker serves.
const READY: u32 = 1;
/// The worker has ended its service by itself.
const FINISHED: u32 = 2;

/// See the module.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SlotWords {
    /// One of the states above; the worker's, set back by the parent when the worker is dead.
    state: AtomicU32,
    /// 1: the worker is to end once the task that it runs is done; the parent's.
    dismissed: AtomicU32,
    /// Which frames of the claim are begun. Laid on a claim before it is committed, and void if it never is.
    pub(crate) hands: Hands,
    /// Which task runs.
    running: Running,
    /// The ring's head at the claim: while the head is still this, the claim is not committed.
    pub(crate) from: AtomicU64,
    /// How far the inbox has been filled since its memory was given back last, by this worker or by a dead one before
    /// it: raised before bytes are written, set back after they are gone, so that no death keeps memory.
    filled: AtomicU64,
    /// Where each frame of the claim lies in the inbox.
    pub(crate) offsets: [AtomicU64; MOST_FRAMES],
}

// SAFETY: repr(C), nothing but atomics; zero is a slot that has claimed nothing.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for SlotWords {}

#[cfg(loom)]
impl crate::segment::Zeroed for SlotWords {
    fn zeroed() -> SlotWords {
        SlotWords {
            state: AtomicU32::new(0),
            dismissed: AtomicU32::new(0),
            hands: Hands::new(),
            running: Running::new(),
            from: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            offsets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) words: Placed<SlotWords>,
    pub(crate) inbox: Window,
}

impl Slot {
    /// Worker: it serves from now on.
    pub fn set_ready(&self) {
        self.words.state.store(READY, Ordering::Release);
    }

    /// Worker: it has ended its service.
    pub fn set_finished(&self) {
        self.words.state.store(FINISHED, Ordering::Release);
    }

    /// Parent: whether the worker has ended its service by itself.
    pub fn is_finished(&self) -> bool {
        self.words.state.load(Ordering::Acquire) == FINISHED
    }

    /// Parent: whether the worker came as far as serving.
    pub fn was_ready(&self) -> bool {
        self.words.state.load(Ordering::Acquire) != STARTING
    }

    /// Parent: the worker is to end, or is not, once the task that it runs is done. Wake it at the task gate.
    pub fn dismiss(&self, is_dismissed: bool) {
        self.words.dismissed.store(is_dismissed.into(), Ordering::Release);
    }

    /// Worker: whether it is to end.
    #[inline]
    pub fn is_dismissed(&self) -> bool {
        self.words.dismissed.load(Ordering::Relaxed) != 0
    }

    /// Worker: begins the next claimed frame. From here on it is running, and nobody else's.
    pub fn begin_next(&self) -> Option<&[u8]> {
        self.begin_next_at().map(|place| self.claimed(place))
    }

    /// As [`begin_next`](Slot::begin_next), but says where it lies in the inbox.
    pub fn begin_next_at(&self) -> Option<Range<usize>> {
        let index = self.words.hands.begin()?;
        Some(self.place(index))
    }

    /// Worker: a part of the inbox that is within the claim.
    #[inline]
    pub fn claimed(&self, place: Range<usize>) -> &[u8] {
        self.inbox.slice(place.start, place.len())
    }

    /// Which task runs.
    #[inline]
    pub fn running(&self) -> &Running {
        &self.words.running
    }

    /// Worker, when its claim is done: whether the inbox holds so much memory that it is worth giving back.
    pub fn is_bulky(&self) -> bool {
        self.words.filled.load(Ordering::Relaxed) as usize > INBOX_KEPT
    }

    /// Parent, when the worker is dead: the frame it began last, whether or not it finished it.
    ///
    /// # Errors
    ///
    /// If the slot makes no sense.
    pub fn last_begun(&self) -> io::Result<Option<Vec<u8>>> {
        self.words.hands.last_begun().map(|index| self.frame(index)).transpose()
    }

    /// Parent, with the ring locked, so that no claim is being made: the first bytes of the frame that the worker began
    /// last, whether or not it has finished it.
    ///
    /// # Errors
    ///
    /// If the slot makes no sense.
    pub fn begins_with(&self) -> io::Result<Option<[u8; 8]>> {
        let Some(begun) = self.words.hands.last_begun() else { return Ok(None) };
        let start = self.inbox.read(self.offset(begun), 16)?;
        let [len, first] = [0, 8].map(|at| start[at..].first_chunk().copied().expect("eight bytes"));
        Ok((u64::from_le_bytes(len) >= 8).then_some(first))
    }

    /// Parent, when the worker is dead and accounted for: an empty slot.
    pub fn reset(&self) {
        self.words.dismissed.store(0, Ordering::Release);
        self.words.hands.lay(0);
        self.words.running.reset();
        self.words.state.store(STARTING, Ordering::Release);
    }

    /// Has the inbox take a frame of `len` bytes behind `used`.
    pub(crate) fn make_room(&self, used: usize, len: usize) -> io::Result<()> {
        self.inbox.reserve(used + 8 + len).map(drop)
    }

    /// Copies a frame into the inbox behind `used`, where there is room; gives what is used then.
    pub(crate) fn put(&self, index: usize, used: usize, parts: [&[u8]; 2]) -> usize {
        let len = parts[0].len() + parts[1].len();
        let end = used + 8 + len.next_multiple_of(8);
        if end as u64 > self.words.filled.load(Ordering::Relaxed) {
            self.words.filled.store(end as u64, Ordering::Relaxed);
        }
        self.inbox.write(used, &(len as u64).to_le_bytes());
        self.inbox.write(used + 8, parts[0]);
        self.inbox.write(used + 8 + parts[0].len(), parts[1]);
        self.words.offsets[index].store(used as u64, Ordering::Relaxed);
        end
    }

    pub(crate) fn trim(&self) -> io::Result<()> {
        // The claim is done. What the hands say was begun last would read as zeros.
        self.words.hands.lay(0);
        let filled = self.words.filled.load(Ordering::Relaxed) as usize;
        self.inbox.punch(0, filled.next_multiple_of(4096))?;
        point(Step::TrimPunched);
        self.words.filled.store(0, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn cut(&self) -> io::Result<Vec<Vec<u8>>> {
        self.words.hands.cut().map(|index| self.frame(index)).collect()
    }

    /// Parent: a copy of a frame, without mapping the inbox.
    fn frame(&self, index: u32) -> io::Result<Vec<u8>> {
        let at = self.offset(index);
        let len = self.inbox.read(at, 8)?;
        let len = u64::from_le_bytes(len.try_into().expect("eight bytes")) as usize;
        self.inbox.read(at.saturating_add(8), len)
    }

    fn offset(&self, index: u32) -> usize {
        self.words.offsets[index as usize % MOST_FRAMES].load(Ordering::Relaxed) as usize
    }

    fn place(&self, index: u32) -> Range<usize> {
        let at = self.offset(index);
        let len = self.inbox.slice(at, 8);
        let len = u64::from_le_bytes(len.try_into().expect("eight bytes")) as usize;
        at + 8..at + 8 + len
    }
}
