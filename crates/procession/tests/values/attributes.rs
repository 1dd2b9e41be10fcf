//! serde's attributes and representations.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Unit, Ways};

/// The one that arrived as other values.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
struct Left {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u32>,
    second: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    third: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fourth: Option<Box<Left>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
struct Named {
    first_field: u8,
    #[serde(rename = "")]
    unnamed: u8,
    #[serde(rename(serialize = "old", deserialize = "new"), alias = "old")]
    renamed: u8,
    #[serde(alias = "one", alias = "other")]
    r#type: u8,
    last: u8,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Skips {
    #[serde(skip)]
    never: u8,
    before: u16,
    #[serde(skip_serializing, default = "seven")]
    not_sent: u8,
    #[serde(skip_deserializing)]
    not_read: Vec<u8>,
    after: String,
}

fn seven() -> u8 {
    7
}

pub(super) fn attributes_of_fields_hold(ways: &Ways) {
    let inner = Left { fourth: Some(Box::default()), ..Left::default() };
    ways.arrives(Left { first: None, second: 1, third: vec![9, 1, 5], fourth: None });
    ways.arrives(Left { first: Some(3), second: 9, third: vec![], fourth: Some(Box::new(inner.clone())) });
    ways.arrives(vec![Left::default(), inner, Left { third: vec![1], ..Left::default() }, Left::default()]);
    ways.arrives(Named { first_field: 1, unnamed: 2, renamed: 3, r#type: 4, last: 5 });
    let sent = Skips { never: 1, before: 2, not_sent: 3, not_read: vec![4], after: "5".into() };
    let arrives = Skips { never: 0, not_sent: 7, not_read: vec![], ..sent.clone() };
    ways.arrives_as(sent, arrives);
    ways.arrives(Adapted { hex: 0xbeef, days: vec![1, 2], other: Foreign { x: 1 }, bytes: vec![1, 2, 3] });
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Adapted {
    #[serde(with = "hex")]
    hex: u64,
    #[serde(serialize_with = "write_days", deserialize_with = "read_days")]
    days: Vec<u8>,
    #[serde(with = "ForeignForm")]
    other: Foreign,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// A type of another crate, without serde.
#[derive(PartialEq, Debug, Clone)]
struct Foreign {
    x: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Foreign")]
struct ForeignForm {
    x: u8,
}

mod hex {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(serde::de::Error::custom)
    }
}

/// Without saying how many.
fn write_days<S: Serializer>(days: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeSeq;
    let mut seq = serializer.serialize_seq(None)?;
    days.iter().try_for_each(|day| seq.serialize_element(day))?;
    seq.end()
}

fn read_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    Vec::deserialize(deserializer)
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(transparent)]
struct Transparent {
    inner: Option<Option<u8>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(from = "(u8, u8)", into = "(u8, u8)")]
struct Point {
    x: u8,
    y: u8,
}

impl From<(u8, u8)> for Point {
    fn from((x, y): (u8, u8)) -> Point {
        Point { x, y }
    }
}

impl From<Point> for (u8, u8) {
    fn from(point: Point) -> (u8, u8) {
        (point.x, point.y)
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(try_from = "u8", into = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = String;

    fn try_from(value: u8) -> Result<Even, String> {
        if value.is_multiple_of(2) { Ok(Even(value)) } else { Err(format!("{value} is odd")) }
    }
}

impl From<Even> for u8 {
    fn from(Even(value): Even) -> u8 {
        value
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(deny_unknown_fields, default)]
struct Strict {
    a: Option<u8>,
    b: bool,
}

impl Default for Strict {
    fn default() -> Strict {
        Strict { a: Some(9), b: true }
    }
}

pub(super) fn attributes_of_structs_hold(ways: &Ways) {
    for inner in [None, Some(None), Some(Some(3))] {
        ways.arrives(Transparent { inner });
    }
    ways.arrives(Point { x: 1, y: 2 });
    ways.arrives(Even(4));
    let error = ways.pool.apply(|even: Even| even, Even(5)).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("5 is odd"), "{error}");
    ways.arrives([Strict { a: None, b: false }, Strict::default()]);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Page {
    title: String,
    #[serde(flatten)]
    size: Size,
    #[serde(flatten)]
    margin: Option<Margin>,
    #[serde(flatten)]
    kind: Kind,
    #[serde(flatten)]
    others: BTreeMap<String, Option<Option<u64>>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Size {
    width: u32,
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<f64>,
    host: IpAddr,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Margin {
    left: i8,
    id: uuid::Uuid,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Kind {
    Plain {},
    Ruled(u8),
    Dotted { by: char },
}

pub(super) fn flattened_fields_arrive(ways: &Ways) {
    let size = |depth| Size { width: 1, height: None, depth, host: [1, 2, 3, 4].into() };
    let others: BTreeMap<_, _> = [("x", Some(Some(1))), ("z", None)].map(|(key, value)| (key.into(), value)).into();
    let margin = Margin { left: -1, id: uuid::Uuid::from_u128(5) };
    for kind in [Kind::Plain {}, Kind::Ruled(3), Kind::Dotted { by: '.' }] {
        ways.arrives(Page { title: "A".into(), size: size(None), margin: None, kind, others: BTreeMap::new() });
    }
    let page = Page { title: "é".into(), size: size(Some(0.5)), margin: Some(margin), kind: Kind::Ruled(1), others };
    ways.arrives(vec![page.clone(), page]);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum External {
    Unit,
    Newtype(Option<()>),
    Tuple(u8, String),
    Struct { a: u8, b: Vec<External> },
    EmptyTuple(),
    EmptyStruct {},
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Internal {
    UnitVariant,
    Newtype(Inner),
    Struct { first_field: u8, deep: Option<Option<()>>, host: IpAddr, rest: Vec<Internal> },
    Map(HashMap<String, f32>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Inner {
    at: IpAddr,
    key: External,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    Newtype(Vec<u8>),
    Tuple(u8, char),
    Struct { a: Box<Adjacent>, ip: IpAddr },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Ip(IpAddr),
    Text(String),
    Pair(bool, char),
    Struct { a: Option<Option<u8>>, b: External },
    Internal(Internal),
    List(Vec<Untagged>),
    Unit,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "UPPERCASE")]
enum Other {
    Known,
    #[serde(alias = "was", rename = "is")]
    Aliased(u8),
    #[serde(other)]
    Unknown,
}

pub(super) fn representations_of_enums_arrive(ways: &Ways) {
    let external = [
        External::Unit,
        External::Newtype(Some(())),
        External::Newtype(None),
        External::Tuple(1, "é".into()),
        External::EmptyTuple(),
        External::EmptyStruct {},
    ];
    ways.arrives(External::Struct { a: 1, b: external.to_vec() });
    external.iter().cloned().for_each(|value| ways.arrives(value));
    let host = IpAddr::from([10, 0, 0, 1]);
    let internal = [
        Internal::UnitVariant,
        Internal::Newtype(Inner { at: host, key: External::Tuple(1, "x".into()) }),
        Internal::Struct { first_field: 1, deep: Some(None), host, rest: vec![Internal::UnitVariant] },
        Internal::Map([("a".to_owned(), 0.1), ("b".to_owned(), f32::INFINITY)].into()),
    ];
    ways.arrives(internal.to_vec());
    let nested = Adjacent::Struct { a: Box::new(Adjacent::Tuple(1, 'x')), ip: host };
    ways.arrives([Adjacent::Unit, Adjacent::Newtype(vec![1, 2]), Adjacent::Tuple(3, '4'), nested]);
    let untagged = [
        Untagged::Number(-5),
        Untagged::Ip(host),
        Untagged::Text("text".into()),
        Untagged::Pair(true, 'x'),
        Untagged::Struct { a: Some(None), b: External::Struct { a: 1, b: external.to_vec() } },
        Untagged::Internal(internal[2].clone()),
        Untagged::Unit,
    ];
    untagged.iter().cloned().for_each(|value| ways.arrives(value));
    ways.arrives(Untagged::List(untagged.to_vec()));
    ways.arrives([Other::Known, Other::Aliased(1), Other::Unknown]);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Copy)]
enum Access {
    #[serde(skip)]
    #[allow(dead_code)]
    Internal,
    Read,
    #[serde(skip_deserializing, skip_serializing)]
    #[allow(dead_code)]
    Gone(Unit),
    Write,
    Delete,
}

pub(super) fn skipped_variants_are_errors(ways: &Ways) {
    for access in [Access::Read, Access::Write, Access::Delete] {
        ways.arrives(access);
    }
    ways.arrives([Access::Delete, Access::Write, Access::Read]);
    let error = ways.pool.apply(|access: Access| access, Access::Internal).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("Access"), "{error}");
}
