//! The names of fields and variants in a message. The encoder numbers them in the order in which it
//! writes them; the decoder counts along.
//!
//! Those of a struct's fields are one *shape*. The encoder remembers the shapes of the structs that
//! it has written, and expects the next struct of that name to have the same: then nothing but its
//! values is written, and to expect wrongly costs a few bytes.

use std::cell::Cell;
use std::ops::Range;

use super::tag::{FIRST, MAX_NUMBERED};

/// The encoder's. A name is known by its address: it lives for ever, and what is there never
/// changes.
pub(super) struct Written {
    /// The message that is being written: what an earlier one has numbered is free.
    message: u64,
    names: [Slot; SLOTS],
    name_count: usize,
    shapes: [Shape; SLOTS],
    shape_count: usize,
    /// The names of the shapes' fields, one shape behind the other. They stay where they are while
    /// a message is written: a struct holds the places of its names.
    fields: Vec<&'static str>,
    /// The same as they are written: each behind a byte that is its length.
    pub(super) written: Vec<u8>,
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

/// The places of a struct's names in `fields` and in `written`.
#[derive(Clone, Default)]
pub(super) struct Shape {
    of: Address,
    pub(super) fields: Range<u32>,
    pub(super) written: Range<u32>,
    message: u64,
    pub(super) number: u8,
}

const SLOTS: usize = 128;
/// The number of slots that a name may be in.
const MAX_PROBES: usize = 4;
const MAX_SHAPED_NAME: usize = 0x7f;
/// The most names of fields that are kept. When half of them are there, the next message begins
/// anew.
const MAX_FIELDS: usize = 2048;

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
                shapes: std::array::from_fn(|_| Shape::default()),
                shape_count: 0,
                fields: Vec::new(),
                written: Vec::new(),
                unshaped: Vec::new(),
            })
        });
        written.message += 1;
        (written.name_count, written.shape_count) = (0, 0);
        written.unshaped.clear();
        if written.fields.len() > MAX_FIELDS / 2 {
            written.forget_all();
        }
        written
    }

    pub(super) fn keep(self: Box<Written>) {
        // Without effect in a thread that ends.
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }

    /// Returns whether `name` is at that place in the fields of shapes.
    #[inline]
    pub(super) fn has_field(&self, place: u32, name: &'static str) -> bool {
        let field = self.fields.get(place as usize);
        field.is_some_and(|field| field.as_ptr() == name.as_ptr() && field.len() == name.len())
    }

    /// The number of a name that was written before, as it stands in the message. `None`: write it
    /// out.
    #[inline]
    pub(super) fn name(&mut self, name: &'static str) -> Option<u8> {
        let (of, at) = Address::of(name);
        let first = &self.names[at];
        if first.message == self.message && first.of == of { Some(first.number) } else { self.find_name(of, at) }
    }

    /// Looks through the slots from `at` on, and takes a free one.
    #[inline(never)]
    fn find_name(&mut self, of: Address, at: usize) -> Option<u8> {
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

    /// Returns the shape that a struct or variant of that name is expected to have, if it has been
    /// written in this message.
    #[inline]
    pub(super) fn known_shape(&self, of: &'static str) -> Option<&Shape> {
        let (of, at) = Address::of(of);
        let shape = &self.shapes[at];
        (shape.message == self.message && shape.of == of).then_some(shape)
    }

    /// As [`known_shape`](Self::known_shape), if it has not, and numbers it. `None`: the struct is
    /// written without one.
    pub(super) fn new_shape(&mut self, of: &'static str) -> Option<Shape> {
        let (of, at) = Address::of(of);
        let shape = &mut self.shapes[at];
        if shape.of != of || self.shape_count == MAX_NUMBERED {
            return None;
        }
        (shape.message, shape.number) = (self.message, FIRST + self.shape_count as u8);
        self.shape_count += 1;
        Some(shape.clone())
    }

    /// Notes the names of a struct that had no shape: those of `unshaped` from `first` on.
    #[cold]
    pub(super) fn learn(&mut self, of: &'static str, first: usize) {
        let names = &self.unshaped[first..];
        let (of, at) = Address::of(of);
        let known = &self.shapes[at];
        let is_known = known.of == of && self.fields[known.fields.start as usize..known.fields.end as usize] == *names;
        let has_room = self.fields.len() + names.len() <= MAX_FIELDS;
        let is_short = |name: &&str| name.len() <= MAX_SHAPED_NAME;
        if !names.is_empty() && !is_known && has_room && names.iter().all(is_short) {
            let (field, byte) = (self.fields.len() as u32, self.written.len() as u32);
            self.fields.extend_from_slice(names);
            for name in names {
                self.written.push(name.len() as u8);
                self.written.extend_from_slice(name.as_bytes());
            }
            let (fields, written) = (field..self.fields.len() as u32, byte..self.written.len() as u32);
            self.shapes[at] = Shape { of, fields, written, message: 0, number: 0 };
        }
        self.unshaped.truncate(first);
    }

    /// Forgets a shape: a struct of that name had more fields.
    #[cold]
    pub(super) fn forget(&mut self, of: &'static str) {
        self.shapes[Address::of(of).1] = Shape::default();
    }

    #[cold]
    fn forget_all(&mut self) {
        self.shapes.fill(Shape::default());
        self.fields.clear();
        self.written.clear();
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

/// The decoder's: names or shapes, in the order of their numbers.
pub(super) struct Read<T> {
    first: [Option<T>; FEW],
    more: Vec<T>,
    count: usize,
}

/// As many need no memory of their own.
const FEW: usize = 8;

impl<T: Copy> Read<T> {
    #[inline]
    pub(super) fn new() -> Read<T> {
        Read { first: [None; FEW], more: Vec::new(), count: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if let Some(place) = self.first.get_mut(self.count) {
            *place = Some(item);
        } else if self.count < MAX_NUMBERED {
            self.more.push(item);
        }
        self.count += 1;
    }

    /// Returns the item with that number; `None` if there is none yet.
    #[inline]
    pub(super) fn get(&self, number: u8) -> Option<T> {
        let index = usize::from(number).wrapping_sub(usize::from(FIRST));
        match self.first.get(index) {
            Some(item) => *item,
            None => self.more.get(index.wrapping_sub(FEW)).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_core::ser::{Serialize, SerializeStruct, Serializer};

    use super::*;
    use crate::codec::{from_bytes, to_bytes};

    /// A struct of any name and fields, of which some are left out.
    struct Record {
        of: &'static str,
        fields: &'static [&'static str],
        left_out: usize,
    }

    impl Record {
        fn fields(&self) -> impl Iterator<Item = (&'static str, u32)> {
            let is_there = |(index, _): &(usize, _)| self.left_out == 0 || index % self.left_out > 0;
            self.fields.iter().enumerate().filter(is_there).map(|(index, name)| (*name, index as u32))
        }
    }

    impl Serialize for Record {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct(self.of, self.fields.len())?;
            self.fields().try_for_each(|(name, value)| fields.serialize_field(name, &value))?;
            fields.end()
        }
    }

    fn leaked(text: String) -> &'static str {
        text.leak()
    }

    #[test]
    fn structs_of_more_types_than_are_kept_or_numbered_arrive() {
        let types: Vec<_> = (0..2 * SLOTS + MAX_NUMBERED)
            .map(|of| {
                let fields: Vec<_> = (0..of % 20).map(|field| leaked(format!("field {field} of {of}"))).collect();
                (leaked(format!("type {of}")), &*fields.leak())
            })
            .collect();
        assert!(types.iter().map(|(_, fields)| fields.len()).sum::<usize>() > MAX_FIELDS);
        for message in 1..8 {
            let record = |index: usize| {
                let (of, fields) = types[index * message % types.len()];
                Record { of, fields, left_out: index % 5 }
            };
            let records: Vec<_> = (0..3 * types.len()).map(record).collect();
            let mut bytes = Vec::new();
            to_bytes(&records, &mut bytes).expect("it encodes");
            let read: Vec<BTreeMap<String, u32>> = from_bytes(&bytes).expect("it decodes");
            let sent =
                records.iter().map(|record| record.fields().map(|(name, value)| (name.to_owned(), value)).collect());
            assert_eq!(read, sent.collect::<Vec<BTreeMap<_, _>>>());
        }
    }
}
