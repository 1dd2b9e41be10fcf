//! The task handler: cuts a job into chunks and pushes them into the task ring. Runs in the thread
//! that submits.

use std::sync::Arc;
use std::time::Instant;

use super::chunk::ChunkEntry;
use super::frame::{Header, Kind};
use super::items::Items;
use super::job::{Job, Terms};
use super::lending::MAX_BYTES;
use super::outbox::ROOM_TIMEOUT;
use super::shared::Shared;
use super::state::State;
use super::trace;
use crate::{Error, Result};

// The number of bytes pushed before workers get a turn at the ring's lock.
const PUSH_BYTES: usize = 256 * 1024;
// Smaller jobs do not look for room, which would have them touch the workers' end of the ring.
const SMALL: usize = 1024;

impl Shared {
    /// `is_admitted`: the pool may be closed.
    pub(super) fn submit(
        self: &Arc<Self>,
        entry: ChunkEntry,
        mut items: Items,
        terms: Terms,
        is_admitted: bool,
    ) -> Result<Arc<Job>> {
        if !entry.is_portable() {
            return Err(Error::NotPortable);
        }
        let several;
        let sizes = match terms.chunk {
            Some(0) => return Err(Error::Invalid("a chunk needs at least one task, not 0".into())),
            // The case of `apply`: nothing to cut and nothing to allocate for it.
            _ if items.len() == 1 => &[1][..],
            Some(size) => {
                several = explicit_chunks(items.len(), size);
                &several
            }
            None => {
                several = guided_chunks(items.len(), self.crew.size());
                &several
            }
        };
        let check = || if is_admitted { self.lifecycle.check_serving() } else { self.lifecycle.check_open() };
        check()?;
        if items.is_empty() {
            return Ok(Arc::new(Job::finished()));
        }
        self.wait_for_room(items.bytes().len());
        let job = self.table.enter(sizes, terms, items.take_calls(), check)?;
        self.table.spans().keep(&job);
        if let Some(hashes) = self.intake.hash_arguments(entry.to_raw(), items.bytes()) {
            job.set_hashes(hashes);
        }
        let context = self.crew.capture_context();
        let has_context = context.is_some();
        let (handles, lent) = (items.take_handles(), items.take_lent());
        self.lending.lend(job.id, lent);
        let common = items.state().and_then(|state| state.handles.clone());
        let kept = self.broker.keep(job.id, handles, common, context);
        if let Err(error) = kept.and_then(|()| self.push_chunks(&job, entry, &items, sizes, has_context)) {
            // Chunks that are already in the ring are withdrawn.
            self.end_job(self.table.withdraw(&job));
            return Err(error);
        }
        job.set_queued();
        if job.is_cut_short() {
            // Tasks were queued since its end.
            self.withdraw(job.id);
        }
        trace::submitted(job.id, &job.span);
        self.stir();
        // A pool that was terminated or broke meanwhile may have missed this job.
        if let Err(error) = self.lifecycle.check_serving() {
            self.end_jobs(self.table.fail_all(&Arc::new(error)));
        }
        Ok(job)
    }

    /// Lets workers take what is queued, if it is much already. A caller that waits in vain goes
    /// on: slow tasks are no reason to refuse more, and the ring has room.
    fn wait_for_room(self: &Arc<Self>, bytes: usize) {
        let ring = self.control.tasks();
        // Numbers that make no sense are found again by the push.
        let has_room = || ring.bytes().map_or(true, |queued| queued == 0 || queued + bytes as u64 <= MAX_BYTES as u64);
        if bytes > SMALL && !has_room() {
            self.wait_until(has_room, Some(Instant::now() + ROOM_TIMEOUT));
        }
    }

    fn push_chunks(&self, job: &Job, entry: ChunkEntry, items: &Items, sizes: &[u32], has_context: bool) -> Result<()> {
        let is_limited = job.terms.timeout.is_some() || self.crew.limits().is_watched();
        let kind = if is_limited { Kind::Limited } else { Kind::Plain };
        let state = items.state().map_or(&[][..], State::section);
        let (mut chunk, mut first, mut start) = (0, 0, 0);
        // Its first tasks may fail while the others are queued.
        while chunk < sizes.len() && !job.is_cut_short() {
            let from = chunk;
            let mut pushed = 0;
            self.push_to_ring(|ring| {
                while chunk < sizes.len() && pushed < PUSH_BYTES {
                    let count = sizes[chunk];
                    let header = Header {
                        job: job.id,
                        entry: entry.to_raw(),
                        chunk: chunk as u32,
                        first,
                        count,
                        has_context,
                        kind,
                        state: state.len() as u32,
                    };
                    let end = items.offset(first + count);
                    ring.push(&[&header.encode(), state, &items.bytes()[start..end]])?;
                    (chunk, first, pushed) = (chunk + 1, first + count, pushed + state.len() + end - start);
                    start = end;
                }
                Ok(())
            })?;
            self.wake_for(chunk - from);
        }
        Ok(())
    }
}

/// Chunks of so many tasks, and one of what is left over.
pub fn explicit_chunks(tasks: usize, size: usize) -> Vec<u32> {
    let size = size.min(tasks.max(1));
    let mut sizes = vec![size as u32; tasks / size];
    if !tasks.is_multiple_of(size) {
        sizes.push((tasks % size) as u32);
    }
    sizes
}

/// Guided self-scheduling: each chunk is a share of what is left, so that the first are large (few
/// frames) and the last are single tasks (no worker waits long for a straggler).
pub fn guided_chunks(tasks: usize, workers: usize) -> Vec<u32> {
    const SHARES: usize = 8;
    let mut sizes = Vec::new();
    let mut left = tasks;
    while left > 0 {
        let size = left.div_ceil(SHARES * workers);
        sizes.push(size as u32);
        left -= size;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_chunks_are_honoured_to_the_letter() {
        assert_eq!(explicit_chunks(10, 4), [4, 4, 2]);
        assert_eq!(explicit_chunks(8, 4), [4, 4]);
        assert_eq!(explicit_chunks(3, 100), [3]);
        assert_eq!(explicit_chunks(0, 5), []);
    }

    #[test]
    fn guided_chunks_shrink_to_single_tasks_and_cover_all() {
        for (tasks, workers) in [(0, 1), (1, 4), (1000, 2), (1_000_000, 8)] {
            let sizes = guided_chunks(tasks, workers);
            assert_eq!(sizes.iter().map(|size| *size as usize).sum::<usize>(), tasks);
            assert!(sizes.is_sorted_by(|a, b| a >= b));
            assert!(tasks == 0 || sizes.last() == Some(&1));
        }
    }
}
