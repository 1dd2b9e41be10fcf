//! Values to bytes.

use procession_core::append;
use serde_core::Serialize;
use serde_core::ser::Serializer;

use super::elements::{Bytes, Fields, Parts, StructVariant, TupleVariant};
use super::error::Error;
use super::tag;
use super::writer::Writer;

/// Appends `value` to `out`; on an error some of it may be there.
#[inline]
pub(crate) fn to_bytes<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut writer = Writer::new(out);
    value.serialize(&mut writer)?;
    if writer.failed {
        return Err(Error::new("a part of it does not encode, and its `Serialize` goes on all the same"));
    }
    Ok(())
}

macro_rules! unsigned {
    ($($method:ident $integer:ty, $tag:ident;)*) => {$(
        #[inline]
        fn $method(self, value: $integer) -> Result<(), Error> {
            self.put_integer(tag::$tag, value.into());
            Ok(())
        }
    )*};
}

macro_rules! signed {
    ($($method:ident $integer:ty, $tag:ident;)*) => {$(
        /// The sign becomes the lowest bit, and turns the others over.
        #[inline]
        fn $method(self, value: $integer) -> Result<(), Error> {
            let wide = i64::from(value);
            self.put_integer(tag::$tag, (wide << 1 ^ wide >> 63) as u64);
            Ok(())
        }
    )*};
}

impl<'w, 'a> Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'w, 'a>;
    type SerializeTuple = Parts<'w, 'a>;
    type SerializeTupleStruct = Parts<'w, 'a>;
    type SerializeTupleVariant = TupleVariant<'w, 'a>;
    type SerializeMap = Parts<'w, 'a>;
    type SerializeStruct = Fields<'w, 'a>;
    type SerializeStructVariant = StructVariant<'w, 'a>;

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.out.extend_from_slice(&[tag::U8 | 1, value]);
        Ok(())
    }

    unsigned! { serialize_u16 u16, U16; serialize_u32 u32, U32; serialize_u64 u64, U64; }
    signed! { serialize_i8 i8, I8; serialize_i16 i16, I16; serialize_i32 i32, I32; serialize_i64 i64, I64; }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.out.push(if value { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.put_fixed(tag::U128, value.to_le_bytes());
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.put_fixed(tag::I128, value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.put_fixed(tag::F32, value.to_bits().to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.put_fixed(tag::F64, value.to_bits().to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.put_fixed(tag::CHAR, u32::from(value).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        if value.len() <= tag::MAX_SHORT_STR {
            self.out.push(tag::SHORT_STR + value.len() as u8);
        } else {
            self.out.push(tag::STR);
            self.put_len(value.len());
        }
        append(self.out, value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.out.push(tag::BYTES);
        self.put_len(value.len());
        append(self.out, value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.out.push(tag::NONE);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.out.push(tag::SOME);
        self.put_last(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.out.push(tag::UNIT);
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.put_variant(tag::UNIT_VARIANT, variant);
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.put_variant(tag::VARIANT, variant);
        self.put_last(value).map_err(|error| error.in_variant(of, variant))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'w, 'a>, Error> {
        self.enter()?;
        let head = self.out.len();
        self.out.push(tag::SEQ);
        self.put_len(len.unwrap_or(0));
        let bytes = match len {
            Some(1..) => Bytes::Perhaps { head },
            _ => Bytes::No,
        };
        Ok(Parts { writer: self, bytes, len: len.unwrap_or(0) })
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Parts<'w, 'a>, Error> {
        /// An array of fewer bytes is as quick as a tuple.
        const FEW: usize = 8;
        let parts = self.serialize_seq(Some(len))?;
        Ok(if len < FEW { Parts { bytes: Bytes::No, ..parts } } else { parts })
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Parts<'w, 'a>, Error> {
        self.serialize_tuple(len)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        of: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<TupleVariant<'w, 'a>, Error> {
        self.put_variant(tag::VARIANT, variant);
        self.enter()?;
        self.out.push(tag::SEQ);
        self.put_len(len);
        Ok(TupleVariant { writer: self, of, variant })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'w, 'a>, Error> {
        self.enter()?;
        self.out.push(tag::MAP);
        self.put_len(len.unwrap_or(0));
        Ok(Parts { writer: self, bytes: Bytes::No, len: 0 })
    }

    #[inline]
    fn serialize_struct(self, of: &'static str, _: usize) -> Result<Fields<'w, 'a>, Error> {
        let begun = self.begin_fields(of)?;
        Ok(Fields { writer: self, begun, of })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        of: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<StructVariant<'w, 'a>, Error> {
        self.put_variant(tag::VARIANT, variant);
        let begun = self.begin_fields(variant)?;
        Ok(StructVariant { writer: self, begun, of, variant })
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }
}
