//! An encoded value as text, for people: the arguments of a slow task. In the worker. Nothing of
//! the user's runs for it, since the bytes describe themselves; a handle shows as its number.

use std::fmt::{self, Write};

use serde_core::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::Error;
use super::reader::Reader;

/// Appends the value that takes up all of `bytes`, in at most `max` characters. `is_tuple`: the
/// value is a tuple, which is encoded as a sequence is.
pub(crate) fn write_text(out: &mut String, bytes: &[u8], is_tuple: bool, max: usize) {
    let mut text = Text { out, left: max };
    let shown = Reader::new(bytes).deserialize_any(Shown { text: &mut text, is_tuple });
    text.close(shown);
}

/// As [`write_text`], of the element at `index` of a sequence.
pub(crate) fn write_element_text(out: &mut String, bytes: &[u8], index: usize, is_tuple: bool, max: usize) {
    let mut text = Text { out, left: max };
    let shown = Reader::new(bytes).deserialize_any(Element { index, shown: Shown { text: &mut text, is_tuple } });
    text.close(shown);
}

/// A text of limited length.
struct Text<'a> {
    out: &'a mut String,
    /// The number of characters for which there is room.
    left: usize,
}

impl Text<'_> {
    /// Ends the text where it is full, or where its bytes are not what an encoder writes.
    fn close(self, shown: Result<(), Error>) {
        if shown.is_err() {
            self.out.push_str("...");
        }
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.out.push(char);
        }
        Ok(())
    }
}

fn full(_: fmt::Error) -> Error {
    Error::custom("there is no more room")
}

/// Shows a value.
struct Shown<'t, 'a> {
    text: &'t mut Text<'a>,
    is_tuple: bool,
}

impl<'t, 'a> Shown<'t, 'a> {
    fn within(text: &'t mut Text<'a>) -> Shown<'t, 'a> {
        Shown { text, is_tuple: false }
    }

    fn show(self, value: impl fmt::Debug) -> Result<(), Error> {
        write!(self.text, "{value:?}").map_err(full)
    }
}

impl<'de> serde_core::de::DeserializeSeed<'de> for Shown<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! show {
    ($($method:ident $value:ty;)*) => {$(
        fn $method<E: serde_core::de::Error>(self, value: $value) -> Result<(), E> {
            self.show(value).map_err(E::custom)
        }
    )*};
}

impl<'de> Visitor<'de> for Shown<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    show! {
        visit_bool bool;
        visit_i64 i64;
        visit_i128 i128;
        visit_u64 u64;
        visit_u128 u128;
        visit_f32 f32;
        visit_f64 f64;
        visit_char char;
        visit_str &str;
        visit_bytes &[u8];
    }

    fn visit_unit<E: serde_core::de::Error>(self) -> Result<(), E> {
        self.show(()).map_err(E::custom)
    }

    fn visit_none<E: serde_core::de::Error>(self) -> Result<(), E> {
        self.text.write_str("None").map_err(E::custom)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.text.write_str("Some(").map_err(D::Error::custom)?;
        deserializer.deserialize_any(Shown::within(self.text))?;
        self.text.write_str(")").map_err(D::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (open, close) = if self.is_tuple { ("", "") } else { ("[", "]") };
        self.text.write_str(open).map_err(A::Error::custom)?;
        let mut before = "";
        loop {
            let element = Parted { before, text: self.text };
            if elements.next_element_seed(element)?.is_none() {
                break;
            }
            before = ", ";
        }
        self.text.write_str(close).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.text.write_str("{").map_err(A::Error::custom)?;
        let mut before = "";
        while entries.next_key_seed(Parted { before, text: self.text })?.is_some() {
            self.text.write_str(": ").map_err(A::Error::custom)?;
            entries.next_value_seed(Shown::within(self.text))?;
            before = ", ";
        }
        self.text.write_str("}").map_err(A::Error::custom)
    }
}

/// Shows a value behind what parts it from the one before.
struct Parted<'t, 'a> {
    before: &'static str,
    text: &'t mut Text<'a>,
}

impl<'de> serde_core::de::DeserializeSeed<'de> for Parted<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.text.write_str(self.before).map_err(D::Error::custom)?;
        deserializer.deserialize_any(Shown::within(self.text))
    }
}

/// Shows one element of a sequence.
struct Element<'t, 'a> {
    index: usize,
    shown: Shown<'t, 'a>,
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for _ in 0..self.index {
            elements.next_element::<serde_core::de::IgnoredAny>()?;
        }
        elements.next_element_seed(self.shown)?;
        while elements.next_element::<serde_core::de::IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_core::Serialize;

    use super::*;
    use crate::codec::to_bytes;

    fn bytes_of(value: impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        to_bytes(&value, &mut bytes).unwrap();
        bytes
    }

    fn text_of(value: impl Serialize, is_tuple: bool, max: usize) -> String {
        let mut out = String::new();
        write_text(&mut out, &bytes_of(value), is_tuple, max);
        out
    }

    #[test]
    fn values_are_shown_as_they_are_written_down() {
        let map = BTreeMap::from([("one", Some(1.5)), ("two", None)]);
        let shown = text_of((1u8, -2i64, "a\"b", [true, false], map, 'c', ()), true, 200);
        assert_eq!(shown, r#"1, -2, "a\"b", [true, false], {"one": Some(1.5), "two": None}, 'c', ()"#);
        assert_eq!(text_of([1u8, 2], false, 200), "[1, 2]");
        assert_eq!(text_of((), false, 200), "()");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(text_of("a".repeat(1000), false, 5), "\"aaaa...");
        assert_eq!(text_of(vec![7u16; 100_000], false, 4), "[7, ...");
    }

    #[test]
    fn element_of_a_sequence_is_shown_alone() {
        let bytes = bytes_of(vec![(1u32, "one"), (2, "two")]);
        let mut out = String::new();
        write_element_text(&mut out, &bytes, 1, true, 200);
        assert_eq!(out, "2, \"two\"");
    }

    #[test]
    fn any_bytes_are_shown_as_something() {
        let mut state = 1u64;
        for len in 0..2000 {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            };
            let bytes: Vec<u8> = (0..len % 60).map(next).collect();
            let mut out = String::new();
            write_text(&mut out, &bytes, false, 50);
            write_element_text(&mut out, &bytes, 2, false, 50);
            assert!(out.chars().count() <= 2 * 53);
        }
    }
}
