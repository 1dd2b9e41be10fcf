//! The codec of values: serde's data model in a binary form that describes itself. Used in the
//! process that sends a value and in the one that receives it.
//!
//! Each value begins with a tag that says what follows, so that a type which looks before it
//! decides (`flatten`, `untagged`, internally tagged enums, `serde_json::Value`) reads back as well
//! as any other. Fields and variants travel by name, so that one which is left out
//! (`skip_serializing_if`, `skip`) shifts no other. A name is written once for each message and is
//! one byte afterwards; those of a struct's fields are one *shape*, which is written once too.
//!
//! | value | on its way |
//! |---|---|
//! | unit, `None`, `false`, `true` | the tag |
//! | `Some` | the tag, the value |
//! | integer of up to 64 bits | the tag, which holds the type and the number of bytes; so many low bytes of the value |
//! | 128-bit integer, float, `char` | the tag, all bytes |
//! | text, bytes | the tag, the length, the bytes; text of less than 32 bytes has its length in the tag |
//! | sequence, tuple, array | the tag, the expected length, the elements, [`END`](tag::END) |
//! | sequence of `u8` | the tag, the length, the bytes |
//! | map | the tag, the expected length, keys and values in turn, `END` |
//! | struct | the tag, its shape, the values or a mark that one is absent, names and values of other fields, `END` |
//! | unit variant | the tag, the name |
//! | other variant | the tag, the name, the value: for several fields a sequence or a struct |
//! | newtype struct | what it holds |
//!
//! Lengths are in LEB128, all else is little endian. `END` says where a sequence ends; the expected
//! length only tells how much room to make, and no more than there are bytes. `Some` is written
//! out, so that `Some(None)` and `Some(())` arrive.
//!
//! Both sides are *human-readable* to serde. `flatten`, `untagged` and internally tagged enums read
//! from a buffer of serde's own which always says so; were an address written otherwise, it could
//! not be read from there.
//!
//! # Why it is our own
//!
//! Libraries of this kind do not carry all of serde's data model: in ciborium, cbor4ii, pot and
//! rmp-serde alike `Some(None)` arrives as `None`. They take three to six times as long as
//! postcard, which has neither tags nor names.

mod decode;
mod elements;
mod encode;
mod error;
mod expected;
mod names;
mod parts;
mod reader;
mod tag;
mod text;
mod visit;
mod writer;

pub(crate) use decode::from_bytes;
pub(crate) use encode::to_bytes;
pub(crate) use error::Error;
pub(crate) use text::{write_element_text, write_text};

/// The greatest depth to which values may be nested. Encoding and decoding recurse, and a peer must
/// not exhaust the stack.
const MAX_DEPTH: u32 = 1000;
