//! A value that serialises and does not deserialise.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is written and never read back.
#[derive(Debug)]
pub struct OneWay;

impl Serialize for OneWay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("one way only"))
    }
}
