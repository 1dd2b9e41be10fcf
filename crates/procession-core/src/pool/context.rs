//! The context of a job: bytes that go beside it from the code that submits it to each worker that
//! runs tasks of it, such as a W3C trace context. A face says what is in them, and has them put in
//! place around the tasks.
//!
//! The parent keeps the bytes until the job is over. A frame only says that there are some; a
//! worker asks the handle broker for them, once for each job. So they cost a job without them
//! nothing.

use std::fmt;
use std::sync::Arc;

use procession_sys::image::{BuildId, Entry, EntryFn};

use super::handle_broker::Asker;
use crate::wire::{Reader, Writer};

/// The most bytes of one job.
const MAX_LEN: usize = 16 * 1024;

/// The functions by which a pool's jobs get their contexts.
#[derive(Clone)]
pub struct Propagation {
    /// Called in the thread that submits a job; `None` and what is longer than 16 KiB is none.
    pub inject: Arc<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// Called in the worker with the bytes, before tasks of the job, and with none after them.
    pub extract: Entry,
}

impl Propagation {
    /// The context of a job that this thread submits, as workers get it.
    pub(super) fn capture(&self) -> Option<Vec<u8>> {
        let bytes = (self.inject)().filter(|bytes| bytes.len() <= MAX_LEN)?;
        let mut message = Writer::default().u64(self.extract.to_raw()).0;
        message.extend_from_slice(&bytes);
        Some(message)
    }
}

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Propagation").field("extract", &self.extract).finish_non_exhaustive()
    }
}

/// In the worker: the context of the job whose task ran last.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    job: u64,
    /// `None`: the job was over before it could be asked for, and nobody wants its results.
    known: Option<(EntryFn, Vec<u8>)>,
}

impl Contexts {
    /// Runs tasks of the job in its context.
    pub(super) fn within(&mut self, job: u64, asker: &Asker, run: impl FnOnce()) {
        if self.job != job {
            *self = Contexts { job, known: asker.context(job).and_then(|message| parse(&message)) };
        }
        let Some((extract, bytes)) = &self.known else { return run() };
        extract(bytes, &mut Vec::new());
        run();
        extract(&[], &mut Vec::new());
    }
}

fn parse(message: &[u8]) -> Option<(EntryFn, Vec<u8>)> {
    let mut reader = Reader(message);
    let extract = Entry::from_raw(reader.u64()?);
    let proof = BuildId::current().same_image()?;
    Some((extract.resolve(proof)?, reader.0.to_vec()))
}
