//! The codec of the Rust face: serde values in postcard's compact form. Used in the caller, which encodes arguments and
//! decodes results, and in the process that runs the function, which does the reverse.

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Appends `value` to `out`. What an error leaves there is the caller's to cut off.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> postcard::Result<()> {
    postcard::serialize_with_flavor(value, Appending(out))
}

/// Reads a value that takes up all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        (_, _) => Err(postcard::Error::DeserializeBadEncoding),
    }
}

/// A panic as it travels to the process that asked.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: String,
    pub(crate) backtrace: String,
}

struct Appending<'a>(&'a mut Vec<u8>);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_append_and_come_back() {
        let mut out = vec![9];
        encode(&(7u64, "seven", Some([1.5f64])), &mut out).unwrap();
        assert_eq!(out[0], 9);
        let back: (u64, String, Option<[f64; 1]>) = decode(&out[1..]).unwrap();
        assert_eq!(back, (7, "seven".into(), Some([1.5])));
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut out = Vec::new();
        encode(&(1u8, 2u8), &mut out).unwrap();
        assert!(decode::<u8>(&out).is_err());
    }
}
