//! The names of fields and variants in a message. The encoder numbers them in the order in which it
//! writes them; the decoder counts along.
//!
//! Those of a struct's fields are one *shape*. The encoder remembers the shapes of the structs that
//! it has written, and expects the next struct of that name to have the same: then nothing but its
//! values is written, and to expect wrongly costs a few bytes.

use std::cell::Cell;
use std::rc::Rc;

use super::tag::{FIRST, MAX_NUMBERED, NEW};

/// The encoder's. A name is known by its address: it lives for ever, and what is there never
/// changes.
pub(super) struct Written {
    /// The message that is being written: what an earlier one has numbered is free.
    message: u64,
    names: [Slot; SLOTS],
    name_count: usize,
    shapes: [ShapeSlot; SLOTS],
    shape_count: usize,
    /// Of the structs that are being written and have no shape, from the outermost to the
    /// innermost.
    pub(super) unshaped: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Address(usize, usize);

#[derive(Clone, Copy, Default)]
struct Slot {
    of: Address,
    message: u64,
    number: u8,
}

#[derive(Default)]
struct ShapeSlot {
    of: Address,
    shape: Option<Rc<Shape>>,
    message: u64,
    number: u8,
}

/// The names of a struct's fields.
pub(super) struct Shape {
    names: Vec<&'static str>,
    /// As they are written: each behind a byte that is its length.
    pub(super) written: Vec<u8>,
}

/// The form in which a shape is to be written.
pub(super) enum Number {
    Known(u8),
    New,
}

const SLOTS: usize = 128;
/// How many slots a name may be in.
const MAX_PROBES: usize = 4;
const MAX_SHAPED_NAME: usize = 0x7f;

thread_local! {
    /// Kept from message to message.
    static KEPT: Cell<Option<Box<Written>>> = const { Cell::new(None) };
}

impl Written {
    /// For a new message. One that is encoded while another is has its own.
    pub(super) fn begin() -> Box<Written> {
        let mut written = KEPT.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
            Box::new(Written {
                message: 0,
                names: [Slot::default(); SLOTS],
                name_count: 0,
                shapes: std::array::from_fn(|_| ShapeSlot::default()),
                shape_count: 0,
                unshaped: Vec::new(),
            })
        });
        written.message += 1;
        (written.name_count, written.shape_count) = (0, 0);
        written.unshaped.clear();
        written
    }

    pub(super) fn keep(self: Box<Written>) {
        // Without effect in a thread that ends.
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }

    /// The number of a name that was written before, as it stands in the message. `None`: write it
    /// out.
    #[inline]
    pub(super) fn name(&mut self, name: &'static str) -> Option<u8> {
        let (of, at) = Address::of(name);
        for probe in 0..MAX_PROBES {
            let slot = &mut self.names[(at + probe) % SLOTS];
            if slot.message != self.message {
                if self.name_count < MAX_NUMBERED {
                    *slot = Slot { of, message: self.message, number: FIRST + self.name_count as u8 };
                }
                break;
            }
            if slot.of == of {
                return Some(slot.number);
            }
        }
        self.name_count += 1;
        None
    }

    /// Returns the shape that a struct or variant of that name is expected to have, and its number.
    #[inline]
    pub(super) fn shape(&mut self, of: &'static str) -> Option<(Rc<Shape>, Number)> {
        let (of, at) = Address::of(of);
        let slot = &mut self.shapes[at];
        let shape = slot.shape.as_ref().filter(|_| slot.of == of)?.clone();
        if slot.message == self.message {
            return Some((shape, Number::Known(slot.number)));
        }
        if self.shape_count == MAX_NUMBERED {
            return None;
        }
        (slot.message, slot.number) = (self.message, FIRST + self.shape_count as u8);
        self.shape_count += 1;
        Some((shape, Number::New))
    }

    /// Notes the names of a struct that had no shape: those of `unshaped` from `first` on.
    #[cold]
    pub(super) fn learn(&mut self, of: &'static str, first: usize) {
        let names: Vec<_> = self.unshaped.drain(first..).collect();
        if names.is_empty() || names.iter().any(|name| name.len() > MAX_SHAPED_NAME) {
            return;
        }
        let written = names.iter().flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        let (of, at) = Address::of(of);
        self.shapes[at] = ShapeSlot { of, shape: Some(Rc::new(Shape { names, written })), message: 0, number: 0 };
    }

    /// Forgets a shape: a struct of that name had more fields.
    #[cold]
    pub(super) fn forget(&mut self, of: &'static str) {
        self.shapes[Address::of(of).1].shape = None;
    }
}

impl Address {
    /// Of a name, and the slot where it is looked for first.
    #[inline]
    fn of(name: &'static str) -> (Address, usize) {
        let address = name.as_ptr().addr();
        let hash = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        (Address(address, name.len()), hash as usize % SLOTS)
    }
}

impl Shape {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether `name` is the one at `index`.
    #[inline]
    pub(super) fn has(&self, index: usize, name: &'static str) -> bool {
        self.names.get(index).is_some_and(|its| its.as_ptr() == name.as_ptr() && its.len() == name.len())
    }

    /// Returns the index of `name`, at `from` or behind.
    pub(super) fn find(&self, from: usize, name: &'static str) -> Option<usize> {
        (from..self.names.len()).find(|index| self.has(*index, name))
    }
}

/// The decoder's: names or shapes, in the order of their numbers.
pub(super) struct Read<T> {
    first: [T; FEW],
    more: Vec<T>,
    count: usize,
}

/// As many need no memory of their own.
const FEW: usize = 8;

impl<T: Copy + Default> Read<T> {
    #[inline]
    pub(super) fn new() -> Read<T> {
        Read { first: [T::default(); FEW], more: Vec::new(), count: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if let Some(place) = self.first.get_mut(self.count) {
            *place = item;
        } else if self.count < MAX_NUMBERED {
            self.more.push(item);
        }
        self.count += 1;
    }

    /// Returns the item with that number; `None` if there is none yet.
    #[inline]
    pub(super) fn get(&self, number: u8) -> Option<T> {
        let index = usize::from(number.checked_sub(NEW + 1)?);
        if index >= self.count {
            return None;
        }
        self.first.get(index).or_else(|| self.more.get(index - FEW)).copied()
    }
}
