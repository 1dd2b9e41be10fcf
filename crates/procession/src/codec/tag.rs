//! The first byte of each value, and of each name.

/// The end of a sequence, a map or a struct.
pub(super) const END: u8 = 0;
pub(super) const UNIT: u8 = 1;
pub(super) const NONE: u8 = 2;
pub(super) const SOME: u8 = 3;
pub(super) const FALSE: u8 = 4;
pub(super) const TRUE: u8 = 5;
pub(super) const F32: u8 = 6;
pub(super) const F64: u8 = 7;
pub(super) const CHAR: u8 = 8;
pub(super) const U128: u8 = 9;
pub(super) const I128: u8 = 10;
pub(super) const STR: u8 = 11;
pub(super) const BYTES: u8 = 12;
pub(super) const SEQ: u8 = 13;
pub(super) const MAP: u8 = 14;
pub(super) const STRUCT: u8 = 15;
pub(super) const UNIT_VARIANT: u8 = 16;
pub(super) const VARIANT: u8 = 17;
/// A struct whose names are a shape.
pub(super) const SHAPED: u8 = 18;
/// In place of a value: the shape has this field, and the struct does not.
pub(super) const ABSENT: u8 = 19;
/// A sequence of which each element is a `u8`.
pub(super) const U8_SEQ: u8 = 20;

// Integers: the low half of the tag is the number of bytes.
pub(super) const U8: u8 = 0x20;
pub(super) const U16: u8 = 0x30;
pub(super) const U32: u8 = 0x40;
pub(super) const U64: u8 = 0x50;
pub(super) const I8: u8 = 0x60;
pub(super) const I16: u8 = 0x70;
pub(super) const I32: u8 = 0x80;
pub(super) const I64: u8 = 0x90;

/// Text whose length is in the low bits.
pub(super) const SHORT_STR: u8 = 0xa0;
pub(super) const MAX_SHORT_STR: usize = 31;
pub(super) const LAST_SHORT_STR: u8 = SHORT_STR + MAX_SHORT_STR as u8;

/// In place of the number of a name or a shape: it follows, and has the next number from now on.
pub(super) const NEW: u8 = 1;
/// The number of the first name and of the first shape, as it stands in a message.
pub(super) const FIRST: u8 = 2;
/// The most names, and the most shapes, of a message that have numbers.
pub(super) const MAX_NUMBERED: usize = 0xff - FIRST as usize + 1;
