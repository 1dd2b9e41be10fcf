//! Values as they stand in the bytes, whatever type asks for them.

use serde_core::Deserialize;
use serde_core::de::value::BorrowedStrDeserializer;
use serde_core::de::{IgnoredAny, Visitor};

use super::error::Error;
use super::expected::Names;
use super::parts::{Bytes, Entry, Fields, Parts, Variant};
use super::reader::{Reader, unfold};
use super::tag;

impl<'de> Reader<'de> {
    #[inline]
    pub(super) fn seq<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let hint = self.len()?;
        self.nested(|reader| {
            let mut parts = Parts { reader, hint, ended: false };
            let value = visitor.visit_seq(&mut parts)?;
            parts.finish().map(|()| value)
        })
    }

    #[inline]
    pub(super) fn each_byte<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let len = self.len()?;
        let mut bytes = Bytes(self.bytes(len)?.iter());
        let value = visitor.visit_seq(&mut bytes)?;
        if bytes.0.len() > 0 { Err(Error::new("it has more elements than are read")) } else { Ok(value) }
    }

    #[inline]
    pub(super) fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let hint = self.len()?;
        self.nested(|reader| {
            let mut parts = Parts { reader, hint, ended: false };
            let value = visitor.visit_map(&mut parts)?;
            parts.finish().map(|()| value)
        })
    }

    /// A struct of which `fields` are expected.
    #[inline]
    pub(super) fn fields<V: Visitor<'de>>(
        &mut self,
        tag: u8,
        of: &'static str,
        expected: Names,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.nested(|reader| {
            let mut fields = Fields::begin(reader, tag, of, expected)?;
            let value = visitor.visit_map(&mut fields)?;
            if fields.next_name()?.is_none() {
                return Ok(value);
            }
            Err(Error::new(format!("`{of}` has more fields than are read")))
        })
    }

    /// Visits the value that begins with `tag`, whatever its type.
    pub(super) fn visit<V: Visitor<'de>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
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
            tag::U8_SEQ => self.each_byte(visitor),
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

    pub(super) fn visit_integer<V: Visitor<'de>>(&mut self, tag: u8, visitor: V) -> Result<V::Value, Error> {
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
    pub(super) fn str(&mut self, tag: u8) -> Result<&'de str, Error> {
        let len = if tag == tag::STR { self.len()? } else { usize::from(tag - tag::SHORT_STR) };
        self.text(len)
    }

    /// Visits the value that begins with `tag`, for a type that asked for something else. `Some` of
    /// a value passes for the value.
    #[cold]
    #[inline(never)]
    pub(super) fn visit_other<V: Visitor<'de>>(&mut self, mut tag: u8, visitor: V) -> Result<V::Value, Error> {
        while tag == tag::SOME {
            tag = self.byte()?;
        }
        self.visit(tag, visitor)
    }

    pub(super) fn skip(&mut self) -> Result<(), Error> {
        self.nested(|reader| {
            let tag = reader.byte()?;
            match tag {
                tag::UNIT | tag::NONE | tag::FALSE | tag::TRUE => {}
                tag::SOME => reader.skip()?,
                tag::F32 | tag::CHAR => drop(reader.bytes(4)?),
                tag::F64 => drop(reader.bytes(8)?),
                tag::U128 | tag::I128 => drop(reader.bytes(16)?),
                tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR => drop(reader.str(tag)?),
                tag::BYTES | tag::U8_SEQ => {
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
                    let mut fields = Fields::begin(reader, tag, "", &[])?;
                    while fields.next_name()?.is_some() {
                        fields.reader.skip()?;
                    }
                }
                tag::UNIT_VARIANT => drop(reader.name()?),
                tag::VARIANT => {
                    reader.name()?;
                    reader.skip()?;
                }
                _ => reader.visit_integer(tag, IgnoredAny).map(drop)?,
            }
            Ok(())
        })
    }

    /// A variant that something else than an enum wrote: its name, or a map of its name to its
    /// value.
    #[cold]
    pub(super) fn visit_enum_of_json<V: Visitor<'de>>(&mut self, mut tag: u8, visitor: V) -> Result<V::Value, Error> {
        while tag == tag::SOME {
            tag = self.byte()?;
        }
        match tag {
            tag::STR | tag::SHORT_STR..=tag::LAST_SHORT_STR => {
                visitor.visit_enum(BorrowedStrDeserializer::new(self.str(tag)?))
            }
            tag::MAP => {
                self.len()?;
                let name = <&str>::deserialize(&mut *self)?;
                let value = visitor.visit_enum(Variant { reader: &mut *self, of: "", name })?;
                if self.at_end() { Ok(value) } else { Err(Error::new("an enum is one variant")) }
            }
            tag => self.visit(tag, visitor),
        }
    }
}
