//! Records: messages that code of a child sends to its parent beside its tasks' results, such as
//! log records. The parent gets each whole and in order, also those that a child has sent before it
//! was killed. A face says what is in them.
//!
//! They go over a pipe of their own, which the collector reads with the child's streams. A child
//! waits while the pipe is full.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use procession_sys::image::{BuildId, Entry};
use procession_sys::per_process::PerProcess;
use procession_sys::stdio;

use super::Source;

/// The longest record.
pub const MAX_RECORD: usize = 1 << 20;
/// Before each record stands its length.
const HEADER: usize = 4;

/// The settings for the records of a pool or process.
#[derive(Clone)]
pub struct Records {
    /// Called in each child with the argument, before any code of a user runs there: to have such
    /// code [send] records.
    pub begin: Entry,
    /// In whatever form the function takes.
    pub argument: Vec<u8>,
    /// Called in the parent with each record, one at a time. As the callback of an
    /// [`Output`](super::Output).
    pub callback: Arc<RecordCallback>,
    /// Called in the parent once no more records of a child come.
    pub ended: Option<Arc<EndCallback>>,
}

/// The callback that gets records; see [`Records::callback`].
pub type RecordCallback = dyn Fn(&Source, &[u8], &Scope) + Send + Sync;

/// The callback that learns that no more records of a child come; see [`Records::ended`].
pub type EndCallback = dyn Fn(&Source) + Send + Sync;

/// Runs code in the scope of a job of the pool whose worker has sent a record: in the job's span.
pub type Scope = dyn Fn(u64, &mut dyn FnMut()) + Send + Sync;

/// The child's part: the end of the pipe, and what is called in the child.
#[derive(Debug)]
pub struct Recording {
    pub(crate) pipe: OwnedFd,
    pub(crate) begin: Entry,
    pub(crate) argument: Vec<u8>,
}

/// This process's end of the pipe to its parent. A forked child has none.
fn own_end() -> &'static OnceLock<Mutex<OwnedFd>> {
    static PIPE: PerProcess<OnceLock<Mutex<OwnedFd>>> = PerProcess::new(OnceLock::new);
    PIPE.get()
}

/// Returns whether this process's parent wants records.
pub fn are_wanted() -> bool {
    own_end().get().is_some()
}

/// Sends a record to this process's parent, if it wants records.
///
/// # Errors
///
/// `InvalidInput` if it is longer than [`MAX_RECORD`]; if the parent is gone.
pub fn send(record: &[u8]) -> io::Result<()> {
    let Some(pipe) = own_end().get() else { return Ok(()) };
    if record.len() > MAX_RECORD {
        let text = format!("a record of {} bytes, and one may have {MAX_RECORD}", record.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let message = [&(record.len() as u32).to_le_bytes()[..], record].concat();
    // Of several threads one after the other.
    stdio::write_all(pipe.lock().unwrap_or_else(PoisonError::into_inner).as_fd(), &message)
}

impl Recording {
    /// With the end of the pipe that a child has got, and what is called there.
    pub fn new(pipe: OwnedFd, begin: Entry, argument: Vec<u8>) -> Recording {
        Recording { pipe, begin, argument }
    }

    /// The child's end of the pipe.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// The argument of what is called in the child.
    pub fn argument(&self) -> &[u8] {
        &self.argument
    }

    /// In the child: puts its end in place, and calls what is to be called.
    ///
    /// # Errors
    ///
    /// If the function is not in this program's code.
    pub(crate) fn install(self) -> io::Result<()> {
        let function = BuildId::current().same_image().and_then(|proof| self.begin.resolve(proof));
        let function =
            function.ok_or_else(|| io::Error::other("what sends its records is not in this program's code"))?;
        // The first and only time in this process.
        let _ = own_end().set(Mutex::new(self.pipe));
        function(&self.argument, &mut Vec::new());
        Ok(())
    }
}

/// Cuts the bytes of a pipe into records. Used by the collector's thread.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    rest: Vec<u8>,
}

impl Cutter {
    /// Adds what has come. Calls `take` with each record. `false`: this is nothing that [`send`]
    /// sends, and no more is to be read.
    pub(super) fn add(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> bool {
        self.rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(header) = self.rest[begin..].first_chunk::<HEADER>() {
            let len = u32::from_le_bytes(*header) as usize;
            if len > MAX_RECORD {
                return false;
            }
            let Some(record) = self.rest.get(begin + HEADER..begin + HEADER + len) else { break };
            take(record);
            begin += HEADER + len;
        }
        self.rest.drain(..begin);
        true
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("begin", &self.begin).finish_non_exhaustive()
    }
}

/// See [`crate::fuzzing`].
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::{Cutter, MAX_RECORD};

    /// Reads any bytes as a pipe of records, and as a pipe of lines.
    ///
    /// Of the input: how many bytes come at once; the bytes.
    pub fn records(data: &[u8]) {
        let Some((piece, bytes)) = data.split_first() else { return };
        let piece = usize::from(*piece) + 1;
        let (mut cutter, mut lines) = (Cutter::default(), crate::output::lines::Lines::default());
        let (mut of_records, mut of_lines) = (0, 0);
        let mut goes_on = true;
        for bytes in bytes.chunks(piece) {
            let take = |record: &[u8]| {
                assert!(record.len() <= MAX_RECORD);
                of_records += record.len() + 4;
            };
            goes_on = goes_on && cutter.add(bytes, take);
            lines.add(bytes, |line, is_whole| of_lines += line.len() + usize::from(is_whole));
        }
        lines.finish(|line, _| of_lines += line.len());
        assert!(of_records <= bytes.len());
        assert_eq!(of_lines, bytes.len(), "each byte is a line's or its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_however_they_come() {
        let sent: Vec<Vec<u8>> = (0..20).map(|len| vec![len; usize::from(len) * 7]).collect();
        let bytes: Vec<u8> =
            sent.iter().flat_map(|one| [&(one.len() as u32).to_le_bytes()[..], one].concat()).collect();
        for piece in [1, 3, 50, bytes.len()] {
            let (mut cutter, mut got) = (Cutter::default(), Vec::new());
            assert!(bytes.chunks(piece).all(|piece| cutter.add(piece, |record| got.push(record.to_vec()))));
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn length_beyond_the_limit_ends_it() {
        let mut cutter = Cutter::default();
        assert!(!cutter.add(&(MAX_RECORD as u32 + 1).to_le_bytes(), |_| unreachable!("there is no record")));
    }
}
