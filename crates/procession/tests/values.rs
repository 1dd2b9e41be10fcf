//! Values of every shape that serde knows arrive as they were sent: as arguments and results of
//! tasks, as items of a queue, and over a connection.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::{NonZeroI128, NonZeroU8, NonZeroU64, Wrapping};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use procession::{Bytes, Connection, Context, Pool, Queue, Slice, pipe};
use procession_testing::{Trial, once, run, tests, trial};
use serde::de::DeserializeOwned;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use any::{any_bytes_are_a_value_or_an_error, any_value_of_any_shape_arrives};
use attributes::{
    attributes_of_fields_hold, attributes_of_structs_hold, flattened_fields_arrive, representations_of_enums_arrive,
    skipped_variants_are_errors,
};
use attributes_at_random::any_value_with_attributes_arrives;

#[path = "values/any.rs"]
mod any;
#[path = "values/attributes.rs"]
mod attributes;
#[path = "values/attributes_at_random.rs"]
mod attributes_at_random;

fn main() {
    procession::init();
    run(tests! {
        by_every_way: [
            integers_arrive,
            floats_keep_their_bits,
            text_arrives,
            nested_options_arrive,
            units_and_newtypes_arrive,
            collections_arrive,
            maps_with_keys_of_any_type_arrive,
            types_of_the_standard_library_arrive,
            types_of_other_libraries_arrive,
            json_arrives,
            recursive_types_arrive,
            large_payloads_within_values_arrive,
            attributes_of_fields_hold,
            attributes_of_structs_hold,
            flattened_fields_arrive,
            representations_of_enums_arrive,
            skipped_variants_are_errors,
            value_that_does_not_arrive_is_an_error_that_names_type_and_field,
            any_value_of_any_shape_arrives,
            any_value_with_attributes_arrives,
        ],
        once: [bytes_of_a_peer_are_a_value_or_an_error, any_bytes_are_a_value_or_an_error],
    })
}

fn by_every_way(name: &str, body: fn(&Ways)) -> [Trial; 1] {
    [trial(name, move || body(&Ways::new()))]
}

/// A value that can be sent and compared.
trait Sent: Serialize + DeserializeOwned + PartialEq + Debug + Clone + Send + 'static {}

impl<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone + Send + 'static> Sent for T {}

/// The ways that a value may take.
struct Ways {
    pool: Pool,
}

impl Ways {
    fn new() -> Ways {
        Ways { pool: Context::fork().pool(1).unwrap() }
    }

    /// Sends a value on every way.
    #[track_caller]
    fn arrives<T: Sent>(&self, value: T) {
        self.arrives_as(value.clone(), value);
    }

    /// Sends a value on every way, where what arrives is said to differ: a field that is not sent
    /// has its default.
    #[track_caller]
    fn arrives_as<T: Sent>(&self, value: T, expected: T) {
        assert_eq!(self.pool.apply(|value: T| value, value.clone()).unwrap(), expected, "by apply");
        let three = [value.clone(), value.clone(), value.clone()];
        assert_eq!(self.pool.map(|value: T| value, three).unwrap(), [&expected; 3].map(Clone::clone), "by map");
        let queue = Queue::new().unwrap();
        queue.put(value.clone()).unwrap();
        assert_eq!(queue.get().unwrap(), expected, "by a queue");
        let (ours, theirs): (Connection<T, T>, Connection<T, T>) = pipe(true).unwrap();
        // A large one has no room there until somebody receives it.
        let sender = std::thread::spawn(move || ours.send(&value).unwrap());
        assert_eq!(theirs.recv().unwrap(), expected, "over a connection");
        sender.join().unwrap();
    }
}

fn integers_arrive(ways: &Ways) {
    macro_rules! bounds {
        ($($integer:ty)*) => {$(
            ways.arrives(<$integer>::MIN);
            ways.arrives(<$integer>::MAX);
            ways.arrives(vec![<$integer>::MIN, 0, 1, <$integer>::MAX / 3, <$integer>::MAX]);
        )*};
    }
    bounds!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
    ways.arrives((0..128).map(|bit| 1u128 << bit).collect::<Vec<_>>());
    ways.arrives((0..64).map(|bit| -1i64 << bit).collect::<Vec<_>>());
    ways.arrives((NonZeroU8::MAX, NonZeroU64::MIN, NonZeroI128::MIN, Wrapping(7u32), Some(NonZeroU8::MIN)));
}

/// Compared by its bits.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
struct Bits(f32, f64);

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        (self.0.to_bits(), self.1.to_bits()) == (other.0.to_bits(), other.1.to_bits())
    }
}

fn floats_keep_their_bits(ways: &Ways) {
    let quiet_and_signalling = [0x7fc0_0000u32, 0x7fa0_0001, 0xffc1_2345, 0xff80_0001];
    let wide = [0x7ff8_0000_0000_0000u64, 0x7ff0_0000_0000_0001, 0xfff4_0000_dead_beef, 0xffff_ffff_ffff_ffff];
    for (narrow, wide) in quiet_and_signalling.into_iter().zip(wide) {
        ways.arrives(Bits(f32::from_bits(narrow), f64::from_bits(wide)));
    }
    for value in [0.0, -0.0, f64::MIN_POSITIVE / 2.0, f64::INFINITY, f64::MAX, 0.1, 1.0 / 3.0] {
        ways.arrives(Bits(value as f32, value));
        ways.arrives(value);
    }
}

fn text_arrives(ways: &Ways) {
    for text in ["", "a", "a\0b\0", "\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}", "שלום \u{202e} 🦀"] {
        ways.arrives(text.to_owned());
        ways.arrives(Some(text.to_owned()));
    }
    for len in [30, 31, 32, 33, 127, 128, 16_383, 16_384, 3_000_000] {
        ways.arrives("é".repeat(len / 2) + &"x".repeat(len % 2));
    }
    ways.arrives(['\0', 'a', '\u{d7ff}', '\u{e000}', '\u{10ffff}']);
    ways.arrives::<Cow<'static, str>>("borrowed".into());
    ways.arrives::<Box<str>>("boxed".into());
}

fn nested_options_arrive(ways: &Ways) {
    type Deep = Option<Option<Option<()>>>;
    let all: [Deep; 4] = [None, Some(None), Some(Some(None)), Some(Some(Some(())))];
    all.into_iter().for_each(|value| ways.arrives(value));
    ways.arrives(all);
    ways.arrives((Some(()), None::<()>, Some(None::<u8>), Some(Some(0u8))));
    ways.arrives(vec![Ok(Some(1u8)), Ok(None), Err(Some("no".to_owned())), Err(None)]);
    ways.arrives(HashMap::from([(Some(1), None), (None, Some(Some(())))]));
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Clone, Copy, Default)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Clone, Default)]
struct Newtype<T>(T);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
struct Pair(u8, String);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
struct Empty {}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
struct EmptyTuple();

fn units_and_newtypes_arrive(ways: &Ways) {
    ways.arrives(());
    ways.arrives(vec![(); 1000]);
    ways.arrives((Unit, Empty {}, EmptyTuple(), Newtype(()), Newtype(Unit)));
    ways.arrives(Newtype(Newtype(Some(Newtype(vec![Pair(1, "one".into())])))));
    ways.arrives((true, false, Some(true)));
}

fn collections_arrive(ways: &Ways) {
    ways.arrives(Vec::<u64>::new());
    ways.arrives((String::new(), Vec::<Vec<u8>>::new(), BTreeMap::<u8, u8>::new(), [0u8; 0]));
    ways.arrives((0..=255).collect::<Vec<u8>>());
    ways.arrives(vec![vec![1u8, 2], vec![], vec![255; 70_000]]);
    ways.arrives((1u8, 2u8, 0u8, 3u8, 4u8, 5u8, 6u8, 7u8, "not a byte".to_owned(), 8u8));
    ways.arrives(vec![Value::from(1), Value::from(2), Value::Null]);
    ways.arrives((vec![Newtype(0u8), Newtype(255)], vec![Wrapping(1u8)], vec![Newtype(Newtype(7u8)); 9]));
    ways.arrives((vec![0u8, 1], [0u8; 32], Some([[9u8; 8]; 2])));
    ways.arrives(Miscounted(vec![0, 1, 2]));
    ways.arrives(Miscounted(vec![]));
    ways.arrives(serde_bytes::ByteBuf::from((0..=255).collect::<Vec<u8>>()));
    ways.arrives((1, (2u8, (3i16, "four".to_owned())), [5.5, 6.5], ['7'; 32]));
    ways.arrives((VecDeque::from([1, 2]), BTreeSet::from(["a".to_owned()]), HashSet::from([(1u8, 'x')])));
    ways.arrives((Box::new(5u8), Box::<[u16]>::from([1, 2]), Cow::<'static, [u8]>::Owned(vec![1])));
    ways.arrives((0..100_000u32).map(|x| (x, x.to_string())).collect::<HashMap<_, _>>());
}

/// Says that it has more elements than it has.
#[derive(Deserialize, PartialEq, Debug, Clone)]
struct Miscounted(Vec<u8>);

impl Serialize for Miscounted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(usize::MAX))?;
        self.0.iter().try_for_each(|element| seq.serialize_element(element))?;
        seq.end()
    }
}

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Clone)]
enum Key {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    Struct { x: i8 },
}

fn maps_with_keys_of_any_type_arrive(ways: &Ways) {
    let keys = [Key::Unit, Key::Newtype(1), Key::Tuple(2, "two".into()), Key::Struct { x: -3 }];
    ways.arrives(keys.iter().cloned().zip(0..).collect::<BTreeMap<_, u8>>());
    ways.arrives(keys.iter().cloned().map(|key| (vec![Newtype(key)], Unit)).collect::<HashMap<_, _>>());
    ways.arrives(HashMap::from([((1u8, 'a'), 1.5), ((2, 'b'), -0.0)]));
    ways.arrives(BTreeMap::from([(Unit, ())]));
    ways.arrives(BTreeMap::from([(true, 1), (false, 2)]));
    ways.arrives(BTreeMap::from([(i128::MIN, u128::MAX)]));
    ways.arrives(BTreeMap::from([(BTreeMap::from([(1u8, 'x')]), 'y')]));
}

fn types_of_the_standard_library_arrive(ways: &Ways) {
    ways.arrives((Duration::MAX, Duration::ZERO, Duration::new(1, 999_999_999)));
    ways.arrives((SystemTime::UNIX_EPOCH, SystemTime::now()));
    ways.arrives((PathBuf::from("/tmp/é x"), PathBuf::new(), OsString::from("os")));
    let (four, six) = (Ipv4Addr::new(127, 0, 0, 1), Ipv6Addr::LOCALHOST);
    ways.arrives((four, six, IpAddr::from(four), IpAddr::from(six)));
    ways.arrives([SocketAddr::from((four, 80)), SocketAddr::from((six, 65535))]);
    ways.arrives(SocketAddrV6::new(six, 1, 0, 3));
    ways.arrives((0u8..10, 1i64..=5, 3u32.., ..4u8));
    ways.arrives([Bound::Included(1), Bound::Excluded(2), Bound::Unbounded]);
    ways.arrives((std::cmp::Reverse(1), std::cell::Cell::new(4), std::cell::RefCell::new("x".to_owned())));
    ways.arrives(std::ffi::CString::new("c").unwrap());
}

fn types_of_other_libraries_arrive(ways: &Ways) {
    let date = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let time = date.and_hms_nano_opt(23, 59, 59, 1_999_999_999).unwrap();
    ways.arrives((date, time, time.and_utc(), time.and_utc().fixed_offset(), chrono::Weekday::Sun));
    ways.arrives(chrono::TimeDelta::new(-5, 3).unwrap());
    ways.arrives((uuid::Uuid::nil(), uuid::Uuid::from_u128(u128::MAX / 7)));
    let ordered: IndexMap<_, _> = [("z", 1), ("a", 2), ("m", 3)].map(|(key, value)| (key.to_owned(), value)).into();
    ways.arrives(ordered.clone());
    let keys = |map: IndexMap<String, i32>| map.into_keys().collect::<Vec<_>>();
    assert_eq!(ways.pool.apply(keys, ordered).unwrap(), ["z", "a", "m"]);
}

fn json_arrives(ways: &Ways) {
    let value = json!({"": null, "a": [1, -1, 1.5, u64::MAX, i64::MIN, 1e300], "b": {"c": {}}, "d": "é\0", "e": true});
    ways.arrives(value.clone());
    ways.arrives([Value::Null, json!([]), json!({}), json!(0), json!("")]);
    ways.arrives(Some(value.as_object().unwrap().clone()));
    ways.arrives([serde_json::Number::from(u64::MAX), serde_json::Number::from_f64(-0.0).unwrap()]);
    let text = r#"{"a" : [1,  2]}"#;
    let raw: Box<serde_json::value::RawValue> = serde_json::from_str(text).unwrap();
    let echoed = ways.pool.apply(|raw: Box<serde_json::value::RawValue>| raw, raw).unwrap();
    assert_eq!(echoed.get(), text);
    // A value that is sent as JSON may be received as a type of its own.
    let (ours, theirs) = pipe::<Value, Key>(true).unwrap();
    for key in [Key::Unit, Key::Newtype(1), Key::Tuple(2, "two".into()), Key::Struct { x: -3 }] {
        let value = serde_json::to_value(&key).unwrap();
        ours.send(&value).unwrap();
        theirs.send_bytes(&theirs.recv_bytes().unwrap()).unwrap();
        assert_eq!(ours.recv().unwrap(), key);
        theirs.send(&key).unwrap();
        ours.send_bytes(&ours.recv_bytes().unwrap()).unwrap();
        assert_eq!(theirs.recv().unwrap(), value);
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Tree {
    Leaf,
    Branch { left: Box<Tree>, value: i32, right: Box<Tree> },
    Many(Vec<Tree>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct List {
    value: u32,
    next: Option<Box<List>>,
}

fn recursive_types_arrive(ways: &Ways) {
    let branch = |left, value, right| Tree::Branch { left: Box::new(left), value, right: Box::new(right) };
    let small = branch(Tree::Leaf, 1, branch(Tree::Many(vec![]), -2, Tree::Leaf));
    ways.arrives(Tree::Many(vec![small.clone(), Tree::Leaf, small]));
    let list = |len| (0..len).fold(None, |next, value| Some(Box::new(List { value, next }))).unwrap();
    ways.arrives(*list(400));
    let error = ways.pool.apply(|list: List| list.value, *list(5000)).unwrap_err();
    assert!(error.is_encode() && error.to_string().contains("nested deeper than 1000 levels"), "{error}");
}

fn large_payloads_within_values_arrive(ways: &Ways) {
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Frame {
        name: String,
        pixels: Option<Bytes>,
        #[serde(flatten)]
        rest: HashMap<String, Slice<f64>>,
    }
    for len in [0, 10, 16 << 10, 1 << 20] {
        let rest = HashMap::from([("samples".to_owned(), vec![0.5; len].into()), ("none".to_owned(), vec![].into())]);
        ways.arrives(Frame { name: "one".into(), pixels: Some(vec![7; len].into()), rest });
    }
}

/// Writes a text and reads a number.
#[derive(PartialEq, Debug, Clone)]
struct Askew;

impl Serialize for Askew {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("text")
    }
}

impl<'de> Deserialize<'de> for Askew {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|_| Askew)
    }
}

/// Writes nothing.
#[derive(PartialEq, Debug, Clone, Deserialize)]
struct Unwritten;

impl Serialize for Unwritten {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it never is"))
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Inner<T> {
    wrong: T,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Outer<T> {
    Holds { inner: Inner<T> },
}

fn value_that_does_not_arrive_is_an_error_that_names_type_and_field(ways: &Ways) {
    let holds = |wrong| Outer::Holds { inner: Inner { wrong } };
    let error = ways.pool.apply(|outer: Outer<Askew>| outer, holds(Askew)).unwrap_err();
    let text = error.to_string();
    assert!(error.is_decode(), "{text}");
    let path = "field `wrong` of `Inner` in field `inner` in variant `Holds` of `Outer`: ";
    assert!(text.contains(path) && text.contains("string \"text\", expected u64"), "{text}");
    let error = ways
        .pool
        .apply(|outer: Outer<Unwritten>| outer == outer.clone(), Outer::Holds { inner: Inner { wrong: Unwritten } });
    let text = error.unwrap_err().to_string();
    assert!(text.contains(path) && text.contains("it never is"), "{text}");
    let text = ways.pool.apply(|_: u8| Unwritten, 1).unwrap_err().to_string();
    assert!(text.contains("Unwritten"), "without a field it names the type: {text}");

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    enum OneWay {
        #[serde(skip_deserializing)]
        Gone,
        Here,
    }
    let text = ways.pool.apply(|value: OneWay| value, OneWay::Gone).unwrap_err().to_string();
    assert!(text.contains("unknown variant `Gone`") && text.contains("OneWay"), "{text}");
    ways.arrives(OneWay::Here);

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Missing {
        #[serde(skip_serializing)]
        needed: u8,
        other: u8,
    }
    let text = ways.pool.apply(|value: Missing| value, Missing { needed: 1, other: 2 }).unwrap_err().to_string();
    assert!(text.contains("missing field `needed`") && text.contains("Missing"), "{text}");
}

fn bytes_of_a_peer_are_a_value_or_an_error() {
    let (ours, peer) = pipe::<u8, Outer<HashMap<String, Vec<u64>>>>(true).unwrap();
    let rows = HashMap::from([("a".to_owned(), vec![1, 2, 1 << 60]), ("b".to_owned(), vec![])]);
    peer.send(&Outer::Holds { inner: Inner { wrong: rows } }).unwrap();
    let whole = ours.recv_bytes().unwrap();
    let mut is_value = Vec::new();
    for len in 0..=whole.len() {
        peer.send_bytes(&whole[..len]).unwrap();
        is_value.push(receive(&ours));
    }
    assert!(is_value.pop().unwrap() && !is_value.contains(&true), "only the whole of it is a value");
    for at in 0..whole.len() {
        for byte in [0, 1, 3, 0x11, 0x5f, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            peer.send_bytes(&bytes).unwrap();
            receive(&ours);
        }
    }
    fn receive<S: Serialize + 'static, T: DeserializeOwned + Serialize + 'static>(from: &Connection<S, T>) -> bool {
        match from.recv() {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_decode(), "{error}");
                false
            }
        }
    }
}
