//! Frames and records of a pool, made of any bytes; see [`crate::fuzzing`].

use procession_shm::record;

use super::frame::{Header, Identity, span};
use super::items::Items;

/// A frame, as a worker reads it from its inbox; a record, as the parent does from a worker's
/// stream; and items of any bytes, there and back.
pub fn frames(data: &[u8]) {
    if let Some((header, state, items)) = Header::parse(data) {
        assert_eq!(data, [&header.encode()[..], state, items].concat());
        assert!(header.first.checked_add(header.count).is_some(), "its tasks have numbers");
        walk(items, header.count);
    }
    if let Some((identity, result)) = Identity::parse(data) {
        assert_eq!(data, [&identity.encode()[..], result].concat());
    }
    there_and_back(data);
}

/// As the worker goes through a frame, and the task handler over what it cuts.
fn walk(items: &[u8], count: u32) {
    let (mut rest, mut taken, mut bytes) = (items, 0, 0);
    while taken < count
        && let Some((_, item)) = record::take(&mut rest)
    {
        taken += 1;
        assert!(item.len() < items.len() - rest.len() - bytes, "a header and the item itself");
        bytes = items.len() - rest.len();
    }
    assert_eq!(span(items, taken), Some(bytes));
    assert!(taken == count || span(items, taken + 1).is_none());
}

/// Items of which the first byte says the length of each.
fn there_and_back(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let (length, mut items) = (usize::from(*first).max(1), Items::default());
    for item in rest.chunks(length) {
        // One in eight does not encode, and leaves no trace.
        let refused = item[0] % 8 == 0;
        let pushed = items.push(
            |out| {
                out.extend_from_slice(item);
                if refused { Err("refused") } else { Ok(()) }
            },
            || "too large",
        );
        assert_eq!(pushed.is_err(), refused);
    }
    let mut encoded = items.bytes();
    for item in rest.chunks(length).filter(|item| item[0] % 8 != 0) {
        assert_eq!(record::take(&mut encoded).map(|(_, item)| item), Some(item));
    }
    assert!(encoded.is_empty() && span(items.bytes(), items.len() as u32) == Some(items.bytes().len()));
}
