//! A position in the ring's endless stream of bytes, and the number of frames before it: both in
//! one word.

/// Positions are multiples of this, so that a frame's header never meets the end.
pub(super) const UNIT: u64 = 16;

/// A position and the number of frames before it, each modulo its width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor(pub(super) u64);

impl Cursor {
    const COUNT_BITS: u32 = 28;
    pub(super) const COUNT: u64 = (1 << Self::COUNT_BITS) - 1;
    const POSITION: u64 = (1 << (64 - Self::COUNT_BITS)) - 1;

    pub(super) fn position(self) -> u64 {
        (self.0 >> Self::COUNT_BITS) * UNIT
    }

    /// Returns the cursor behind a frame that takes `bytes` bytes, a multiple of the unit.
    pub(super) fn behind(self, bytes: u64) -> Cursor {
        let units = ((self.0 >> Self::COUNT_BITS) + bytes / UNIT) & Self::POSITION;
        Cursor(units << Self::COUNT_BITS | self.0.wrapping_add(1) & Self::COUNT)
    }

    /// Returns whether there is room for one more frame of `bytes` bytes behind this tail.
    pub(super) fn has_room(self, head: Cursor, bytes: u64, capacity: u64) -> bool {
        let (used, frames) = self.since(head);
        used + bytes <= capacity && frames + 1 < Self::COUNT
    }

    /// Returns whether this cursor lies between `start` and `end`.
    pub(super) fn is_between(self, start: Cursor, end: Cursor) -> bool {
        let ((bytes, frames), (most_bytes, most_frames)) = (self.since(start), end.since(start));
        bytes <= most_bytes && frames <= most_frames && (bytes == most_bytes) == (frames == most_frames)
    }

    /// Returns the bytes and frames from `from` to here. Positions wrap at 2^40 bytes, a multiple
    /// of every capacity.
    pub(super) fn since(self, from: Cursor) -> (u64, u64) {
        let units = (self.0 >> Self::COUNT_BITS).wrapping_sub(from.0 >> Self::COUNT_BITS) & Self::POSITION;
        (units * UNIT, self.0.wrapping_sub(from.0) & Self::COUNT)
    }
}
