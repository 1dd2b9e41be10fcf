//! The bytes that are left to decode: taken off piece by piece, each checked. No length is trusted.

use super::error::Error;
use super::expected::{Expected, Names};
use super::names::Read;
use super::{MAX_DEPTH, tag};

pub(super) struct Reader<'de> {
    pub(super) rest: &'de [u8],
    names: Read<&'de str>,
    shapes: Read<Shape<'de>>,
    expected: Option<Box<Expected>>,
    depth: u32,
}

/// The names of a struct's fields, each behind its length.
#[derive(Clone, Copy)]
pub(super) struct Shape<'de> {
    pub(super) written: &'de [u8],
    /// The names that it was found to be.
    pub(super) same_as: Option<Names>,
}

impl Drop for Reader<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(expected) = self.expected.take() {
            expected.keep();
        }
    }
}

impl<'de> Reader<'de> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Reader<'de> {
        Reader { rest: bytes, names: Read::new(), shapes: Read::new(), expected: None, depth: 0 }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'de [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// The low bytes of an integer with that tag.
    #[inline]
    pub(super) fn word(&mut self, tag: u8) -> Result<u64, Error> {
        let len = usize::from(tag & 0xf);
        if let Some(bytes) = self.rest.first_chunk::<8>()
            && len <= 8
        {
            self.rest = &self.rest[len..];
            let unused = 8 * (8 - len as u32);
            return Ok(u64::from_le_bytes(*bytes).checked_shl(unused).map_or(0, |word| word >> unused));
        }
        if len > 8 {
            return Err(Error::malformed(tag));
        }
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(self.bytes(len)?);
        Ok(u64::from_le_bytes(bytes))
    }

    #[inline]
    pub(super) fn len(&mut self) -> Result<usize, Error> {
        match self.rest.split_first() {
            Some((&len, rest)) if len < 0x80 => {
                self.rest = rest;
                Ok(len.into())
            }
            _ => self.long_len(),
        }
    }

    #[inline(never)]
    fn long_len(&mut self) -> Result<usize, Error> {
        let mut len = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.byte()?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(len);
            }
        }
        Err(Error::new("a length does not end"))
    }

    #[inline]
    pub(super) fn text(&mut self, len: usize) -> Result<&'de str, Error> {
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Error::new("a text is not UTF-8"))
    }

    #[inline]
    pub(super) fn name(&mut self) -> Result<&'de str, Error> {
        let number = self.byte()?;
        match self.names.get(number) {
            Some(name) => Ok(name),
            None => self.new_name(number),
        }
    }

    #[inline(never)]
    fn new_name(&mut self, number: u8) -> Result<&'de str, Error> {
        if number != tag::NEW {
            return Err(Error::new("a name was not written before"));
        }
        let len = self.len()?;
        let name = self.text(len)?;
        self.names.push(name);
        Ok(name)
    }

    /// The shape of a struct whose fields are expected to have these names.
    #[inline]
    pub(super) fn shape(&mut self, names: Names) -> Result<Shape<'de>, Error> {
        let number = self.byte()?;
        match self.shapes.get(number) {
            Some(shape) => Ok(shape),
            None => self.new_shape(number, names),
        }
    }

    #[inline(never)]
    fn new_shape(&mut self, number: u8, names: Names) -> Result<Shape<'de>, Error> {
        if number != tag::NEW {
            return Err(Error::new("a shape was not written before"));
        }
        let len = self.len()?;
        let written = self.bytes(len)?;
        let is_same = self.expected.get_or_insert_with(Expected::begin).is_of(names, written);
        let shape = Shape { written, same_as: is_same.then_some(names) };
        self.shapes.push(shape);
        Ok(shape)
    }

    /// Consumes what stands for a field that is not there if it is next.
    #[inline]
    pub(super) fn at_absent(&mut self) -> bool {
        let is_absent = self.rest.first() == Some(&tag::ABSENT);
        if is_absent {
            self.rest = &self.rest[1..];
        }
        is_absent
    }

    /// Consumes the end of a sequence, a map or a struct if it is next.
    #[inline]
    pub(super) fn at_end(&mut self) -> bool {
        let ends = self.rest.first() == Some(&tag::END);
        if ends {
            self.rest = &self.rest[1..];
        }
        ends
    }

    /// Runs `read` for what holds other values.
    #[inline]
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::too_deep());
        }
        self.depth += 1;
        self.leave(read)
    }

    /// Returns what `read` does. The compiler copies no value here, as there is no other way out.
    #[inline(always)]
    fn leave<T>(&mut self, read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>) -> Result<T, Error> {
        let value = read(self);
        self.depth -= 1;
        value
    }
}

/// The reverse of what the encoder does to a sign.
#[inline]
pub(super) fn unfold(word: u64) -> i64 {
    (word >> 1) as i64 ^ -((word & 1) as i64)
}
