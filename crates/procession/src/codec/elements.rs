//! Values that hold others, while they are written.

use serde_core::{Serialize, ser};

use super::error::Error;
use super::tag;
use super::writer::{Begun, Writer};

/// A sequence, a tuple or a map.
pub(super) struct Parts<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) bytes: Bytes,
    pub(super) len: usize,
}

/// The decision whether a sequence is written as one of `u8`.
#[derive(Clone, Copy)]
pub(super) enum Bytes {
    No,
    /// If its first element is one. Its tag is there.
    Perhaps {
        head: usize,
    },
    /// All elements so far, which are from `begin` on.
    Yes {
        head: usize,
        begin: usize,
    },
}

impl Parts<'_, '_> {
    #[inline]
    fn put_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let at = self.writer.out.len();
        self.writer.put_part(value)?;
        if !matches!(self.bytes, Bytes::No) {
            self.shorten(at);
        }
        Ok(())
    }

    /// Leaves the value of a `u8` that stands at `at`, without its tag.
    #[inline]
    fn shorten(&mut self, at: usize) {
        const TAG: u8 = tag::U8 | 1;
        let out = &mut *self.writer.out;
        match (&out[at..], self.bytes) {
            (&[TAG, value], _) => {
                out[at] = value;
                out.truncate(at + 1);
            }
            (_, Bytes::Yes { head, begin }) => return self.lengthen(head, begin, at),
            _ => return self.bytes = Bytes::No,
        }
        if let Bytes::Perhaps { head } = self.bytes {
            out[head] = tag::U8_SEQ;
            self.bytes = Bytes::Yes { head, begin: at };
        }
    }

    /// Gives all elements before `end` their tags back.
    #[cold]
    fn lengthen(&mut self, head: usize, begin: usize, end: usize) {
        let out = &mut *self.writer.out;
        let rest = out.split_off(begin);
        let (bytes, others) = rest.split_at(end - begin);
        out[head] = tag::SEQ;
        out.extend(bytes.iter().flat_map(|byte| [tag::U8 | 1, *byte]));
        out.extend_from_slice(others);
        self.bytes = Bytes::No;
    }

    #[inline]
    fn end_elements(mut self) {
        if let Bytes::Yes { head, begin } = self.bytes {
            let end = self.writer.out.len();
            if end - begin == self.len {
                self.writer.depth -= 1;
                return;
            }
            self.lengthen(head, begin, end);
        }
        self.writer.put_end();
    }
}

/// A struct.
pub(super) struct Fields<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) begun: Begun,
    pub(super) of: &'static str,
}

pub(super) struct TupleVariant<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) of: &'static str,
    pub(super) variant: &'static str,
}

pub(super) struct StructVariant<'w, 'a> {
    pub(super) writer: &'w mut Writer<'a>,
    pub(super) begun: Begun,
    pub(super) of: &'static str,
    pub(super) variant: &'static str,
}

macro_rules! sequences {
    ($($trait:ident $method:ident)*) => {$(
        impl ser::$trait for Parts<'_, '_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.put_element(value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.end_elements();
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
        self.writer.put_part(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.writer.put_part(value)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.writer.put_end();
        Ok(())
    }
}

impl ser::SerializeStruct for Fields<'_, '_> {
    type Ok = ();
    type Error = Error;

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.writer.put_field_name(&mut self.begun, name);
        let written = self.writer.put_part(value);
        written.map_err(|error| error.in_field(self.of, name))
    }

    #[inline(always)]
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
        written.map_err(|error| error.in_variant(self.of, self.variant))
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

    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.writer.put_field_name(&mut self.begun, name);
        let written = self.writer.put_part(value);
        written.map_err(|error| error.in_field("", name).in_variant(self.of, self.variant))
    }

    #[inline(always)]
    fn end(self) -> Result<(), Error> {
        self.writer.end_fields(self.begun, self.variant);
        Ok(())
    }
}
