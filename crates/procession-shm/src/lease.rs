//! A slot: the words of one worker in a pool's segment. The worker records its claim in the slot
//! *before* the frames are gone from the ring, so at any moment a task is in the ring or in one
//! slot. The worker writes its slot. The parent reads it, cuts off the frames that are not begun,
//! and resets it for a replacement.

use std::io;
use std::ops::Range;

use crate::begun::{Begun, MAX_CLAIM_FRAMES};
use crate::fault::{Step, point};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::Overwritten;
use crate::running::Running;
#[cfg(loom)]
use crate::segment::Window;
use crate::segment::{Placed, Words};
#[cfg(not(loom))]
use crate::window::Window;

/// A claim with this many bytes takes no further frame.
pub(crate) const MAX_CLAIM_BYTES: usize = 1 << 20;

/// An inbox that was filled further than this is given back to the system when its claim is done.
const INBOX_KEPT: usize = 1 << 20;

/// The worker is starting.
const STARTING: u32 = 0;
/// The worker takes tasks.
const READY: u32 = 1;
/// The worker has stopped taking tasks by itself.
const FINISHED: u32 = 2;
/// The worker has stopped taking tasks because shared memory was overwritten.
const OVERWRITTEN: u32 = 3;

/// See the module.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SlotWords {
    /// One of the states above. The worker writes it; the parent sets it back when the worker is
    /// dead.
    state: AtomicU32,
    /// 1: the worker must end once its running task is done. The parent writes it.
    dismissed: AtomicU32,
    /// The frames of the claim that are begun. It is set before a claim is committed, and void if
    /// that never happens.
    pub(crate) begun: Begun,
    /// The running task.
    running: Running,
    /// The ring's head at the claim. While the head is still there, the claim is not committed.
    pub(crate) from: AtomicU64,
    /// The length to which the inbox was filled since its memory was last given back, by this
    /// worker or by a dead one before it. The worker raises it before it writes bytes and sets it
    /// back after they are gone, so no death keeps memory.
    filled: AtomicU64,
    /// The process that has the slot. It writes it, for those who look on; the parent does not read
    /// it.
    pid: AtomicU32,
    /// The place in the inbox of each frame of the claim.
    pub(crate) offsets: [AtomicU64; MAX_CLAIM_FRAMES],
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
            begun: Begun::new(),
            running: Running::new(),
            from: AtomicU64::new(0),
            filled: AtomicU64::new(0),
            pid: AtomicU32::new(0),
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
    /// Worker: says that it takes tasks from now on.
    pub fn set_ready(&self) {
        self.words.state.store(READY, Ordering::Release);
    }

    /// Worker: says that it takes no more tasks.
    pub fn set_finished(&self) {
        self.words.state.store(FINISHED, Ordering::Release);
    }

    /// Worker: says that it takes no more tasks because it found shared memory overwritten.
    pub fn set_overwritten(&self) {
        self.words.state.store(OVERWRITTEN, Ordering::Release);
    }

    /// Worker: says which process has the slot.
    pub fn set_pid(&self, pid: u32) {
        self.words.pid.store(pid, Ordering::Relaxed);
    }

    /// Onlooker: returns the process that has the slot, or had it last; 0: none had it.
    pub fn pid(&self) -> u32 {
        self.words.pid.load(Ordering::Relaxed)
    }

    /// Parent: returns whether the worker has stopped taking tasks by itself.
    pub fn is_finished(&self) -> bool {
        self.words.state.load(Ordering::Acquire) == FINISHED
    }

    /// Parent: returns whether the worker has come as far as taking tasks.
    pub fn was_ready(&self) -> bool {
        self.words.state.load(Ordering::Acquire) != STARTING
    }

    /// Parent: tells the worker to end, or not to end, once its running task is done. The caller
    /// must wake it at the task gate.
    pub fn dismiss(&self, is_dismissed: bool) {
        self.words.dismissed.store(is_dismissed.into(), Ordering::Release);
    }

    /// Worker: returns whether it must end.
    #[inline]
    pub fn is_dismissed(&self) -> bool {
        self.words.dismissed.load(Ordering::Relaxed) != 0
    }

    /// Worker: begins the next claimed frame and returns its place in the inbox. From here on the
    /// frame is running and belongs to this worker.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn begin_next(&self) -> Result<Option<Range<usize>>, Overwritten> {
        self.words.begun.begin().map(|index| self.place(index)).transpose()
    }

    /// Worker: ends its claim. All of it is done, and its results are committed.
    pub fn finish_claim(&self) {
        self.words.begun.set_claimed(0);
        point(Step::ClaimFinished);
    }

    /// Parent: returns whether the worker has no claim, because each frame that it claimed is
    /// finished.
    pub fn has_nothing(&self) -> bool {
        self.words.begun.is_idle()
    }

    /// Worker: returns a part of the inbox that is within the claim.
    #[inline]
    pub fn claimed(&self, place: Range<usize>) -> &[u8] {
        self.inbox.slice(place.start, place.len())
    }

    /// Returns the running task.
    #[inline]
    pub fn running(&self) -> &Running {
        &self.words.running
    }

    /// Worker, when its claim is done: returns whether the inbox holds enough memory to give back.
    pub fn is_bulky(&self) -> bool {
        self.words.filled.load(Ordering::Relaxed) as usize > INBOX_KEPT
    }

    /// Parent, when the worker is dead: returns the frame that it began last, finished or not. No
    /// frame is longer than `longest`.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn last_begun(&self, longest: usize) -> Result<Option<Vec<u8>>, Overwritten> {
        let begun = self.words.begun.last_begun()?;
        begun.map(|index| self.frame(index, longest, longest)).transpose()
    }

    /// Parent, with the ring locked, so that no claim is being made: returns the first bytes of the
    /// frame that the worker began last, finished or not.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn begins_with(&self, longest: usize) -> Result<Option<[u8; 8]>, Overwritten> {
        let Some(begun) = self.words.begun.last_begun()? else { return Ok(None) };
        Ok(self.frame(begun, longest, 8)?.first_chunk().copied())
    }

    /// Parent: checks that the worker's words are possible.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn check(&self) -> Result<(), Overwritten> {
        match self.words.state.load(Ordering::Acquire) {
            STARTING | READY | FINISHED => self.words.begun.last_begun().map(|_| ()),
            OVERWRITTEN => Err(Overwritten("the claim")),
            _ => Err(Overwritten("the state")),
        }
    }

    /// Parent, when the dead worker's tasks are dealt with: makes the slot empty.
    pub fn reset(&self) {
        self.words.dismissed.store(0, Ordering::Release);
        self.words.begun.set_claimed(0);
        self.words.running.reset();
        self.words.state.store(STARTING, Ordering::Release);
    }

    /// Makes room in the inbox for a frame of `len` bytes behind `used`.
    pub(crate) fn make_room(&self, used: usize, len: usize) -> io::Result<()> {
        self.inbox.reserve(used + LEN + len).map(drop)
    }

    /// Copies a frame into the inbox behind `used`, where there is room. Returns the new value of
    /// `used`.
    pub(crate) fn put(&self, index: usize, used: usize, parts: [&[u8]; 2]) -> usize {
        let len = parts[0].len() + parts[1].len();
        let end = used + LEN + len.next_multiple_of(8);
        if end as u64 > self.words.filled.load(Ordering::Relaxed) {
            self.words.filled.store(end as u64, Ordering::Relaxed);
        }
        let inbox = self.inbox.mapped();
        inbox.write(used, &(len as u64).to_le_bytes());
        inbox.write(used + LEN, parts[0]);
        inbox.write(used + LEN + parts[0].len(), parts[1]);
        self.words.offsets[index].store(used as u64, Ordering::Relaxed);
        end
    }

    pub(crate) fn trim(&self) -> io::Result<()> {
        let filled = self.words.filled.load(Ordering::Relaxed) as usize;
        self.inbox.punch(0, filled.min(self.inbox.len()).next_multiple_of(4096))?;
        point(Step::TrimPunched);
        self.words.filled.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Parent: cuts off the frames that are not begun, and returns copies of them. No frame is
    /// longer than `longest`.
    pub(crate) fn cut(&self, longest: usize) -> Result<Vec<Vec<u8>>, Overwritten> {
        let (mut frames, mut left) = (Vec::new(), longest + MAX_CLAIM_BYTES);
        for index in self.words.begun.cut_off()? {
            let bound = longest.min(left);
            let frame = self.frame(index, bound, bound)?;
            left -= frame.len();
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Parent: copies a frame of the claim, or its first `most` bytes, without mapping the inbox.
    /// The frame, and so the allocation, has at most `longest` bytes.
    fn frame(&self, index: u32, longest: usize, most: usize) -> Result<Vec<u8>, Overwritten> {
        let at = self.offset(index);
        let len = length(&self.inbox.read(at, LEN).map_err(|_| OF_INBOX)?);
        if len > longest {
            return Err(OF_INBOX);
        }
        self.inbox.read(at + LEN, len.min(most)).map_err(|_| OF_INBOX)
    }

    /// Worker: returns where a frame of the claim lies in the inbox, if that place is possible.
    fn place(&self, index: u32) -> Result<Range<usize>, Overwritten> {
        let (at, inbox) = (self.offset(index), self.inbox.mapped());
        let start = at.checked_add(LEN).filter(|start| *start <= inbox.len()).ok_or(OF_INBOX)?;
        let len = length(inbox.slice(at, LEN));
        if len > inbox.len() - start {
            return Err(OF_INBOX);
        }
        Ok(start..start + len)
    }

    fn offset(&self, index: u32) -> usize {
        self.words.offsets[index as usize % MAX_CLAIM_FRAMES].load(Ordering::Relaxed) as usize
    }
}

/// The length of each frame in an inbox stands before it.
const LEN: usize = 8;

fn length(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |len| u64::from_le_bytes(*len)) as usize
}

const OF_INBOX: Overwritten = Overwritten("the inbox");
