//! Bytes to values. The bytes may be anybody's: whatever they are, the outcome is a value or an error, and no length in
//! them is trusted.

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::error::{Error, Step};
use super::names::Read;
use super::{MAX_DEPTH, tag};

/// Reads a value that takes up all of `bytes`.
#[inline]
pub(crate) fn from_bytes<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut reader = Reader { rest: bytes, names: Read::new(), shapes: Read::new(), depth: 0 };
    let value = T::deserialize(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(Error::new(format!("{left} bytes are left over"))),
    }
}

/// What serde_json calls its `RawValue`, which is written as a struct and read as a newtype.
const RAW_JSON: &str = "$serde_json::private::RawValue";

struct Reader<'de> {
    rest: &'de [u8],
    names: Read<&'de str>,
    shapes: Read<&'de [u8]>,
    depth: u32,
}

impl<'de> Reader<'de> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        let (&byte, rest) = self.rest.split_first().ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn bytes(&mut self, len: usize) -> Result<&'de [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(Error::cut_short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// The low bytes of an integer with that tag.
    #[inline]
    fn word(&mut self, tag: u8) -> Result<u64, Error> {
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
    fn len(&mut self) -> Result<usize, Error> {
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
    fn text(&mut self, len: usize) -> Result<&'de str, Error> {
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Error::new("a text is not UTF-8"))
    }

    #[inline]
    fn name(&mut self) -> Result<&'de str, Error> {
        match self.byte()? {
            tag::NEW => {
                let len = self.len()?;
                let name = self.text(len)?;
                self.names.push(name);
                Ok(name)
            }
            number => self.names.get(number).ok_or_else(|| Error::new("a name was not written before")),
        }
    }

    /// The names of a struct's fields, each behind its length.
    #[inline]
    fn shape(&mut self) -> Result<&'de [u8], Error> {
        let number = self.byte()?;
        if number == tag::NEW {
            let len = self.len()?;
            let shape = self.bytes(len)?;
            self.shapes.push(shape);
            return Ok(shape);
        }
        self.shapes.get(number).ok_or_else(|| Error::new("a shape was not written before"))
    }

    /// Consumes what stands for a field that is not there if it is next.
    #[inline]
    fn at_absent(&mut self) -> bool {
        let is_absent = self.rest.first() == Some(&tag::ABSENT);
        if is_absent {
            self.rest = &self.rest[1..];
        }
        is_absent
    }

    /// Consumes the end of a sequence, a map or a struct if it is next.
    #[inline]
    fn at_end(&mut self) -> bool {
        let ends = self.rest.first() == Some(&tag::END);
        if ends {
            self.rest = &self.rest[1..];
        }
        ends
    }

    /// Runs `read` for what holds other values.
    #[inline]
    fn nested<T>(&mut self, read: impl FnOnce(&mut Reader<'de>) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::too_deep());
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    #[inline]
    fn seq<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let hint = self.len()?;
        self.nested(|reader| {
            let mut parts = Parts { reader, hint, ended: false };
            let value = visitor.visit_seq(&mut parts)?;
            parts.finish().map(|()| value)
        })
    }

    #[inline]
    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let hint = self.len()?;
        self.nested(|reader| {
            let mut parts = Parts { reader, hint, ended: false };
            let value = visitor.visit_map(&mut parts)?;
            parts.finish().map(|()| value)
        })
    }

    /// A struct of which `fields` are expected.
    #[inline]
    fn fields<V: Visitor<'de>>(
        &mut self,
        tag: u8,
        of: &'static str,
        expected: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.nested(|reader| {
            let shape = if tag == tag::SHAPED { reader.shape()? } else { &[] };
            let mut fields = Fields { reader, of, expected, shape, name: "", ended: false };
            let value = visitor.visit_map(&mut fields)?;
            if fields.next_name()?.is_none() {
                return Ok(value);
            }
            Err(Error::new(format!("`{of}` has more fields than are read")))
        })
    }

    /// What begins with `tag`, whatever it is.
    fn visit<V: Visitor<'de>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
        match tag {
            tag::UNIT => visitor.visit_unit(),
            tag::NONE => visitor.visit_none(),
            tag::SOME => self.nested(|reader| visitor.visit_some(reader)),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::F32 => visitor.visit_f32(f32::from_bits(u32::from_le_bytes(self.fixed()?))),
            tag::F64 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.fixed()?))),
            tag::CHAR => {
                let code = u32::from_le_bytes(self.fixed()?);
                visitor.visit_char(char::from_u32(code).ok_or_else(|| Error::new(format!("{code:#x} is no char")))?)
            }
            // Those who read whatever comes are seldom prepared for these.
            tag::U128 => {
                let value = u128::from_le_bytes(self.fixed()?);
                match u64::try_from(value) {
                    Ok(short) => visitor.visit_u64(short),
                    Err(_) => visitor.visit_u128(value),
                }
            }
            tag::I128 => {
                let value = i128::from_le_bytes(self.fixed()?);
                match i64::try_from(value) {
                    Ok(short) => visitor.visit_i64(short),
                    Err(_) => visitor.visit_i128(value),
                }
            }
            tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR => visitor.visit_borrowed_str(self.str(tag)?),
            tag::BYTES => {
                let len = self.len()?;
                visitor.visit_borrowed_bytes(self.bytes(len)?)
            }
            tag::SEQ => self.seq(visitor),
            tag::MAP => self.map(visitor),
            tag::STRUCT | tag::SHAPED => self.fields(tag, "", &[], visitor),
            // As in JSON: its name, or a map of its name to its value.
            tag::UNIT_VARIANT => visitor.visit_borrowed_str(self.name()?),
            tag::VARIANT => self.nested(|reader| {
                let name = reader.name()?;
                let mut entry = Entry { reader, name: Some(name), is_read: false };
                let value = visitor.visit_map(&mut entry)?;
                if entry.is_read { Ok(value) } else { Err(Error::new(format!("variant `{name}` is not read"))) }
            }),
            _ => self.visit_integer(tag, visitor),
        }
    }

    fn visit_integer<V: Visitor<'de>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
        let kind = tag & 0xf0;
        if !(tag::U8..=tag::I64).contains(&kind) {
            return Err(Error::malformed(tag));
        }
        let word = self.word(tag)?;
        let signed = unfold(word);
        let too_large = || Error::malformed(tag);
        match kind {
            tag::U8 => visitor.visit_u8(word.try_into().map_err(|_| too_large())?),
            tag::U16 => visitor.visit_u16(word.try_into().map_err(|_| too_large())?),
            tag::U32 => visitor.visit_u32(word.try_into().map_err(|_| too_large())?),
            tag::U64 => visitor.visit_u64(word),
            tag::I8 => visitor.visit_i8(signed.try_into().map_err(|_| too_large())?),
            tag::I16 => visitor.visit_i16(signed.try_into().map_err(|_| too_large())?),
            tag::I32 => visitor.visit_i32(signed.try_into().map_err(|_| too_large())?),
            _ => visitor.visit_i64(signed),
        }
    }

    /// The text that begins with `tag`.
    #[inline]
    fn str(&mut self, tag: u8) -> Result<&'de str, Error> {
        let len = if tag == tag::STR { self.len()? } else { usize::from(tag - tag::SHORT_STR) };
        self.text(len)
    }

    /// What begins with `tag`, for a type that asked for something else. `Some` of a value passes for the value.
    #[cold]
    #[inline(never)]
    fn visit_other<V: Visitor<'de>>(&mut self, mut tag: u8, visitor: V) -> Result<V::Value, Error> {
        while tag == tag::SOME {
            tag = self.byte()?;
        }
        self.visit(tag, visitor)
    }

    fn skip(&mut self) -> Result<(), Error> {
        self.nested(|reader| {
            let tag = reader.byte()?;
            match tag {
                tag::UNIT | tag::NONE | tag::FALSE | tag::TRUE => {}
                tag::SOME => reader.skip()?,
                tag::F32 | tag::CHAR => drop(reader.bytes(4)?),
                tag::F64 => drop(reader.bytes(8)?),
                tag::U128 | tag::I128 => drop(reader.bytes(16)?),
                tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR => drop(reader.str(tag)?),
                tag::BYTES => {
                    let len = reader.len()?;
                    reader.bytes(len)?;
                }
                tag::SEQ | tag::MAP => {
                    reader.len()?;
                    while !reader.at_end() {
                        reader.skip()?;
                        if tag == tag::MAP {
                            reader.skip()?;
                        }
                    }
                }
                tag::STRUCT | tag::SHAPED => {
                    let shape = if tag == tag::SHAPED { reader.shape()? } else { &[] };
                    let mut fields = Fields { reader, of: "", expected: &[], shape, name: "", ended: false };
                    while fields.next_name()?.is_some() {
                        fields.reader.skip()?;
                    }
                }
                tag::UNIT_VARIANT => drop(reader.name()?),
                tag::VARIANT => {
                    reader.name()?;
                    reader.skip()?;
                }
                _ => reader.visit_integer(tag, de::IgnoredAny).map(drop)?,
            }
            Ok(())
        })
    }
}

/// The reverse of what the encoder does to a sign.
#[inline]
fn unfold(word: u64) -> i64 {
    (word >> 1) as i64 ^ -((word & 1) as i64)
}

macro_rules! integers {
    ($($method:ident $visit:ident $integer:ty, $tag:ident $unfold:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let tag = self.byte()?;
            if tag & 0xf0 != tag::$tag {
                return self.visit_other(tag, visitor);
            }
            let word = self.word(tag)?;
            visitor.$visit(<$integer>::try_from($unfold(word)).map_err(|_| Error::malformed(tag))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let tag = self.byte()?;
        self.visit(tag, visitor)
    }

    integers! {
        deserialize_u8 visit_u8 u8, U8 u64::from;
        deserialize_u16 visit_u16 u16, U16 u64::from;
        deserialize_u32 visit_u32 u32, U32 u64::from;
        deserialize_u64 visit_u64 u64, U64 u64::from;
        deserialize_i8 visit_i8 i8, I8 unfold;
        deserialize_i16 visit_i16 i16, I16 unfold;
        deserialize_i32 visit_i32 i32, I32 unfold;
        deserialize_i64 visit_i64 i64, I64 unfold;
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag => self.visit_other(tag, visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::U128 => visitor.visit_u128(u128::from_le_bytes(self.fixed()?)),
            tag => self.visit_other(tag, visitor),
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::I128 => visitor.visit_i128(i128::from_le_bytes(self.fixed()?)),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::F32 => visitor.visit_f32(f32::from_bits(u32::from_le_bytes(self.fixed()?))),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::F64 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.fixed()?))),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let tag = self.byte()?;
        self.visit_other(tag, visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag @ (tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR) => visitor.visit_borrowed_str(self.str(tag)?),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let tag = self.byte()?;
        self.visit_other(tag, visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.rest.first() {
            Some(&tag::SOME) => {
                self.rest = &self.rest[1..];
                self.nested(|reader| visitor.visit_some(reader))
            }
            Some(&(tag::NONE | tag::UNIT)) => {
                self.rest = &self.rest[1..];
                visitor.visit_none()
            }
            // Written by a type that is no option.
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::UNIT => visitor.visit_unit(),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, of: &'static str, visitor: V) -> Result<V::Value, Error> {
        if of == RAW_JSON { self.deserialize_any(visitor) } else { visitor.visit_newtype_struct(self) }
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::SEQ => self.seq(visitor),
            // Written as bytes, and read one by one.
            tag::BYTES => {
                let len = self.len()?;
                let bytes = self.bytes(len)?.iter().copied();
                visitor.visit_seq(de::value::SeqDeserializer::new(bytes))
            }
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::MAP => self.map(visitor),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        of: &'static str,
        expected: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.byte()? {
            tag @ (tag::SHAPED | tag::STRUCT) => self.fields(tag, of, expected, visitor),
            tag => self.visit_other(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        of: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.byte()? {
            tag::UNIT_VARIANT => {
                let name = self.name()?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            tag::VARIANT => self.nested(|reader| {
                let name = reader.name()?;
                let read = visitor.visit_enum(Variant { reader, name });
                read.map_err(|error| error.within(Step::Variant { of, name: name.to_owned() }))
            }),
            tag => self.visit_enum_of_json(tag, visitor),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }
}

impl<'de> Reader<'de> {
    /// A variant that something else than an enum wrote: its name, or a map of its name to its value.
    #[cold]
    fn visit_enum_of_json<V: Visitor<'de>>(&mut self, mut tag: u8, visitor: V) -> Result<V::Value, Error> {
        while tag == tag::SOME {
            tag = self.byte()?;
        }
        match tag {
            tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR => {
                visitor.visit_enum(BorrowedStrDeserializer::new(self.str(tag)?))
            }
            tag::MAP => self.nested(|reader| {
                reader.len()?;
                let name = <&str>::deserialize(&mut *reader)?;
                let value = visitor.visit_enum(Variant { reader: &mut *reader, name })?;
                if reader.at_end() { Ok(value) } else { Err(Error::new("an enum is one variant")) }
            }),
            tag => self.visit(tag, visitor),
        }
    }
}

/// A sequence or a map.
struct Parts<'r, 'de> {
    reader: &'r mut Reader<'de>,
    hint: usize,
    ended: bool,
}

impl Parts<'_, '_> {
    #[inline]
    fn next(&mut self) -> bool {
        self.ended = self.ended || self.reader.at_end();
        !self.ended
    }

    #[inline]
    fn finish(mut self) -> Result<(), Error> {
        if self.next() { Err(Error::new("it has more elements than are read")) } else { Ok(()) }
    }

    /// An element takes a byte at least.
    fn expected(&self) -> Option<usize> {
        Some(self.hint.min(self.reader.rest.len()))
    }
}

impl<'de> SeqAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.expected()
    }
}

impl<'de> MapAccess<'de> for &mut Parts<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.expected()
    }
}

/// A struct.
struct Fields<'r, 'de> {
    reader: &'r mut Reader<'de>,
    of: &'static str,
    /// The names that the type knows.
    expected: &'static [&'static str],
    /// What is left of its shape. Fields of other names follow those of the shape.
    shape: &'de [u8],
    name: &'de str,
    ended: bool,
}

impl<'de> Fields<'_, 'de> {
    #[inline]
    fn next_name(&mut self) -> Result<Option<&'de str>, Error> {
        while let Some((&len, rest)) = self.shape.split_first() {
            let (name, rest) = rest.split_at_checked(len.into()).ok_or_else(Error::cut_short)?;
            self.shape = rest;
            // Mostly the two are in one order, and what is equal to text is text.
            let expected = self.expected.split_off_first().filter(|expected| expected.as_bytes() == name);
            if !self.reader.at_absent() {
                self.name = match expected {
                    Some(expected) => expected,
                    None => std::str::from_utf8(name).map_err(|_| Error::new("a name is not UTF-8"))?,
                };
                return Ok(Some(self.name));
            }
        }
        if self.ended || self.reader.at_end() {
            self.ended = true;
            return Ok(None);
        }
        self.name = self.reader.name()?;
        Ok(Some(self.name))
    }
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let name = self.next_name()?;
        name.map(|name| seed.deserialize(BorrowedStrDeserializer::new(name))).transpose()
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let read = seed.deserialize(&mut *self.reader);
        read.map_err(|error| error.within(Step::Field { of: self.of, name: self.name.to_owned() }))
    }
}

/// A variant that is read as a map with one entry.
struct Entry<'r, 'de> {
    reader: &'r mut Reader<'de>,
    name: Option<&'de str>,
    is_read: bool,
}

impl<'de> MapAccess<'de> for &mut Entry<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let name = self.name.take();
        name.map(|name| seed.deserialize(BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.is_read = true;
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant with a value.
struct Variant<'r, 'de> {
    reader: &'r mut Reader<'de>,
    name: &'de str,
}

impl<'r, 'de> EnumAccess<'de> for Variant<'r, 'de> {
    type Error = Error;
    type Variant = &'r mut Reader<'de>;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, &'r mut Reader<'de>), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::new(self.name))?;
        Ok((name, self.reader))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self)
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}
