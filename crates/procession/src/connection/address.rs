//! The address of a listener, as a value that travels. Used in any process.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use procession_core::connection::listener as engine;
use serde_core::de::{EnumAccess, Error, Unexpected, VariantAccess, Visitor};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of a [`Listener`](crate::Listener). It is a value: send it to the process that is to
/// connect.
// Not the engine's `Address`, since the engine knows no serde.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A socket file; Python's `AF_UNIX` address.
    Unix(PathBuf),
    /// A name without a file, known in this network namespace; Python's `'\0name'`. Any user can
    /// connect.
    Abstract(Vec<u8>),
    /// A host and a port; Python's `AF_INET` address.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine().fmt(f)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl Address {
    pub(super) fn engine(&self) -> engine::Address {
        match self.clone() {
            Address::Unix(path) => engine::Address::Unix(path),
            Address::Abstract(name) => engine::Address::Abstract(name),
            Address::Tcp(address) => engine::Address::Tcp(address),
        }
    }

    pub(super) fn from_engine(address: engine::Address) -> Address {
        match address {
            engine::Address::Unix(path) => Address::Unix(path),
            engine::Address::Abstract(name) => Address::Abstract(name),
            engine::Address::Tcp(address) => Address::Tcp(address),
        }
    }
}

const VARIANTS: [&str; 3] = ["Unix", "Abstract", "Tcp"];

// The output that serde's derive would write. The crate does without the derive, because it is most
// of what there would be to compile.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Address::Unix(path) => serializer.serialize_newtype_variant("Address", 0, VARIANTS[0], path),
            Address::Abstract(name) => serializer.serialize_newtype_variant("Address", 1, VARIANTS[1], name),
            Address::Tcp(address) => serializer.serialize_newtype_variant("Address", 2, VARIANTS[2], address),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        deserializer.deserialize_enum("Address", &VARIANTS, AddressVisitor)
    }
}

struct AddressVisitor;

impl<'de> Visitor<'de> for AddressVisitor {
    type Value = Address;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Address, A::Error> {
        let (Variant(variant), value) = data.variant()?;
        match variant {
            0 => value.newtype_variant().map(Address::Unix),
            1 => value.newtype_variant().map(Address::Abstract),
            _ => value.newtype_variant().map(Address::Tcp),
        }
    }
}

/// The index of a variant. Formats name it by its index or by its name.
struct Variant(usize);

impl<'de> Deserialize<'de> for Variant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Variant, D::Error> {
        deserializer.deserialize_identifier(VariantVisitor)
    }
}

struct VariantVisitor;

impl Visitor<'_> for VariantVisitor {
    type Value = Variant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unix, Abstract or Tcp")
    }

    fn visit_u64<E: Error>(self, index: u64) -> Result<Variant, E> {
        let known = usize::try_from(index).ok().filter(|index| *index < VARIANTS.len());
        known.map(Variant).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(index), &self))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Variant, E> {
        let known = VARIANTS.iter().position(|known| *known == name);
        known.map(Variant).ok_or_else(|| E::unknown_variant(name, &VARIANTS))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Variant, E> {
        self.visit_str(&String::from_utf8_lossy(name))
    }
}
