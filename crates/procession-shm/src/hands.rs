//! The hands over a claim: which of a worker's claimed frames are begun. The worker begins the next one; the parent may
//! cut off those that are not begun and give them to others. One word, so that each frame is had by exactly one.
//!
//! | death | what it leaves |
//! |---|---|
//! | worker, before it begins a frame | the frame is not begun: it goes to another worker |
//! | worker, after | the frame was begun: its running task is lost |

use crate::fault::{Step, point};
use crate::primitive::{AtomicU64, Ordering};

/// `next` (upper half): frames begun. `end` (lower half): one past the last that is the worker's. Never next > end.
#[derive(Debug)]
#[repr(C)]
pub struct Hands {
    word: AtomicU64,
}

impl Hands {
    /// Hands over nothing.
    #[allow(clippy::new_without_default, reason = "only models and tests make one that is not in a segment")]
    pub fn new() -> Hands {
        Hands { word: AtomicU64::new(0) }
    }

    /// Worker: lays hands on `frames` frames, none begun.
    pub fn lay(&self, frames: u32) {
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
                    point(Step::HandsBegun);
                    return Some(next);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Parent: cuts off the frames that are not begun, and says which they were.
    pub fn cut(&self) -> std::ops::Range<u32> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let (next, end) = split(seen);
            if next >= end {
                return 0..0;
            }
            match self.word.compare_exchange_weak(seen, join(next, next), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return next..end,
                Err(now) => seen = now,
            }
        }
    }

    /// The frame begun last, finished or not.
    pub fn last_begun(&self) -> Option<u32> {
        split(self.word.load(Ordering::Acquire)).0.checked_sub(1)
    }
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
    fn what_is_cut_off_is_not_begun() {
        let hands = Hands::new();
        assert_eq!((hands.begin(), hands.cut(), hands.last_begun()), (None, 0..0, None));
        hands.lay(3);
        assert_eq!(hands.begin(), Some(0));
        assert_eq!(hands.cut(), 1..3);
        assert_eq!((hands.begin(), hands.last_begun()), (None, Some(0)));
    }
}
