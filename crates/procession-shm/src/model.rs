//! Makes what lies in a segment for the models, without one: small, so that every interleaving can be gone through. Called by
//! `tests/loom_*.rs` only.

use std::sync::Arc;

use crate::block::Area;
use crate::lease::Slot;
use crate::ring::{Ring, RingWords};
use crate::segment::{Placed, Segment};

/// A ring of 32 bytes that may grow to 128, and slots with an inbox of 64 bytes. A frame of 8 bytes takes 16.
pub fn ring(slots: usize) -> (Ring, Arc<[Slot]>) {
    let slots: Arc<[Slot]> = (0..slots).map(|_| Slot { words: Segment.words(0), inbox: Segment.window(64) }).collect();
    let words: Placed<RingWords> = Segment.words(0);
    (Ring::over(words, Segment.window(128), slots.clone()), slots)
}

/// An area of two entries and two pages of 16 bytes.
pub fn area() -> Area {
    Area::at(Segment.words(0), Segment.window(Area::TABLE + 32))
}
