//! Makes the structures of a segment for the models, without a segment, and small enough that loom
//! can go through every interleaving. Called by `models/tests/*.rs` only.

use std::sync::Arc;

use crate::block::Area;
use crate::lease::Slot;
use crate::ring::{Ring, TaskRing};
use crate::segment::Segment;

/// Makes a queue's ring of 32 bytes that may grow to 128. A frame of 8 bytes takes 16.
pub fn ring() -> Ring {
    Ring::over(Segment.words(0), Segment.window(128))
}

/// Makes a pool's ring of the same size, and slots with an inbox of 64 bytes.
pub fn tasks(slots: usize) -> (TaskRing, Arc<[Slot]>) {
    let slot = |_| Slot { words: Segment.words(0), inbox: Segment.window(INBOX) };
    (TaskRing::over(Segment.words(0), Segment.window(128), INBOX), (0..slots).map(slot).collect())
}

const INBOX: usize = 64;

/// Makes an area of two entries and two pages of 16 bytes.
pub fn area() -> Area {
    Area::at(Segment.words(0), Segment.window(Area::TABLE + 32))
}
