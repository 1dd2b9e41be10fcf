//! Values to bytes.

use std::rc::Rc;

use procession_core::append;
use serde::Serialize;
use serde::ser::{self, Serializer};

use super::error::{Error, Step};
use super::names::{Number, Shape, Written};
use super::{MAX_DEPTH, tag};

/// Appends `value` to `out`; on an error some of it may be there.
#[inline]
pub(crate) fn to_bytes<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut writer = Writer { out, names: None, depth: 0, failed: false };
    value.serialize(&mut writer)?;
    if writer.failed {
        return Err(Error::new("a part of it does not encode, and its `Serialize` goes on all the same"));
    }
    Ok(())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    names: Option<Box<Written>>,
    depth: u32,
    /// A part was not written whole.
    failed: bool,
}

impl Drop for Writer<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(names) = self.names.take() {
            names.keep();
        }
    }
}

impl Writer<'_> {
    /// Some low bytes of `word`, as many as it needs.
    #[inline]
    fn put_integer(&mut self, tag: u8, word: u64) {
        let len = 8 - word.leading_zeros() as usize / 8;
        let mut bytes = [tag | len as u8; 9];
        bytes[1..].copy_from_slice(&word.to_le_bytes());
        self.out.extend_from_slice(&bytes);
        self.out.truncate(self.out.len() - (8 - len));
    }

    #[inline]
    fn put_fixed<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.reserve(1 + N);
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    fn put_len(&mut self, mut len: usize) {
        while len >= 0x80 {
            self.out.push(len as u8 | 0x80);
            len >>= 7;
        }
        self.out.push(len as u8);
    }

    #[inline]
    fn put_name(&mut self, name: &'static str) {
        if let Some(number) = self.names().name(name) {
            self.out.push(number);
        } else {
            self.out.push(tag::NEW);
            self.put_len(name.len());
            append(self.out, name.as_bytes());
        }
    }

    #[inline]
    fn names(&mut self) -> &mut Written {
        self.names.get_or_insert_with(Written::begin)
    }

    /// Begins a struct or a variant of that name.
    #[inline]
    fn begin_fields(&mut self, of: &'static str) -> Result<Begun, Error> {
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
    fn put_field_name(&mut self, begun: &mut Begun, name: &'static str) {
        begun.count += 1;
        match &begun.shape {
            Some(shape) if shape.has(begun.next, name) => begun.next += 1,
            _ => self.put_unexpected_name(begun, name),
        }
    }

    #[inline(never)]
    fn put_unexpected_name(&mut self, begun: &mut Begun, name: &'static str) {
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
    fn end_fields(&mut self, begun: Begun, of: &'static str) {
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
    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Error::too_deep()) } else { Ok(()) }
    }

    #[inline]
    fn put_end(&mut self) {
        self.depth -= 1;
        self.out.push(tag::END);
    }

    #[inline]
    fn put_part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self).inspect_err(|_| self.failed = true)
    }

    /// A value that belongs to what stands before it.
    #[inline]
    fn put_last<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.enter()?;
        self.put_part(value)?;
        self.depth -= 1;
        Ok(())
    }
}

/// A struct that is being written.
struct Begun {
    shape: Option<Rc<Shape>>,
    /// Of the fields that are written.
    count: usize,
    /// Which of the shape's is expected next.
    next: usize,
    /// Where its names are, if it has no shape.
    first_unshaped: usize,
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

    unsigned! { serialize_u8 u8, U8; serialize_u16 u16, U16; serialize_u32 u32, U32; serialize_u64 u64, U64; }
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
        self.out.push(tag::UNIT_VARIANT);
        self.put_name(variant);
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
        self.out.push(tag::VARIANT);
        self.put_name(variant);
        self.put_last(value).map_err(|error| error.within(Step::Variant { of, name: variant.to_owned() }))
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Parts<'w, 'a>, Error> {
        self.enter()?;
        self.out.push(tag::SEQ);
        self.put_len(len.unwrap_or(0));
        Ok(Parts(self))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Parts<'w, 'a>, Error> {
        self.serialize_seq(Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Parts<'w, 'a>, Error> {
        self.serialize_seq(Some(len))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        of: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<TupleVariant<'w, 'a>, Error> {
        self.out.push(tag::VARIANT);
        self.put_name(variant);
        self.serialize_seq(Some(len)).map(|Parts(writer)| TupleVariant { writer, of, variant })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Parts<'w, 'a>, Error> {
        self.enter()?;
        self.out.push(tag::MAP);
        self.put_len(len.unwrap_or(0));
        Ok(Parts(self))
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
        self.out.push(tag::VARIANT);
        self.put_name(variant);
        let begun = self.begin_fields(variant)?;
        Ok(StructVariant { writer: self, begun, of, variant })
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }
}

/// A sequence, a tuple or a map.
struct Parts<'w, 'a>(&'w mut Writer<'a>);

/// A struct.
struct Fields<'w, 'a> {
    writer: &'w mut Writer<'a>,
    begun: Begun,
    of: &'static str,
}

struct TupleVariant<'w, 'a> {
    writer: &'w mut Writer<'a>,
    of: &'static str,
    variant: &'static str,
}

struct StructVariant<'w, 'a> {
    writer: &'w mut Writer<'a>,
    begun: Begun,
    of: &'static str,
    variant: &'static str,
}

macro_rules! sequences {
    ($($trait:ident $method:ident)*) => {$(
        impl ser::$trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.0.put_part(value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.0.put_end();
                Ok(())
            }
        }
    )*};
}

sequences! { SerializeSeq serialize_element SerializeTuple serialize_element SerializeTupleStruct serialize_field }

impl ser::SerializeMap for Parts<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.0.put_part(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.put_part(value)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.0.put_end();
        Ok(())
    }
}

impl ser::SerializeStruct for Fields<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.writer.put_field_name(&mut self.begun, name);
        let written = self.writer.put_part(value);
        written.map_err(|error| error.within(Step::Field { of: self.of, name: name.to_owned() }))
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.writer.end_fields(self.begun, self.of);
        Ok(())
    }
}

impl ser::SerializeTupleVariant for TupleVariant<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let written = self.writer.put_part(value);
        written.map_err(|error| error.within(Step::Variant { of: self.of, name: self.variant.to_owned() }))
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.writer.put_end();
        Ok(())
    }
}

impl ser::SerializeStructVariant for StructVariant<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.writer.put_field_name(&mut self.begun, name);
        let written = self.writer.put_part(value);
        written.map_err(|error| {
            let error = error.within(Step::Field { of: "", name: name.to_owned() });
            error.within(Step::Variant { of: self.of, name: self.variant.to_owned() })
        })
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.writer.end_fields(self.begun, self.variant);
        Ok(())
    }
}
