//! The record of which frames of a worker's claim are begun. The worker begins the next frame; the
//! parent may cut off those that are not begun and give them to other workers. Both change one
//! word, so each frame has exactly one owner.
//!
//! | death | what it leaves |
//! |---|---|
//! | worker, before it begins a frame | the frame is not begun: it goes to another worker |
//! | worker, after it has begun a frame | the frame's running task is lost |
//! | worker, after it has set the word to 0 for a finished claim | nothing |

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};
use crate::ring::Overwritten;

/// The most frames of one claim.
pub(crate) const MAX_CLAIM_FRAMES: usize = if cfg!(loom) { 2 } else { 64 };

/// `next` (upper half): how many frames are begun. `end` (lower half): how many are the worker's.
/// `next` is never above `end`.
#[derive(Debug)]
#[repr(C)]
pub struct Begun {
    word: AtomicU64,
}

impl Begun {
    /// Makes a word without a claim.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Begun {
        Begun { word: AtomicU64::new(0) }
    }

    /// Worker: sets the word to a claim of `frames` frames, none begun; to 0 when the last claim is
    /// finished.
    pub fn set_claimed(&self, frames: u32) {
        self.word.store(u64::from(frames), Ordering::Release);
    }

    /// Worker: begins the next frame and returns its index.
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

    /// Parent: cuts off the frames that are not begun and returns their indices.
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

    /// Parent: returns the index of the frame that was begun last, finished or not.
    ///
    /// # Errors
    ///
    /// [`Overwritten`].
    pub fn last_begun(&self) -> Result<Option<u32>, Overwritten> {
        checked(self.word.load(Ordering::Acquire)).map(|(next, _)| next.checked_sub(1))
    }

    /// Parent: returns whether there is no claim: each claimed frame is finished, and its results
    /// are committed.
    pub fn is_idle(&self) -> bool {
        self.word.load(Ordering::Acquire) == 0
    }
}

const OVERWRITTEN: Overwritten = Overwritten("the claim");

/// Splits the word that a worker wrote, if a worker can have written it.
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
