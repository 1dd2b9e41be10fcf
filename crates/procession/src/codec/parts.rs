//! The parts of values that hold others, as a visitor asks for them.

use serde_core::de::value::BorrowedStrDeserializer;
use serde_core::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_core::{Deserialize, forward_to_deserialize_any};

use super::error::Error;
use super::expected::Names;
use super::reader::Reader;
use super::tag;

/// A sequence or a map.
pub(super) struct Parts<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) hint: usize,
    pub(super) ended: bool,
}

impl Parts<'_, '_> {
    #[inline]
    fn next(&mut self) -> bool {
        self.ended = self.ended || self.reader.at_end();
        !self.ended
    }

    #[inline]
    pub(super) fn finish(mut self) -> Result<(), Error> {
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
pub(super) struct Fields<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    of: &'static str,
    /// The names of its shape that are left, if they are those that are expected.
    known: std::slice::Iter<'static, &'static str>,
    /// The names of its shape that are left otherwise. Fields of other names follow those of the
    /// shape.
    written: &'de [u8],
    name: &'de str,
    ended: bool,
}

impl<'r, 'de> Fields<'r, 'de> {
    #[inline]
    pub(super) fn begin(
        reader: &'r mut Reader<'de>,
        tag: u8,
        of: &'static str,
        expected: Names,
    ) -> Result<Fields<'r, 'de>, Error> {
        let (mut known, mut written): (Names, &[u8]) = (&[], &[]);
        if tag == tag::SHAPED {
            let shape = reader.shape(expected)?;
            match shape.same_as {
                Some(names) => known = names,
                None => written = shape.written,
            }
        }
        Ok(Fields { reader, of, known: known.iter(), written, name: "", ended: false })
    }

    #[inline]
    pub(super) fn next_name(&mut self) -> Result<Option<&'de str>, Error> {
        for name in self.known.by_ref() {
            if !self.reader.at_absent() {
                self.name = name;
                return Ok(Some(name));
            }
        }
        if self.written.is_empty() && (self.ended || self.reader.at_end()) {
            self.ended = true;
            return Ok(None);
        }
        self.next_written_name()
    }

    #[inline(never)]
    fn next_written_name(&mut self) -> Result<Option<&'de str>, Error> {
        while let Some((&len, rest)) = self.written.split_first() {
            let (name, rest) = rest.split_at_checked(len.into()).ok_or_else(Error::cut_short)?;
            self.written = rest;
            if !self.reader.at_absent() {
                self.name = std::str::from_utf8(name).map_err(|_| Error::new("a name is not UTF-8"))?;
                return Ok(Some(self.name));
            }
        }
        if self.reader.at_end() {
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
        read.map_err(|error| error.in_field(self.of, self.name))
    }
}

/// A variant that is read as a map with one entry.
pub(super) struct Entry<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) name: Option<&'de str>,
    pub(super) is_read: bool,
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

/// A variant with a value. An error of the value is noted as one of the variant, here and not where
/// the enum is read: there each enum would be copied, and the processor wait for the copy.
pub(super) struct Variant<'r, 'de> {
    pub(super) reader: &'r mut Reader<'de>,
    pub(super) of: &'static str,
    pub(super) name: &'de str,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::new(self.name))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self.reader).map_err(|error| error.in_variant(self.of, self.name))
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let value = self.reader.nested(|reader| seed.deserialize(reader));
        value.map_err(|error| error.in_variant(self.of, self.name))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let value = self.reader.deserialize_tuple(len, visitor);
        value.map_err(|error| error.in_variant(self.of, self.name))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let value = self.reader.deserialize_struct("", fields, visitor);
        value.map_err(|error| error.in_variant(self.of, self.name))
    }
}

/// A sequence of `u8`.
pub(super) struct Bytes<'de>(pub(super) std::slice::Iter<'de, u8>);

impl<'de> SeqAccess<'de> for &mut Bytes<'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|byte| seed.deserialize(Byte(*byte))).transpose()
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Byte(u8);

impl<'de> Deserializer<'de> for Byte {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u8(self.0)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
