//! The frame of a chunk in the task ring: a header and the chunk's encoded arguments. Written by
//! the task handler, read by the worker that claims it, and by the worker handler when that worker
//! dies.

use procession_shm::record;

use crate::wire::Reader;

/// Set in the tag of the first result of a chunk: the payload begins with job, chunk and index.
pub(super) const FIRST: u32 = 1 << 31;
/// Set in the tag of a result with large buffers: the rest of the payload begins with their number
/// and their blocks.
pub(super) const BLOCKS: u32 = 1 << 30;

/// Set in the tag of a result of a worker that seals its results: the rest of the payload begins
/// with the seal.
pub(super) const SEALED: u32 = 1 << 29;

/// Beside a frame's kind: its job has a context.
const HAS_CONTEXT: u32 = 1 << (Header::KIND_BITS - 1);

/// The treatment that a worker gives the tasks of a frame.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    #[default]
    Plain,
    /// They have a time limit.
    Limited,
    /// Their worker had no memory for their arguments: why stands in the place of the items, and
    /// each is to end with that.
    Refused,
}

/// The header of a frame, which stands before its items.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The job's id in the table of jobs.
    pub(super) job: u64,
    /// The face's entry, as [`procession_sys::image::Entry::to_raw`] gives it.
    pub(super) entry: u64,
    /// The chunk's number in the job.
    pub(super) chunk: u32,
    /// The index in the job of the first item here.
    pub(super) first: u32,
    /// Items that follow.
    pub(super) count: u32,
    /// Its worker is to ask for the job's context.
    pub(super) has_context: bool,
    pub(super) kind: Kind,
    /// The number of bytes, before the items, that name the [state](super::state) of the job.
    pub(super) state: u32,
}

impl Header {
    const LEN: usize = 32;
    /// The lowest bits of the word that says the kind; the length of the state's section is above.
    const KIND_BITS: u32 = 4;

    pub(super) fn encode(&self) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        bytes[..8].copy_from_slice(&self.job.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.entry.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        let kind = self.kind as u32 | if self.has_context { HAS_CONTEXT } else { 0 };
        bytes[28..].copy_from_slice(&(self.state << Header::KIND_BITS | kind).to_le_bytes());
        bytes
    }

    /// Splits a frame into its header, the section of the job's state, and its items.
    pub(super) fn parse(frame: &[u8]) -> Option<(Header, &[u8], &[u8])> {
        let mut reader = Reader(frame);
        let (job, entry) = (reader.u64()?, reader.u64()?);
        let (chunk, first, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        first.checked_add(count)?;
        let kinds = [Kind::Plain, Kind::Limited, Kind::Refused];
        let word = reader.u32()?;
        let kind = word & ((1 << Header::KIND_BITS) - 1);
        let has_context = kind & HAS_CONTEXT != 0;
        let kind = *kinds.get((kind & !HAS_CONTEXT) as usize)?;
        let state = word >> Header::KIND_BITS;
        let (section, items) = reader.0.split_at_checked(state as usize)?;
        Some((Header { job, entry, chunk, first, count, has_context, kind, state }, section, items))
    }

    /// The frame in the place of one that begins like this, for which a worker has no memory.
    pub(super) fn refuse(beginning: &[u8], why: &str) -> Option<Vec<u8>> {
        let mut header = [0; Header::LEN];
        header.copy_from_slice(beginning.get(..Header::LEN)?);
        // The state's section may be cut off; neither it nor the context is needed.
        header[28..].copy_from_slice(&(Kind::Refused as u32).to_le_bytes());
        let (header, ..) = Header::parse(&header)?;
        Some([&header.encode()[..], why.as_bytes()].concat())
    }

    /// Returns whether each task of the frame has a stretch of its own.
    pub(super) fn is_limited(&self) -> bool {
        self.kind == Kind::Limited
    }

    /// The items behind the first `count`.
    pub(super) fn behind<'a>(&self, items: &'a [u8], count: u32) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Refused => Some(items),
            _ => Some(&items[span(items, count)?..]),
        }
    }
}

/// The task that a result is of: job, chunk, index. Before the first result of a chunk in a
/// worker's stream.
pub(super) struct Identity {
    pub(super) job: u64,
    pub(super) chunk: u32,
    pub(super) index: u32,
}

impl Identity {
    const LEN: usize = 16;

    pub(super) fn encode(&self) -> [u8; Identity::LEN] {
        let mut bytes = [0; Identity::LEN];
        bytes[..8].copy_from_slice(&self.job.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[12..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// Splits what a worker wrote into the identity and the result.
    pub(super) fn parse(record: &[u8]) -> Option<(Identity, &[u8])> {
        let mut reader = Reader(record);
        let identity = Identity { job: reader.u64()?, chunk: reader.u32()?, index: reader.u32()? };
        Some((identity, reader.0))
    }
}

/// The byte length of the first `count` items.
pub(super) fn span(items: &[u8], count: u32) -> Option<usize> {
    let mut rest = items;
    for _ in 0..count {
        record::take(&mut rest)?;
    }
    Some(items.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        let mut items = Vec::new();
        [&b"one"[..], b"", b"three"].iter().for_each(|item| record::append(&mut items, 0, item));
        let header = Header {
            job: 1 << 40,
            entry: u64::MAX,
            chunk: 3,
            first: 7,
            count: 3,
            has_context: true,
            kind: Kind::Limited,
            state: 5,
        };
        let frame = [&header.encode(), &b"state"[..], &items].concat();
        let (got, state, mut rest) = Header::parse(&frame).unwrap();
        assert_eq!((got, state), (header, &b"state"[..]));
        assert!(Header::parse(&frame[..Header::LEN + 4]).is_none(), "the state is cut off");
        assert_eq!(span(rest, 2), Some(1 + 3 + 1));
        for item in [&b"one"[..], b"", b"three"] {
            assert_eq!(record::take(&mut rest), Some((0, item)));
        }
        assert_eq!(record::take(&mut rest), None);
    }

    #[test]
    fn a_refused_frame_has_the_same_tasks_and_says_why() {
        let kind = Kind::Limited;
        let header = Header { job: 5, entry: 6, chunk: 3, first: 7, count: 3, has_context: true, kind, state: 40 };
        let whole = [&header.encode()[..], &[9; 100]].concat();
        let frame = Header::refuse(&whole[..64], "no memory").unwrap();
        let (refused, _, why) = Header::parse(&frame).unwrap();
        let refusal = Header { kind: Kind::Refused, has_context: false, state: 0, ..header };
        assert_eq!((refused, why), (refusal, &b"no memory"[..]));
        assert_eq!(refused.behind(why, 2), Some(why), "it holds for the rest, too");
        assert_eq!(Header::refuse(&whole[..20], "no memory"), None);
    }
}
