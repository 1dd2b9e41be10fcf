//! Rows of values: put into a queue and taken out in one process, beside postcard alone, which
//! encodes the same value and decodes it. Postcard's form has neither tags nor names, so it is the
//! limit, and carries less.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use procession::Queue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::report::{Must, Row};

/// A row of a table, as programs have it.
#[derive(Serialize, Deserialize, Clone)]
struct Record {
    id: u64,
    name: String,
    email: String,
    age: u32,
    balance: f64,
    active: bool,
    tags: Vec<String>,
    latitude: f64,
    longitude: f64,
    created: i64,
    parent: Option<u64>,
    note: Option<String>,
}

#[derive(Serialize, Deserialize, Clone)]
enum Event {
    Quit,
    Key(u32),
    Move { x: f64, y: f64 },
    Text(String),
    Resize(u32, u32),
}

pub(crate) fn records(pairs: usize) -> Row {
    let record = |id| Record {
        id,
        name: "Ada Lovelace".into(),
        email: "ada@example.org".into(),
        age: 36,
        balance: 1234.5,
        active: true,
        tags: vec!["one".into(), "two".into()],
        latitude: 51.5,
        longitude: -0.12,
        created: 1_700_000_000,
        parent: Some(7),
        note: None,
    };
    row(pairs, "value: 100 records of 12 fields", (0..100).map(record).collect::<Vec<_>>())
}

pub(crate) fn enums(pairs: usize) -> Row {
    let event = |index: u32| match index % 5 {
        0 => Event::Quit,
        1 => Event::Key(index),
        2 => Event::Move { x: index.into(), y: 0.5 },
        3 => Event::Text(format!("text {index}")),
        _ => Event::Resize(index, 80),
    };
    row(pairs, "value: 1,000 enums of 5 variants", (0..1000).map(event).collect::<Vec<_>>())
}

pub(crate) fn map(pairs: usize) -> Row {
    let entries = (0..1000u32).map(|index| (format!("key {index}"), f64::from(index) * 0.1));
    row(pairs, "value: HashMap<String, f64> of 1,000", entries.collect::<HashMap<_, _>>())
}

fn row<T: Serialize + DeserializeOwned + Clone + 'static>(pairs: usize, what: &str, value: T) -> Row {
    let queue = Queue::new().expect("a queue is made");
    let ours = |value: T| {
        queue.put(value).expect("it is open");
        black_box(queue.get().expect("it is open"));
    };
    let theirs = |value: T| {
        let bytes = postcard::to_extend(&value, Vec::new()).expect("it encodes");
        black_box(postcard::from_bytes::<T>(&bytes).expect("it decodes"));
    };
    let pairs = (0..pairs).map(|_| (micros(&value, ours), micros(&value, theirs))).collect();
    Row::new(what, "us", "bare postcard", Must::AtMost(1.5), pairs)
}

/// Returns the shortest time of many, which is the least disturbed.
fn micros<T: Clone>(value: &T, send: impl Fn(T)) -> f64 {
    let once = |_| {
        let value = black_box(value.clone());
        let begun = Instant::now();
        send(value);
        begun.elapsed()
    };
    (0..300).map(once).min().expect("some runs").as_secs_f64() * 1e6
}
