//! Values at random, of types that use serde's attributes and representations within each other.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::any::runner;
use super::{Newtype, Unit, Ways};

/// Compared by its bits.
#[derive(Serialize, Deserialize, Debug, Clone, Copy)]
struct Real(f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// A tree in which each representation contains each other.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "kebab-case")]
enum Tree {
    NoValue,
    #[serde(rename = "")]
    Char(char),
    Option(Option<Option<Option<Box<Tree>>>>),
    Keys(Box<Keys>),
    Fields(Box<Fields>),
    Flat(Box<Flat>),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
}

type Maps = (BTreeMap<Option<i64>, Unit>, BTreeMap<(char, bool), Newtype<u8>>, BTreeMap<Key, Tree>);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Keys(Maps);

#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug, Clone)]
enum Key {
    Unit,
    Newtype(u64),
    Tuple(i8, String),
    Struct { bytes: Vec<u8> },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_field: Option<Box<Tree>>,
    #[serde(rename = "type", alias = "kind")]
    second: Real,
    #[serde(default = "seven", skip_serializing_if = "is_seven")]
    third: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Option<()>>,
}

fn seven() -> u16 {
    7
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_seven(number: &u16) -> bool {
    *number == 7
}

/// Its own fields, those of one of two structs, a variant's name, and whatever else there is.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Flat {
    own: Option<u8>,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    optional: Option<Optional>,
    #[serde(flatten)]
    variant: Variant,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Inner {
    real: Real,
    #[serde(skip_serializing_if = "Option::is_none")]
    letter: Option<char>,
    nested: Option<Option<Box<Tree>>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Optional {
    must: i64,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Variant {
    Newtype(Box<Tree>),
    Struct { x: u8 },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum Internal {
    Unit,
    Newtype(Box<Fields2>),
    Struct { first_field: Option<Option<u8>>, tree: Box<Tree>, rest: Vec<Internal> },
    Map(BTreeMap<String, Real>),
}

/// The struct within a variant whose tag is internal.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Fields2 {
    key: Key,
    letter: char,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    Newtype(Option<Box<Tree>>),
    Tuple(u64, char, Unit),
    Struct { a: Box<Adjacent>, b: Real },
}

/// No value of one variant is read as one of a variant before it.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
enum Untagged {
    Unit,
    Flag(bool),
    Number(i64),
    Real(Real),
    Text(String),
    Node { left: Box<Untagged>, right: Option<Box<Untagged>> },
    Tagged { key: Key, of: Internal },
    List(Vec<Untagged>),
    Map(BTreeMap<String, Untagged>),
}

fn real() -> impl Strategy<Value = Real> {
    any::<u64>().prop_map(|bits| Real(f64::from_bits(bits)))
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        Just(Key::Unit),
        any::<u64>().prop_map(Key::Newtype),
        (any::<i8>(), ".{0,3}").prop_map(|(number, text)| Key::Tuple(number, text)),
        vec(any::<u8>(), 0..4).prop_map(|bytes| Key::Struct { bytes }),
    ]
}

fn untagged(internal: impl Strategy<Value = Internal> + Clone + 'static) -> impl Strategy<Value = Untagged> + Clone {
    let leaf = prop_oneof![
        Just(Untagged::Unit),
        any::<bool>().prop_map(Untagged::Flag),
        any::<i64>().prop_map(Untagged::Number),
        real().prop_map(Untagged::Real),
        // One letter is a char's form too, and a string all the same.
        ".{0,4}".prop_map(Untagged::Text),
        (key(), internal).prop_map(|(key, of)| Untagged::Tagged { key, of }),
    ];
    leaf.prop_recursive(3, 12, 3, |value| {
        let right = option::of(value.clone().prop_map(Box::new));
        prop_oneof![
            (value.clone().prop_map(Box::new), right).prop_map(|(left, right)| Untagged::Node { left, right }),
            vec(value.clone(), 0..3).prop_map(Untagged::List),
            btree_map("[x-z]{1,3}", value, 0..3).prop_map(Untagged::Map),
        ]
    })
}

fn fields(tree: impl Strategy<Value = Tree>) -> impl Strategy<Value = Fields> {
    let third = prop_oneof![Just(7u16), any::<u16>()];
    let last = option::of(option::of(Just(())));
    (option::of(tree.prop_map(Box::new)), real(), third, vec(any::<u8>(), 0..20), last)
        .prop_map(|(first_field, second, third, bytes, last)| Fields { first_field, second, third, bytes, last })
}

fn internal(tree: impl Strategy<Value = Tree> + Clone + 'static) -> impl Strategy<Value = Internal> + Clone {
    let leaf = prop_oneof![
        Just(Internal::Unit),
        (key(), any::<char>()).prop_map(|(key, letter)| Internal::Newtype(Box::new(Fields2 { key, letter }))),
        btree_map("[a-s]{1,3}", real(), 0..3).prop_map(Internal::Map),
    ];
    leaf.prop_recursive(2, 6, 2, move |value| {
        (any::<Option<Option<u8>>>(), tree.clone().prop_map(Box::new), vec(value, 0..3))
            .prop_map(|(first_field, tree, rest)| Internal::Struct { first_field, tree, rest })
    })
}

fn adjacent(tree: impl Strategy<Value = Tree> + 'static) -> impl Strategy<Value = Adjacent> {
    let leaf = prop_oneof![
        Just(Adjacent::Unit),
        option::of(tree.prop_map(Box::new)).prop_map(Adjacent::Newtype),
        (any::<u64>(), any::<char>()).prop_map(|(number, letter)| Adjacent::Tuple(number, letter, Unit)),
    ];
    leaf.prop_recursive(2, 4, 1, |value| {
        (value.prop_map(Box::new), real()).prop_map(|(a, b)| Adjacent::Struct { a, b })
    })
}

fn flat(tree: impl Strategy<Value = Tree> + Clone + 'static) -> impl Strategy<Value = Flat> {
    let inner = (real(), any::<Option<char>>(), option::of(option::of(tree.clone().prop_map(Box::new))))
        .prop_map(|(real, letter, nested)| Inner { real, letter, nested });
    let variant = prop_oneof![
        tree.clone().prop_map(|tree| Variant::Newtype(Box::new(tree))),
        any::<u8>().prop_map(|x| Variant::Struct { x }),
    ];
    let optional = any::<Option<i64>>().prop_map(|must| must.map(|must| Optional { must }));
    let rest = btree_map("[a-d]{3}", untagged(internal(tree)), 0..3);
    (any::<Option<u8>>(), inner, optional, variant, rest).prop_map(|(own, inner, optional, variant, rest)| Flat {
        own,
        inner,
        optional,
        variant,
        rest,
    })
}

fn maps(tree: impl Strategy<Value = Tree>) -> impl Strategy<Value = Maps> {
    (
        btree_map(any::<Option<i64>>(), Just(Unit), 0..3),
        btree_map(any::<(char, bool)>(), any::<u8>().prop_map(Newtype), 0..3),
        btree_map(key(), tree, 0..3),
    )
}

fn trees() -> impl Strategy<Value = Tree> + Clone {
    let leaf = prop_oneof![Just(Tree::NoValue), any::<char>().prop_map(Tree::Char)];
    leaf.prop_recursive(4, 24, 4, |tree| {
        let boxed = tree.clone().prop_map(Box::new);
        prop_oneof![
            option::of(option::of(option::of(boxed))).prop_map(Tree::Option),
            maps(tree.clone()).prop_map(|maps| Tree::Keys(Box::new(Keys(maps)))),
            fields(tree.clone()).prop_map(|fields| Tree::Fields(Box::new(fields))),
            flat(tree.clone()).prop_map(|flat| Tree::Flat(Box::new(flat))),
            internal(tree.clone()).prop_map(Tree::Internal),
            adjacent(tree.clone()).prop_map(Tree::Adjacent),
            untagged(internal(tree)).prop_map(Tree::Untagged),
        ]
    })
}

pub(super) fn any_value_with_attributes_arrives(ways: &Ways) {
    // Integers of 128 bits are beside the trees: serde itself cannot keep them aside for a
    // flattened, untagged or internally tagged value.
    let wide = option::of(any::<(u128, i128)>());
    runner(200)
        .run(&(vec(trees(), 0..3), btree_map(any::<Option<i128>>(), trees(), 0..2), wide), |values| {
            ways.arrives(values);
            Ok(())
        })
        .unwrap();
}
