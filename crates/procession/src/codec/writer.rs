//! The encoder's output, to which values are written.

use procession_core::append;
use serde_core::Serialize;

use super::error::Error;
use super::names::Written;
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

    /// A tag and all bytes of a value: with one look at how much room there is.
    #[inline]
    pub(super) fn put_fixed<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        let mut all = [tag; 1 + MAX_FIXED];
        all[1..=N].copy_from_slice(&bytes);
        self.out.extend_from_slice(&all[..=N]);
    }

    #[inline]
    pub(super) fn put_len(&mut self, len: usize) {
        put_len(self.out, len);
    }

    #[inline]
    pub(super) fn put_name(&mut self, name: &'static str) {
        match self.names().name(name) {
            Some(number) => self.out.push(number),
            None => self.put_new_name(name),
        }
    }

    /// Begins a variant: its tag and its name.
    #[inline(always)]
    pub(super) fn put_variant(&mut self, tag: u8, name: &'static str) {
        match self.names().name(name) {
            Some(number) => self.out.extend_from_slice(&[tag, number]),
            None => {
                self.out.push(tag);
                self.put_new_name(name);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn put_new_name(&mut self, name: &'static str) {
        self.out.push(tag::NEW);
        self.put_len(name.len());
        append(self.out, name.as_bytes());
    }

    #[inline]
    pub(super) fn names(&mut self) -> &mut Written {
        self.names.get_or_insert_with(Written::begin)
    }

    /// Begins a struct or a variant of that name.
    #[inline(always)]
    pub(super) fn begin_fields(&mut self, of: &'static str) -> Result<Begun, Error> {
        self.enter()?;
        match self.names().known_shape(of) {
            Some(shape) => {
                let (next, end, number) = (shape.fields.start, shape.fields.end, shape.number);
                self.out.extend_from_slice(&[tag::SHAPED, number]);
                Ok(Begun { next, end, surplus: 0, shaped: true })
            }
            None => Ok(self.begin_new_fields(of)),
        }
    }

    /// Begins the first struct of its shape in this message, or one that has none.
    #[inline(never)]
    fn begin_new_fields(&mut self, of: &'static str) -> Begun {
        let names = self.names.get_or_insert_with(Written::begin);
        let Some(shape) = names.new_shape(of) else {
            self.out.push(tag::STRUCT);
            return Begun { next: names.unshaped.len() as u32, end: 0, surplus: 0, shaped: false };
        };
        let written = &names.written[shape.written.start as usize..shape.written.end as usize];
        self.out.extend_from_slice(&[tag::SHAPED, tag::NEW]);
        put_len(self.out, written.len());
        self.out.extend_from_slice(written);
        Begun { next: shape.fields.start, end: shape.fields.end, surplus: 0, shaped: true }
    }

    #[inline(always)]
    pub(super) fn put_field_name(&mut self, begun: &mut Begun, name: &'static str) {
        if begun.next < begun.end && self.names().has_field(begun.next, name) {
            begun.next += 1;
        } else {
            *begun = self.put_unexpected_name(*begun, name);
        }
    }

    #[inline(never)]
    fn put_unexpected_name(&mut self, mut begun: Begun, name: &'static str) -> Begun {
        if begun.shaped {
            let names = self.names();
            let found = (begun.next..begun.end).find(|place| names.has_field(*place, name));
            let next = found.unwrap_or(begun.end);
            self.put_absent(next - begun.next);
            begun.surplus -= (next - begun.next) as i32;
            if found.is_some() {
                begun.next = next + 1;
                return begun;
            }
            begun.next = next;
            begun.surplus += 1;
        } else {
            self.names().unshaped.push(name);
        }
        self.put_name(name);
        begun
    }

    #[inline(always)]
    pub(super) fn end_fields(&mut self, begun: Begun, of: &'static str) {
        if !begun.shaped || begun.next != begun.end || begun.surplus != 0 {
            self.end_unexpected_fields(begun, of);
        }
        self.put_end();
    }

    #[inline(never)]
    fn end_unexpected_fields(&mut self, begun: Begun, of: &'static str) {
        if begun.shaped {
            let absent = begun.end - begun.next;
            self.put_absent(absent);
            if begun.surplus > absent as i32 {
                self.names().forget(of);
            }
        } else {
            self.names().learn(of, begun.next as usize);
        }
    }

    fn put_absent(&mut self, count: u32) {
        self.out.resize(self.out.len() + count as usize, tag::ABSENT);
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

/// The bytes of the longest value of a fixed length.
const MAX_FIXED: usize = 16;

/// The progress of a struct that is being written. It is passed by value: if anything referred to
/// it, it would be in memory, and copied there again and again.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    /// The place of the name that is expected next. Without a shape: where its names begin in
    /// [`Written::unshaped`].
    next: u32,
    /// The place where the names of its shape end.
    end: u32,
    /// The number of fields that it has so far beyond its shape: those of other names, less those
    /// that are absent.
    surplus: i32,
    shaped: bool,
}

#[inline]
fn put_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}
