//! Values at random, of a type that has every shape.

use std::collections::BTreeMap;

use procession::pipe;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::{Deserialize, Serialize};

use super::{Bits, Newtype, Unit, Ways};

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Any {
    Unit,
    Bool(bool),
    Small(u8, i16, u32, i64),
    Large(u128, i128),
    Float(Bits),
    Char(char),
    Text(String),
    #[serde(with = "serde_bytes")]
    Bytes(Vec<u8>),
    Option(Option<Option<Box<Any>>>),
    Newtype(Newtype<Box<Any>>),
    List(Vec<Any>),
    Tuple(Box<(Any, Unit, Any)>),
    Map(BTreeMap<(u8, String), Any>),
    Result(Box<Result<Any, Any>>),
    Struct {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<Box<Any>>,
        second: Box<Any>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        third: Vec<Any>,
    },
    Flat(Box<Flat>),
    Tagged(Box<Tagged>),
    Json(serde_json::Value),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Flat {
    one: Option<u8>,
    #[serde(flatten)]
    inner: Left,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    two: Option<Vec<i32>>,
    three: Option<Option<()>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "tag")]
enum Tagged {
    Unit,
    Struct { x: i64, y: Option<f64> },
    Newtype(Left),
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e300..1e300).prop_map(|x: f64| x.into()),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |json| {
        prop_oneof![
            vec(json.clone(), 0..4).prop_map(Into::into),
            btree_map(".{0,9}", json, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn left() -> impl Strategy<Value = Left> {
    (option::of(vec(any::<i32>(), 0..4)), option::of(option::of(Just(())))).prop_map(|(two, three)| Left { two, three })
}

fn values() -> impl Strategy<Value = Any> {
    let leaf = prop_oneof![
        Just(Any::Unit),
        any::<bool>().prop_map(Any::Bool),
        any::<(u8, i16, u32, i64)>().prop_map(|(a, b, c, d)| Any::Small(a, b, c, d)),
        any::<(u128, i128)>().prop_map(|(a, b)| Any::Large(a, b)),
        any::<(u32, u64)>().prop_map(|(a, b)| Any::Float(Bits(f32::from_bits(a), f64::from_bits(b)))),
        any::<char>().prop_map(Any::Char),
        any::<String>().prop_map(Any::Text),
        vec(any::<u8>(), 0..300).prop_map(Any::Bytes),
        json().prop_map(Any::Json),
        (any::<Option<u8>>(), left(), btree_map("[a-d]{4}", json(), 0..3))
            .prop_map(|(one, inner, rest)| Any::Flat(Box::new(Flat { one, inner, rest }))),
        prop_oneof![
            Just(Tagged::Unit),
            any::<(i64, Option<i32>)>().prop_map(|(x, y)| Tagged::Struct { x, y: y.map(f64::from) }),
            left().prop_map(Tagged::Newtype),
        ]
        .prop_map(|tagged| Any::Tagged(Box::new(tagged))),
    ];
    leaf.prop_recursive(5, 60, 6, |any| {
        prop_oneof![
            option::of(option::of(any.clone().prop_map(Box::new))).prop_map(Any::Option),
            any.clone().prop_map(|value| Any::Newtype(Newtype(Box::new(value)))),
            vec(any.clone(), 0..6).prop_map(Any::List),
            (any.clone(), any.clone()).prop_map(|(a, b)| Any::Tuple(Box::new((a, Unit, b)))),
            btree_map((proptest::num::u8::ANY, ".{0,5}"), any.clone(), 0..5).prop_map(Any::Map),
            proptest::result::maybe_ok(any.clone(), any.clone()).prop_map(|result| Any::Result(Box::new(result))),
            (option::of(any.clone()), any.clone(), vec(any, 0..3)).prop_map(|(first, second, third)| Any::Struct {
                first: first.map(Box::new),
                second: Box::new(second),
                third,
            }),
        ]
    })
}

pub(super) fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

pub(super) fn any_value_of_any_shape_arrives(ways: &Ways) {
    runner(300)
        .run(&vec(values(), 0..4), |values| {
            ways.arrives(values);
            Ok(())
        })
        .unwrap();
}

/// Bytes at random, and bytes of a value of which some are others.
pub(super) fn any_bytes_are_a_value_or_an_error() {
    let (peer, ours) = pipe::<Vec<Any>, Vec<Any>>(true).unwrap();
    let changes = vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    runner(1000)
        .run(&(vec(values(), 0..4), changes), |(values, changes)| {
            peer.send(&values).unwrap();
            let mut bytes = ours.recv_bytes().unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            peer.send_bytes(&bytes).unwrap();
            let received = ours.recv();
            prop_assert!(received.is_ok() || received.is_err_and(|error| error.is_decode()));
            Ok(())
        })
        .unwrap();
    runner(1000)
        .run(&vec(any::<u8>(), 0..200), |bytes| {
            peer.send_bytes(&bytes).unwrap();
            let received = ours.recv();
            prop_assert!(received.is_ok() || received.is_err_and(|error| error.is_decode()));
            Ok(())
        })
        .unwrap();
}
