//! The names that a type expects of its fields, as a shape would write them. The decoder compares
//! the two at once, and not name by name.

use std::cell::Cell;

/// The names that a `Deserialize` gives its fields.
pub(super) type Names = &'static [&'static str];

/// The names that have been compared before, by their address: they live for ever and never change.
pub(super) struct Expected([Slot; SLOTS]);

#[derive(Default)]
struct Slot {
    address: usize,
    len: usize,
    written: Vec<u8>,
}

const SLOTS: usize = 64;

thread_local! {
    /// Kept from message to message.
    static KEPT: Cell<Option<Box<Expected>>> = const { Cell::new(None) };
}

impl Expected {
    pub(super) fn begin() -> Box<Expected> {
        let kept = KEPT.try_with(Cell::take).ok().flatten();
        kept.unwrap_or_else(|| Box::new(Expected(std::array::from_fn(|_| Slot::default()))))
    }

    pub(super) fn keep(self: Box<Expected>) {
        // Without effect in a thread that ends.
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }

    /// Returns whether a shape is that of `names`, in this order.
    #[inline]
    pub(super) fn is_of(&mut self, names: Names, shape: &[u8]) -> bool {
        let address = names.as_ptr().addr();
        let hash = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let slot = &mut self.0[hash as usize % SLOTS];
        if slot.address != address || slot.len != names.len() {
            slot.fill(names);
        }
        slot.written == shape
    }
}

impl Slot {
    #[cold]
    fn fill(&mut self, names: Names) {
        self.written.clear();
        (self.address, self.len) = (names.as_ptr().addr(), names.len());
        for name in names {
            // No shape has a longer one, and a shorter length is no such name's.
            self.written.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            self.written.extend_from_slice(name.as_bytes());
        }
    }
}
