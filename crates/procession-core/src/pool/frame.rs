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

/// How a worker treats the tasks of a frame.
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

/// What a frame says before its items.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The job's id in the table of jobs.
    pub(super) job: u64,
    /// The face's entry, as [`procession_sys::image::Entry::to_raw`] gives it.
    pub(super) entry: u64,
    /// Which chunk of the job.
    pub(super) chunk: u32,
    /// The index in the job of the first item here.
    pub(super) first: u32,
    /// Items that follow.
    pub(super) count: u32,
    pub(super) kind: Kind,
}

impl Header {
    const LEN: usize = 32;

    pub(super) fn encode(&self) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        bytes[..8].copy_from_slice(&self.job.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.entry.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        bytes[28..].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes
    }

    /// Splits a frame into its header and its items.
    pub(super) fn parse(frame: &[u8]) -> Option<(Header, &[u8])> {
        let mut reader = Reader(frame);
        let (job, entry) = (reader.u64()?, reader.u64()?);
        let (chunk, first, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        first.checked_add(count)?;
        let kinds = [Kind::Plain, Kind::Limited, Kind::Refused];
        let kind = *kinds.get(reader.u32()? as usize)?;
        Some((Header { job, entry, chunk, first, count, kind }, reader.0))
    }

    /// The frame in the place of one that begins like this, for which a worker has no memory.
    pub(super) fn refuse(beginning: &[u8], why: &str) -> Option<Vec<u8>> {
        let (header, _) = Header::parse(beginning)?;
        Some([&Header { kind: Kind::Refused, ..header }.encode()[..], why.as_bytes()].concat())
    }

    /// Whether each of its tasks has a stretch of its own.
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

/// Which task a result is of: job, chunk, index. Before the first result of a chunk in a worker's
/// stream.
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
        let header = Header { job: 1 << 40, entry: u64::MAX, chunk: 3, first: 7, count: 3, kind: Kind::Limited };
        let frame = [&header.encode(), &items[..]].concat();
        let (got, mut rest) = Header::parse(&frame).unwrap();
        assert_eq!(got, header);
        assert_eq!(span(rest, 2), Some(1 + 3 + 1));
        for item in [&b"one"[..], b"", b"three"] {
            assert_eq!(record::take(&mut rest), Some((0, item)));
        }
        assert_eq!(record::take(&mut rest), None);
    }

    #[test]
    fn a_refused_frame_has_the_same_tasks_and_says_why() {
        let header = Header { job: 5, entry: 6, chunk: 3, first: 7, count: 3, kind: Kind::Limited };
        let whole = [&header.encode()[..], &[9; 100]].concat();
        let frame = Header::refuse(&whole[..64], "no memory").unwrap();
        let (refused, why) = Header::parse(&frame).unwrap();
        assert_eq!((refused, why), (Header { kind: Kind::Refused, ..header }, &b"no memory"[..]));
        assert_eq!(refused.behind(why, 2), Some(why), "it holds for the rest, too");
        assert_eq!(Header::refuse(&whole[..20], "no memory"), None);
    }
}
