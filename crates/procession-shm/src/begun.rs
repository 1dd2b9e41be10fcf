//! The hands over a claim: which of a worker's claimed frames are begun. The worker begins the next
//! one; the parent may cut off those that are not begun and give them to others. One word, so that
//! each frame is had by exactly one.
//!
//! | death | what it leaves |
//! |---|---|
//! | worker, before it begins a frame | the frame is not begun: it goes to another worker |
//! | worker, after | the frame was begun: its running task is lost |
//! | worker, after its hands are off a claim that is finished | nothing |

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::ring::Overwritten;

/// The most frames of one claim.
pub(crate) const MAX_CLAIM_FRAMES: usize = if cfg!(loom) { 2 } else { 64 };

/// `next` (upper half): frames begun. `end` (lower half): one past the last that is the worker's.
/// Never next > end.
#[derive(Debug)]
#[repr(C)]
pub struct Begun {
    word: AtomicU64,
}

impl Begun {
    /// Begun over nothing.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Begun {
        Begun { word: AtomicU64::new(0) }
    }

    /// Worker: lays hands on `frames` frames, none begun; on none when the last claim is finished.
    pub fn set_claimed(&self, frames: u32) {
        self.word.store(u64::from(frames), Ordering::Release);
    }

    /// Worker: begins the next frame, and says which it is.
    pub fn begin(&self) -> Option<u32> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let (next, end) = split(seen);
            if next >= end {
                return None;
            }
            match self.word.compare_exchange_weak(seen, join(next + 1, end), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    point(Step::FrameBegun);
                    return Some(next);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: cuts off the frames that are not begun, and says which they were.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn cut_off(&self) -> Result<std::ops::Range<u32>, Overwritten> {
        let mut seen = self.word.load(Ordering::Acquire);
        // Each of the worker's steps may come in between, once.
        for _ in 0..MAX_CLAIM_FRAMES + 2 {
            let (next, end) = checked(seen)?;
            if next == end {
                return Ok(0..0);
            }
            match self.word.compare_exchange(seen, join(next, next), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(next..end),
                Err(now) => seen = now,
            }
        }
        Err(OVERWRITTEN)
    }

    /// Parent: the frame begun last, finished or not.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn last_begun(&self) -> Result<Option<u32>, Overwritten> {
        checked(self.word.load(Ordering::Acquire)).map(|(next, _)| next.checked_sub(1))
    }

    /// Parent: whether they are on nothing: whatever was claimed is finished, and its results are
    /// committed.
    pub fn is_idle(&self) -> bool {
        self.word.load(Ordering::Acquire) == 0
    }
}

const OVERWRITTEN: Overwritten = Overwritten("the claim");

/// What a word says that a worker wrote.
fn checked(word: u64) -> Result<(u32, u32), Overwritten> {
    let (next, end) = split(word);
    if next <= end && end as usize <= MAX_CLAIM_FRAMES { Ok((next, end)) } else { Err(OVERWRITTEN) }
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn join(next: u32, end: u32) -> u64 {
    u64::from(next) << 32 | u64::from(end)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn cut_off_frames_are_not_begun() {
        let begun = Begun::new();
        assert_eq!((begun.begin(), begun.cut_off(), begun.last_begun()), (None, Ok(0..0), Ok(None)));
        begun.set_claimed(3);
        assert!(!begun.is_idle());
        assert_eq!(begun.begin(), Some(0));
        assert_eq!(begun.cut_off(), Ok(1..3));
        assert_eq!((begun.begin(), begun.last_begun()), (None, Ok(Some(0))));
        begun.set_claimed(0);
        assert!(begun.is_idle());
    }

    #[test]
    fn numbers_that_no_worker_writes_are_refused() {
        for word in [join(2, 1), join(0, MAX_CLAIM_FRAMES as u32 + 1), join(u32::MAX, u32::MAX), u64::from(u32::MAX)] {
            let begun = Begun { word: AtomicU64::new(word) };
            assert_eq!((begun.cut_off(), begun.last_begun()), (Err(OVERWRITTEN), Err(OVERWRITTEN)), "{word:x}");
        }
    }
}
