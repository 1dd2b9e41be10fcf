//! The form of records: how arguments stand in a frame, and results in a stream and in their job.
//! Most are short values of tag 0, whose length is one byte:
//!
//! ```text
//! short   length (1 byte, 0 to 254) | payload                       tag 0
//! long    255 | length (u32) | tag (u32) | payload                  any tag
//! ```
//!
//! So a run of short values is copied from place to place as it is, and counted by one byte each.

/// The longest short payload.
pub const SHORT: usize = 254;

/// Begins a long record.
const LONG: u8 = 255;
/// Bytes of a long record before its payload.
pub(crate) const LONG_HEADER: usize = 9;

/// The longest record of a word.
pub const MAX_WORD_RECORD: usize = 9;

/// A payload that is a word: its bytes without the zeros at the end, the lowest first. As a word it
/// stays in a register from the value to the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub u64);

impl Word {
    /// Returns the word of these bytes; `None` if there are too many.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Word> {
        let wide = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        Some(Word(match (payload.first_chunk(), payload.last_chunk(), payload) {
            // Two loads that overlap, because no one load has this many bytes.
            (Some(low), Some(high), _) if payload.len() <= 8 => wide(low) | wide(high) << (8 * (payload.len() - 4)),
            (None, None, [a, b, c]) => wide(&[*a, *b, *c, 0]),
            (None, None, [a, b]) => wide(&[*a, *b, 0, 0]),
            (None, None, [a]) => u64::from(*a),
            (None, None, []) => 0,
            _ => return None,
        }))
    }

    /// Appends the payload.
    #[inline]
    pub fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
        out.truncate(out.len() - (8 - self.len()));
    }

    /// Returns the record, and how many of its bytes count.
    #[inline]
    pub fn record(self) -> ([u8; MAX_WORD_RECORD], usize) {
        let len = self.len();
        let mut record = [len as u8; MAX_WORD_RECORD];
        record[1..].copy_from_slice(&self.0.to_le_bytes());
        (record, 1 + len)
    }

    #[inline]
    fn len(self) -> usize {
        8 - self.0.leading_zeros() as usize / 8
    }
}

/// Returns what stands before the payload of a long record.
///
/// # Panics
///
/// If the length is no `u32`.
#[inline]
pub fn long_header(tag: u32, len: usize) -> [u8; LONG_HEADER] {
    let len = u32::try_from(len).expect("a record's length is a u32");
    let word = u64::from(tag) << 32 | u64::from(len);
    let mut header = [LONG; LONG_HEADER];
    header[1..].copy_from_slice(&word.to_le_bytes());
    header
}

/// Appends a record.
///
/// # Panics
///
/// If the payload's length is no `u32`.
#[inline]
pub fn append(out: &mut Vec<u8>, tag: u32, payload: &[u8]) {
    if tag == 0 && payload.len() <= SHORT {
        out.push(payload.len() as u8);
    } else {
        out.extend_from_slice(&long_header(tag, payload.len()));
    }
    out.extend_from_slice(payload);
}

/// Takes the first record off `bytes` and returns its tag and payload. Returns `None` if it is not
/// there whole.
#[inline]
pub fn take<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first == LONG {
        return take_long(bytes);
    }
    let (payload, rest) = rest.split_at_checked(first.into())?;
    *bytes = rest;
    Some((0, payload))
}

#[cold]
fn take_long<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (header, rest) = bytes.split_first_chunk()?;
    let (tag, len) = parse_long(header);
    let (payload, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some((tag, payload))
}

/// Returns how many whole short values `bytes` begins with, and how many bytes they take.
#[inline]
pub(crate) fn short_run(bytes: &[u8]) -> (u32, usize) {
    let (mut count, mut end) = (0, 0);
    while let Some(&len) = bytes.get(end)
        && len != LONG
    {
        let stride = 1 + usize::from(len);
        if are_alike(&bytes[end..], len, stride) {
            end += ALIKE * stride;
            count += ALIKE as u32;
        } else if end + stride <= bytes.len() {
            end += stride;
            count += 1;
        } else {
            break;
        }
    }
    (count, end)
}

/// The number of records of one length that are looked for together.
const ALIKE: usize = 8;

/// Returns whether `bytes` begins with `ALIKE` records of this length. The processor need not wait
/// for one of them to find the next.
#[inline]
fn are_alike(bytes: &[u8], len: u8, stride: usize) -> bool {
    bytes.len() >= ALIKE * stride && (1..ALIKE).all(|record| bytes[record * stride] == len)
}

/// Returns how many bytes the first record of `bytes` takes. If too few are there to tell, returns
/// how many are needed to tell, which is more than `bytes` has.
pub(crate) fn whole(bytes: &[u8]) -> usize {
    match bytes.first() {
        None => 1,
        Some(&LONG) => bytes.first_chunk().map_or(LONG_HEADER, |header| LONG_HEADER + parse_long(header).1),
        Some(&len) => 1 + usize::from(len),
    }
}

fn parse_long(header: &[u8; LONG_HEADER]) -> (u32, usize) {
    let [_, word @ ..] = *header;
    let word = u64::from_le_bytes(word);
    ((word >> 32) as u32, word as u32 as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_a_short_one_costs_a_byte() {
        let records =
            [(0, vec![]), (0, vec![1; 3]), (7, vec![]), (0, vec![2; 254]), (0, vec![3; 255]), (9, vec![4; 70_000])];
        let mut bytes = Vec::new();
        records.iter().for_each(|(tag, payload)| append(&mut bytes, *tag, payload));
        assert_eq!(bytes.len(), 1 + 4 + 9 + 255 + 9 + 255 + 9 + 70_000);
        let mut rest = &bytes[..];
        for (tag, payload) in &records {
            assert_eq!(whole(rest), if *tag == 0 && payload.len() < 255 { 1 } else { 9 } + payload.len());
            assert_eq!(take(&mut rest), Some((*tag, &payload[..])));
        }
        assert_eq!(take(&mut rest), None);
    }

    #[test]
    fn words_come_back_and_their_high_zeros_do_not_travel() {
        for shift in 0..64 {
            for word in [1 << shift, (1 << shift) - 1, u64::MAX << shift, 0x8182_8384_8586_8788 >> shift] {
                let mut payload = vec![];
                Word(word).append(&mut payload);
                assert_eq!(payload.len(), (64 - word.leading_zeros()).div_ceil(8) as usize, "{word:x}");
                assert_eq!(Word::parse(&payload), Some(Word(word)));
                let (record, len) = Word(word).record();
                assert_eq!(take(&mut &record[..len]), Some((0, &payload[..])));
            }
        }
        assert_eq!(Word::parse(&[0; 9]), None);
    }

    #[test]
    fn a_run_of_short_values_ends_at_what_is_long_or_cut_off() {
        let mut bytes = Vec::new();
        for payload in [&b"one"[..], b"", b"three"] {
            append(&mut bytes, 0, payload);
        }
        assert_eq!(short_run(&bytes), (3, 11));
        assert_eq!(short_run(&bytes[..10]), (2, 5));
        append(&mut bytes, 1, b"x");
        assert_eq!(short_run(&bytes), (3, 11));
        for lengths in [[3; 40], std::array::from_fn(|at| [3, 3, 3, 3, 3, 3, 3, 3, 3, 2][at % 10]), [0; 40]] {
            let mut alike = Vec::new();
            lengths.iter().for_each(|&len| append(&mut alike, 0, &[9; 3][..len]));
            let whole = lengths.iter().map(|len| 1 + len).sum();
            assert_eq!(short_run(&alike), (40, whole), "{lengths:?}");
            for cut in 1..=lengths[39] {
                assert_eq!(short_run(&alike[..whole - cut]), (39, whole - 1 - lengths[39]));
            }
        }
        for cut in 0..9 {
            let mut part = &bytes[11..11 + cut];
            assert!(whole(part) > cut && take(&mut part).is_none());
        }
    }
}
