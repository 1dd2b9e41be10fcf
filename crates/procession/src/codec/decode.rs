//! Bytes to values. The bytes may be anybody's: whatever they are, the outcome is a value or an
//! error.

use serde_core::Deserialize;
use serde_core::de::value::BorrowedStrDeserializer;
use serde_core::de::{Deserializer, Visitor};

use super::error::Error;
use super::expected::Names;
use super::parts::Variant;
use super::reader::{Reader, unfold};
use super::tag;

/// Reads a value that takes up all of `bytes`.
#[inline]
pub(crate) fn from_bytes<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    match reader.rest.len() {
        0 => Ok(value),
        left => Err(Error::new(format!("{left} bytes are left over"))),
    }
}
/// The name that serde_json gives its `RawValue`, which is written as a struct and read as a
/// newtype.
const RAW_JSON: &str = "$serde_json::private::RawValue";
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
            // The latter are written as bytes, and read one by one.
            tag::U8_SEQ | tag::BYTES => self.each_byte(visitor),
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
        expected: Names,
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
            tag::VARIANT => {
                let name = self.name()?;
                visitor.visit_enum(Variant { reader: self, of, name })
            }
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
