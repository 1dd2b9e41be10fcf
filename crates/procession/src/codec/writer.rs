//! The encoder's output, to which values are written.

use std::rc::Rc;

use procession_core::append;
use serde_core::Serialize;

use super::error::Error;
use super::names::{Number, Shape, Written};
use super::{MAX_DEPTH, tag};

pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    names: Option<Box<Written>>,
    pub(super) depth: u32,
    /// A part was not written whole.
    pub(super) failed: bool,
}

impl Drop for Writer<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(names) = self.names.take() {
            names.keep();
        }
    }
}

impl<'a> Writer<'a> {
    #[inline]
    pub(super) fn new(out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out, names: None, depth: 0, failed: false }
    }

    /// Some low bytes of `word`, as many as it needs.
    #[inline]
    pub(super) fn put_integer(&mut self, tag: u8, word: u64) {
        let len = 8 - word.leading_zeros() as usize / 8;
        let mut bytes = [tag | len as u8; 9];
        bytes[1..].copy_from_slice(&word.to_le_bytes());
        self.out.extend_from_slice(&bytes);
        self.out.truncate(self.out.len() - (8 - len));
    }

    #[inline]
    pub(super) fn put_fixed<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.reserve(1 + N);
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    pub(super) fn put_len(&mut self, mut len: usize) {
        while len >= 0x80 {
            self.out.push(len as u8 | 0x80);
            len >>= 7;
        }
        self.out.push(len as u8);
    }

    #[inline]
    pub(super) fn put_name(&mut self, name: &'static str) {
        if let Some(number) = self.names().name(name) {
            self.out.push(number);
        } else {
            self.out.push(tag::NEW);
            self.put_len(name.len());
            append(self.out, name.as_bytes());
        }
    }

    #[inline]
    pub(super) fn names(&mut self) -> &mut Written {
        self.names.get_or_insert_with(Written::begin)
    }

    /// Begins a struct or a variant of that name.
    #[inline]
    pub(super) fn begin_fields(&mut self, of: &'static str) -> Result<Begun, Error> {
        self.enter()?;
        let names = self.names.get_or_insert_with(Written::begin);
        let first_unshaped = names.unshaped.len();
        let Some((shape, number)) = names.shape(of) else {
            self.out.push(tag::STRUCT);
            return Ok(Begun { shape: None, count: 0, next: 0, first_unshaped });
        };
        self.out.push(tag::SHAPED);
        match number {
            Number::Known(number) => self.out.push(number),
            Number::New => {
                self.out.push(tag::NEW);
                self.put_len(shape.written.len());
                self.out.extend_from_slice(&shape.written);
            }
        }
        Ok(Begun { shape: Some(shape), count: 0, next: 0, first_unshaped })
    }

    #[inline]
    pub(super) fn put_field_name(&mut self, begun: &mut Begun, name: &'static str) {
        begun.count += 1;
        match &begun.shape {
            Some(shape) if shape.has(begun.next, name) => begun.next += 1,
            _ => self.put_unexpected_name(begun, name),
        }
    }

    #[inline(never)]
    pub(super) fn put_unexpected_name(&mut self, begun: &mut Begun, name: &'static str) {
        match &begun.shape {
            Some(shape) => {
                let found = shape.find(begun.next, name);
                let absent = found.unwrap_or(shape.len()) - begun.next;
                self.out.resize(self.out.len() + absent, tag::ABSENT);
                begun.next = found.map_or(shape.len(), |found| found + 1);
                if found.is_some() {
                    return;
                }
            }
            None => self.names().unshaped.push(name),
        }
        self.put_name(name);
    }

    #[inline]
    pub(super) fn end_fields(&mut self, begun: Begun, of: &'static str) {
        match begun.shape {
            Some(shape) => {
                if begun.next < shape.len() {
                    self.out.resize(self.out.len() + shape.len() - begun.next, tag::ABSENT);
                }
                if begun.count > shape.len() {
                    self.names().forget(of);
                }
            }
            None => self.names().learn(of, begun.first_unshaped),
        }
        self.put_end();
    }

    /// Begins something that holds other values.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Error::too_deep()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn put_end(&mut self) {
        self.depth -= 1;
        self.out.push(tag::END);
    }

    #[inline]
    pub(super) fn put_part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self).inspect_err(|_| self.failed = true)
    }

    /// A value that belongs to what stands before it.
    #[inline]
    pub(super) fn put_last<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.enter()?;
        self.put_part(value)?;
        self.depth -= 1;
        Ok(())
    }
}

/// A struct that is being written.
pub(super) struct Begun {
    shape: Option<Rc<Shape>>,
    /// Of the fields that are written.
    count: usize,
    /// The place in the shape of the one that is expected next.
    next: usize,
    /// The place of its names, if it has no shape.
    first_unshaped: usize,
}
