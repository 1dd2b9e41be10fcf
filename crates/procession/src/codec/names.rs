//! The names of fields and variants that a message has had. The encoder numbers them in the order in which it writes
//! them; the decoder counts along.

use std::cell::Cell;

use super::tag::{MAX_NAMES, NEW_NAME};

/// The encoder's. A name is known by its address: it lives for ever, and what is there never changes.
pub(super) struct Written {
    slots: [Slot; SLOTS],
    /// The message that is being written: slots of an earlier one are free.
    message: u64,
    count: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    address: usize,
    len: usize,
    message: u64,
    number: u8,
}

const SLOTS: usize = 128;
/// How many slots a name may be in.
const MAX_PROBES: usize = 4;

thread_local! {
    /// Kept from message to message.
    static KEPT: Cell<Option<Box<Written>>> = const { Cell::new(None) };
}

impl Written {
    /// For a new message. One that is encoded while another is has its own.
    pub(super) fn begin() -> Box<Written> {
        let mut names = KEPT.take().unwrap_or_else(|| {
            let free = Slot { address: 0, len: 0, message: 0, number: 0 };
            Box::new(Written { slots: [free; SLOTS], message: 0, count: 0 })
        });
        names.message += 1;
        names.count = 0;
        names
    }

    pub(super) fn keep(self: Box<Written>) {
        // Without effect in a thread that ends.
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }

    /// The number of a name that was written before, as it stands in the message. `None`: write it out.
    #[inline]
    pub(super) fn number(&mut self, name: &'static str) -> Option<u8> {
        let (address, len) = (name.as_ptr().addr(), name.len());
        let hash = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        for probe in 0..MAX_PROBES {
            let slot = &mut self.slots[(hash as usize + probe) % SLOTS];
            if slot.message != self.message {
                if self.count < MAX_NAMES {
                    let number = super::tag::FIRST_NAME + self.count as u8;
                    *slot = Slot { address, len, message: self.message, number };
                }
                break;
            }
            if slot.address == address && slot.len == len {
                return Some(slot.number);
            }
        }
        self.count += 1;
        None
    }
}

/// The decoder's.
pub(super) struct Read<'de> {
    first: [&'de str; FEW],
    more: Vec<&'de str>,
    count: usize,
}

/// As many need no memory of their own.
const FEW: usize = 16;

impl<'de> Read<'de> {
    #[inline]
    pub(super) fn new() -> Read<'de> {
        Read { first: [""; FEW], more: Vec::new(), count: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, name: &'de str) {
        if let Some(place) = self.first.get_mut(self.count) {
            *place = name;
        } else if self.count < MAX_NAMES {
            self.more.push(name);
        }
        self.count += 1;
    }

    /// The name of that number; `None` if there is none yet.
    #[inline]
    pub(super) fn get(&self, number: u8) -> Option<&'de str> {
        let index = usize::from(number - NEW_NAME - 1);
        if index >= self.count {
            return None;
        }
        self.first.get(index).or_else(|| self.more.get(index - FEW)).copied()
    }
}
