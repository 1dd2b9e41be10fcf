//! Seals: how the parent of a pool that does not trust its workers tells the results of a task from
//! everything else that may be in a stream. Made in the parent, which gives each worker the two
//! keys in its spawn message; used in the worker for each result, and in the parent for each that
//! arrives.
//!
//! A seal covers the task (job, chunk, index), the function, the bytes of the argument that the
//! worker has read, and the outcome. The parent compares it with its own record of what it has
//! sent. So what overwrites a result, an argument or the function's number is found, whoever does
//! it:
//!
//! | key | known to | a worker that has it can |
//! |---|---|---|
//! | of arguments | the pool | not change what the parent has noted of each argument |
//! | of results | the parent and the worker of one slot, anew for each worker | answer as itself |
//!
//! Large buffers that travel beside a value are not covered.

// The only SipHash of the standard library that takes a key. It is deprecated in favour of hash
// tables' own.
#![allow(deprecated)]

use std::hash::{Hasher, SipHasher};
use std::io;

use procession_sys::random;

use crate::wire::{Reader, Writer};

/// The keys of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    arguments: Key,
    results: Key,
}

/// Random, and in nobody's shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; 2]);

/// The parts of a result that its seal covers, beside the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) job: u64,
    pub(super) chunk: u32,
    pub(super) index: u32,
    /// Of its argument; [`UNREAD`] if its worker has not read that.
    pub(super) argument: u64,
    pub(super) tag: u32,
}

/// In the place of an argument's hash, for a task that ends with an error before it begins.
pub(super) const UNREAD: u64 = 0;

impl Key {
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub(super) fn new() -> io::Result<Key> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes)?;
        let halves = u128::from_le_bytes(bytes);
        Ok(Key([halves as u64, (halves >> 64) as u64]))
    }

    /// Returns the hash of an argument and the function that is to have it.
    pub(super) fn argument(self, entry: u64, argument: &[u8]) -> u64 {
        let mut hasher = self.hasher();
        hasher.write_u64(entry);
        hasher.write(argument);
        // None is that of an argument that was not read.
        hasher.finish().max(UNREAD + 1)
    }

    fn hasher(self) -> SipHasher {
        SipHasher::new_with_keys(self.0[0], self.0[1])
    }
}

impl Seal {
    /// A new worker's, in a pool with this key of arguments.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub(super) fn new(arguments: Key) -> io::Result<Seal> {
        Ok(Seal { arguments, results: Key::new()? })
    }

    /// See [`Key::argument`].
    pub(super) fn argument(&self, entry: u64, argument: &[u8]) -> u64 {
        self.arguments.argument(entry, argument)
    }

    /// Returns the seal of an outcome, whose payload is these parts.
    pub(super) fn result(&self, sealed: Sealed, payload: &[&[u8]]) -> u64 {
        let mut hasher = self.results.hasher();
        hasher.write_u64(sealed.job);
        hasher.write_u64(u64::from(sealed.chunk) << 32 | u64::from(sealed.index));
        hasher.write_u64(sealed.argument);
        hasher.write_u32(sealed.tag);
        payload.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }

    pub(super) fn write(self, writer: Writer) -> Writer {
        [self.arguments.0, self.results.0].concat().into_iter().fold(writer, Writer::u64)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Seal> {
        let mut key = || Some(Key([reader.u64()?, reader.u64()?]));
        Some(Seal { arguments: key()?, results: key()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_is_of_one_result_alone() {
        let key = Key::new().unwrap();
        let (seal, other) = (Seal::new(key).unwrap(), Seal::new(key).unwrap());
        let sealed = Sealed { job: 1, chunk: 2, index: 3, argument: seal.argument(7, b"argument"), tag: 0 };
        let right = seal.result(sealed, &[b"pay", b"load"]);
        assert_eq!(seal.result(sealed, &[b"payload"]), right);
        let others = [
            seal.result(Sealed { job: 2, ..sealed }, &[b"payload"]),
            seal.result(Sealed { chunk: 3, index: 2, ..sealed }, &[b"payload"]),
            seal.result(Sealed { argument: other.argument(7, b"argumenu"), ..sealed }, &[b"payload"]),
            seal.result(Sealed { argument: other.argument(8, b"argument"), ..sealed }, &[b"payload"]),
            seal.result(Sealed { tag: 1, ..sealed }, &[b"payload"]),
            seal.result(sealed, &[b"payloae"]),
            other.result(sealed, &[b"payload"]),
        ];
        assert!(!others.contains(&right));
        let bytes = seal.write(Writer::default()).0;
        let copy = Seal::read(&mut Reader(&bytes)).unwrap();
        assert_eq!(copy.result(sealed, &[b"payload"]), right);
    }
}
