//! The encoded arguments of a job, before they are cut into frames. Filled in the thread that
//! submits, as are the frames.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use procession_shm::record::{MAX_WORD_RECORD, SHORT, Word, long_header};

use super::frame::span;
use super::lending::Lent;
use super::outbox;
use super::shared::Shared;
use super::state::State;
use crate::handle;

/// Encoded arguments of a job, one behind the other, in the form of
/// [`record`](procession_shm::record).
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    count: u32,
    /// The beginning of each item whose index is a multiple of [`MARKED`], but for the first.
    marks: Vec<usize>,
    /// The last one was long: room for a long header is left before the next.
    expects_long: bool,
    /// `None` while there is nothing of it. Items are handed on by value, and most have none.
    more: Option<Box<More>>,
}

/// The parts of a job's items that few jobs have.
#[derive(Debug, Default)]
struct More {
    /// The calls of each item; empty while each is one.
    calls: Vec<u32>,
    /// Of the handles in the arguments.
    handles: Vec<OwnedFd>,
    /// Their large buffers.
    lent: Vec<Lent>,
    /// The state that each task gets beside its argument.
    state: Option<State>,
}

/// Items between two whose place is known.
const MARKED: u32 = 64;

impl Items {
    /// Room for about so many small items.
    pub fn with_capacity(items: usize) -> Items {
        Items { bytes: Vec::with_capacity(items.min(1 << 20) * 8 + 24), ..Items::default() }
    }

    /// So many as `encode` pushes, whose arguments may hold handles and large buffers.
    pub(super) fn encoded<E>(
        pool: &Arc<Shared>,
        capacity: usize,
        encode: impl FnOnce(&mut Items) -> Result<(), E>,
    ) -> Result<Items, E> {
        let mut all = Items::with_capacity(capacity);
        if pool.crew.is_inline() {
            handle::refusing(|| encode(&mut all))?;
            return Ok(all);
        }
        let (encoded, handles, lent) = outbox::submitting(pool, || encode(&mut all));
        encoded?;
        if !handles.is_empty() || !lent.is_empty() {
            let more = all.more();
            (more.handles, more.lent) = (handles, lent);
        }
        Ok(all)
    }

    /// Items that are encoded already, so many of them; `None` if they are not as many.
    pub fn of_records(records: &[u8], count: u32) -> Option<Items> {
        let is_whole = span(records, count) == Some(records.len());
        let mut items = Items { bytes: records.to_vec(), count, ..Items::default() };
        // Their places, but for the first, at the distance that is looked for.
        let (mut rest, mut index) = (records, 0);
        while is_whole && index + MARKED < count {
            let len = span(rest, MARKED)?;
            rest = &rest[len..];
            index += MARKED;
            items.marks.push(records.len() - rest.len());
        }
        is_whole.then_some(items)
    }

    /// Appends what `encode` writes as one item. An error leaves the items as they were.
    ///
    /// # Errors
    ///
    /// The error of `encode`, or `too_large` beyond 4 GiB for one item or 2^32 items.
    #[inline]
    pub fn push<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        too_large: impl FnOnce() -> E,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        if self.expects_long {
            self.bytes.extend_from_slice(&long_header(0, 0));
        } else {
            self.bytes.push(0);
        }
        let payload = self.bytes.len();
        if let Err(error) = encode(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let len = self.bytes.len() - payload;
        if len <= SHORT && !self.expects_long {
            self.bytes[start] = len as u8;
        } else if !self.lengthen(start, payload, len) {
            self.bytes.truncate(start);
            return Err(too_large());
        }
        if !self.mark(start) {
            self.bytes.truncate(start);
            return Err(too_large());
        }
        self.count += 1;
        Ok(())
    }

    /// Appends one item that is the arguments of `calls` calls, which one worker makes and answers
    /// at once.
    ///
    /// # Errors
    ///
    /// As [`push`](Items::push).
    pub fn push_batch<E>(
        &mut self,
        calls: u32,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        too_large: impl FnOnce() -> E,
    ) -> Result<(), E> {
        self.push(encode, too_large)?;
        if calls != 1 || self.more.as_ref().is_some_and(|more| !more.calls.is_empty()) {
            let before = self.count as usize - 1;
            let all = &mut self.more().calls;
            // Those before were one call each.
            all.resize(before, 1);
            all.push(calls);
        }
        Ok(())
    }

    /// Appends an item for each word.
    ///
    /// # Errors
    ///
    /// `too_many` beyond 2^32 items.
    pub fn push_words<E>(
        &mut self,
        words: impl IntoIterator<Item = Word>,
        too_many: impl FnOnce() -> E,
    ) -> Result<(), E> {
        let mut words = words.into_iter();
        self.expects_long = false;
        if words.size_hint().1 == Some(1) {
            // The case of `apply`, which needs no room for many.
            let Some(word) = words.next() else { return Ok(()) };
            if !self.mark(self.bytes.len()) {
                return Err(too_many());
            }
            let (record, len) = word.record();
            self.bytes.extend_from_slice(&record[..len]);
            self.count += 1;
            return Ok(());
        }
        loop {
            // As many at once as one mark is for, beside the vector: its length in memory would be
            // waited for with each.
            let (mut records, mut len, mut count) = ([0; MARKED as usize * MAX_WORD_RECORD], 0, 0);
            for word in words.by_ref().take((MARKED - self.count % MARKED) as usize) {
                let (record, of_it) = word.record();
                records[len..len + record.len()].copy_from_slice(&record);
                len += of_it;
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            if !self.mark(self.bytes.len()) {
                return Err(too_many());
            }
            self.bytes.extend_from_slice(&records[..len]);
            self.count += count;
        }
    }

    /// Gives the item that was begun at `start` a long header; `false` if it is too long for any.
    #[cold]
    fn lengthen(&mut self, start: usize, payload: usize, len: usize) -> bool {
        if u32::try_from(len).is_err() {
            return false;
        }
        let header = long_header(0, len);
        let missing = header.len() - (payload - start);
        if missing > 0 {
            // Rare: the item before was short, or this is the first.
            self.bytes.extend_from_slice(&header[..missing]);
            self.bytes.copy_within(payload..payload + len, payload + missing);
        }
        self.bytes[start..start + header.len()].copy_from_slice(&header);
        self.expects_long = len > SHORT;
        true
    }

    /// Before the item that is to begin at `start`; `false`: there can be no more.
    #[inline]
    fn mark(&mut self, start: usize) -> bool {
        if self.count.is_multiple_of(MARKED) {
            if self.count > u32::MAX - MARKED {
                return false;
            }
            if self.count > 0 {
                self.marks.push(start);
            }
        }
        true
    }

    /// Returns the beginning of item `index`, or for their number, the end of the last.
    pub(super) fn offset(&self, index: u32) -> usize {
        let mark = ((index / MARKED) as usize).min(self.marks.len());
        let from = mark.checked_sub(1).map_or(0, |mark| self.marks[mark]);
        let left = index - mark as u32 * MARKED;
        from + span(&self.bytes[from..], left).expect("items hold as many as they count")
    }

    /// Has the entry find this [state](super::Chunk::state) with each chunk.
    #[must_use]
    pub fn with_state(mut self, state: Option<State>) -> Items {
        if state.is_some() {
            self.more().state = state;
        }
        self
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The calls of each item, if they are not one each.
    pub(super) fn take_calls(&mut self) -> Option<Vec<u32>> {
        let mut calls = std::mem::take(&mut self.more.as_mut()?.calls);
        calls.resize(if calls.is_empty() { 0 } else { self.count as usize }, 1);
        (!calls.is_empty()).then_some(calls)
    }

    pub(super) fn take_handles(&mut self) -> Vec<OwnedFd> {
        self.more.as_mut().map_or_else(Vec::new, |more| std::mem::take(&mut more.handles))
    }

    pub(super) fn take_lent(&mut self) -> Vec<Lent> {
        self.more.as_mut().map_or_else(Vec::new, |more| std::mem::take(&mut more.lent))
    }

    pub(super) fn state(&self) -> Option<&State> {
        self.more.as_ref()?.state.as_ref()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use procession_shm::record;

    use super::*;

    #[test]
    fn items_of_every_length_are_found() {
        let lengths: Vec<usize> = (0..400).map(|index| [0, 3, 254, 255, 1000, 1][index * index % 11 % 6]).collect();
        let mut items = Items::default();
        for (index, len) in lengths.iter().enumerate() {
            let fill = |out: &mut Vec<u8>| {
                out.extend(std::iter::repeat_n(index as u8, *len));
                Ok::<_, ()>(())
            };
            items.push(fill, || ()).unwrap();
            assert_eq!(items.offset(items.count), items.bytes().len());
        }
        for (index, len) in lengths.iter().enumerate() {
            let mut rest = &items.bytes()[items.offset(index as u32)..];
            assert_eq!(record::take(&mut rest), Some((0, &vec![index as u8; *len][..])), "item {index}");
        }
    }

    #[test]
    fn words_are_items_like_others() {
        let words: Vec<u64> = (0..300).map(|index| u64::MAX >> (index % 65).min(63)).collect();
        let (mut at_once, mut singly) = (Items::default(), Items::default());
        for part in words.chunks(70) {
            let long = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[1; 1000]);
                Ok::<_, ()>(())
            };
            at_once.push(long, || ()).unwrap();
            singly.push(long, || ()).unwrap();
            at_once.push_words(part.iter().map(|word| Word(*word)), || ()).unwrap();
            for word in part {
                let copy = |out: &mut Vec<u8>| {
                    Word(*word).append(out);
                    Ok::<_, ()>(())
                };
                singly.push(copy, || ()).unwrap();
            }
        }
        assert_eq!(at_once.len(), words.len() + 5);
        let payloads = |items: &Items| -> Vec<Vec<u8>> {
            let each = (0..items.count).map(|index| &items.bytes()[items.offset(index)..]);
            each.map(|mut rest| record::take(&mut rest).unwrap().1.to_vec()).collect()
        };
        assert_eq!(payloads(&at_once), payloads(&singly));
        assert_eq!(at_once.offset(at_once.count), at_once.bytes().len());
    }

    #[test]
    fn an_item_is_one_call_unless_it_is_a_batch() {
        let (mut items, empty) = (Items::default(), |_: &mut Vec<u8>| Ok::<_, ()>(()));
        items.push_batch(1, empty, || ()).unwrap();
        assert_eq!(items.take_calls(), None);
        items.push_batch(5, empty, || ()).unwrap();
        items.push(empty, || ()).unwrap();
        assert_eq!(items.take_calls(), Some(vec![1, 5, 1]));
    }

    #[test]
    fn an_item_that_does_not_encode_leaves_no_trace() {
        let mut items = Items::default();
        let refused = items.push(
            |out| {
                out.push(1);
                Err("no")
            },
            || "too large",
        );
        assert_eq!(refused, Err("no"));
        assert!(items.is_empty() && items.bytes().is_empty());
    }
}
