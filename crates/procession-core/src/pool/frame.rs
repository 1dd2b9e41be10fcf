//! The frame of a chunk in the task ring: a header and the chunk's encoded arguments. Written by the task handler, read
//! by the worker that claims it, and by the worker handler when that worker dies.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Shared;
use super::blocks::{self, Lent};
use crate::handle;
use crate::wire::Reader;

/// What a frame says before its items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

impl Header {
    const LEN: usize = 28;

    pub(super) fn encode(&self) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        bytes[..8].copy_from_slice(&self.job.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.entry.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// Splits a frame into its header and its items.
    pub(super) fn parse(frame: &[u8]) -> Option<(Header, &[u8])> {
        let mut reader = Reader(frame);
        let (job, entry) = (reader.u64()?, reader.u64()?);
        let (chunk, first, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        first.checked_add(count)?;
        Some((Header { job, entry, chunk, first, count }, reader.0))
    }
}

/// Encoded arguments of a job, one behind the other, each with its length before it.
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    count: u32,
    /// Of the handles in the arguments.
    handles: Vec<OwnedFd>,
    /// Their large buffers.
    lent: Vec<Lent>,
}

impl Items {
    /// Room for about so many small items.
    pub fn with_capacity(items: usize) -> Items {
        Items { bytes: Vec::with_capacity(items.min(1 << 20) * 16), ..Items::default() }
    }

    /// So many as `encode` pushes, whose arguments may hold handles and large buffers.
    pub(super) fn encoded<E>(
        pool: &Arc<Shared>,
        capacity: usize,
        encode: impl FnOnce(&mut Items) -> Result<(), E>,
    ) -> Result<Items, E> {
        let mut all = Items::with_capacity(capacity);
        let ((encoded, handles), lent) =
            blocks::submitting(pool, || handle::sending(u32::MAX as usize, || encode(&mut all)));
        encoded.map(|()| Items { handles, lent, ..all })
    }

    /// Appends what `encode` writes as one item. An error leaves the items as they were.
    ///
    /// # Errors
    ///
    /// The error of `encode`, or `too_large` beyond 4 GiB for one item or 2^32 items.
    pub fn push<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        too_large: impl FnOnce() -> E,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let encoded = encode(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - start - 4);
        match (encoded, len, self.count.checked_add(1)) {
            (Ok(()), Ok(len), Some(count)) => {
                self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
                self.count = count;
                Ok(())
            }
            (encoded, ..) => {
                self.bytes.truncate(start);
                Err(encoded.err().unwrap_or_else(too_large))
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn take_handles(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.handles)
    }

    pub(super) fn take_lent(&mut self) -> Vec<Lent> {
        std::mem::take(&mut self.lent)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Which task a result is of: job, chunk, index. Before the first result of a chunk in a worker's stream.
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

/// Takes the next item off `items`.
#[inline]
pub(super) fn next_item<'a>(items: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut reader = Reader(items);
    let item = reader.bytes()?;
    *items = reader.0;
    Some(item)
}

/// The byte length of the first `count` items.
pub(super) fn span(items: &[u8], count: u32) -> Option<usize> {
    let mut rest = items;
    for _ in 0..count {
        next_item(&mut rest)?;
    }
    Some(items.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        let mut items = Items::default();
        for item in [&b"one"[..], b"", b"three"] {
            let copy = |out: &mut Vec<u8>| {
                out.extend_from_slice(item);
                Ok(())
            };
            items.push(copy, || "too large").unwrap();
        }
        let header = Header { job: 1 << 40, entry: u64::MAX, chunk: 3, first: 7, count: 3 };
        let frame = [&header.encode(), items.bytes()].concat();
        let (got, mut rest) = Header::parse(&frame).unwrap();
        assert_eq!(got, header);
        assert_eq!(span(rest, 2), Some(4 + 3 + 4));
        assert_eq!(next_item(&mut rest), Some(&b"one"[..]));
        assert_eq!(next_item(&mut rest), Some(&b""[..]));
        assert_eq!(next_item(&mut rest), Some(&b"three"[..]));
        assert_eq!(next_item(&mut rest), None);
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
