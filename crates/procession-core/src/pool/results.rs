//! The results of a chunk's tasks: on their way into the job, in it, and as they are read. In the
//! parent.

use procession_shm::record;

use crate::outcome::tag;

/// Consecutive tasks of a job. A chunk is run by one worker at a time, in order, so its results
/// arrive in order.
#[derive(Clone, Default, Debug)]
pub(super) struct ChunkResults {
    /// Index of the first task.
    pub(super) first: u32,
    /// Index of the first task not yet accounted for.
    pub(super) next: u32,
    /// One past the last task.
    pub(super) end: u32,
    /// For each task accounted for, its outcome, in the form of [`record`].
    pub(super) records: Vec<u8>,
}

/// The results so far of a job, for one who passes them on.
#[derive(Debug)]
pub struct Arrived {
    /// In the form of [`record`].
    pub records: Vec<u8>,
    /// Their number.
    pub count: u32,
    /// A task was lost: there are no more.
    pub is_lost: bool,
}

impl Arrived {
    /// The results in these records, up to the first of a task that was lost.
    pub(super) fn of(records: &[u8]) -> Arrived {
        let (mut rest, mut count) = (records, 0);
        loop {
            let len = records.len() - rest.len();
            let next = record::take(&mut rest);
            let is_lost = next.is_some_and(|(tag, _)| tag == tag::LOST || tag == tag::TIMED_OUT);
            if next.is_none() || is_lost {
                return Arrived { records: records[..len].to_vec(), count, is_lost };
            }
            count += 1;
        }
    }
}

/// Values that have arrived for consecutive tasks of a chunk, on their way into the job: one lock
/// for all.
#[derive(Default, Debug)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) records: Vec<u8>,
}

impl Run {
    /// Adds the values of `count` tasks, from `first` on, which is the next.
    #[inline]
    pub(super) fn extend(&mut self, first: u32, count: u32, records: &[u8]) {
        if self.count == 0 {
            self.first = first;
        }
        self.count += count;
        self.records.extend_from_slice(records);
    }

    /// Adds the value of task `index`, which is the next.
    #[inline]
    pub(super) fn add(&mut self, index: u32, payload: &[u8]) {
        self.extend(index, 1, &[]);
        record::append(&mut self.records, tag::VALUE, payload);
    }
}

impl ChunkResults {
    /// Returns whether `count` tasks from `first` on are the chunk's next.
    pub(super) fn takes(&self, first: u32, count: u32) -> bool {
        first == self.next && count <= self.end - self.next
    }

    pub(super) fn is_complete(&self) -> bool {
        self.next == self.end
    }

    /// Its results, in order.
    pub(super) fn results(&self) -> Results<'_> {
        Results { index: self.first as usize, records: &self.records }
    }
}

/// Results of consecutive tasks of a job: of each its index, its tag (see [`crate::outcome::tag`])
/// and its payload.
#[derive(Clone, Debug)]
pub struct Results<'a> {
    index: usize,
    records: &'a [u8],
}

impl<'a> Iterator for Results<'a> {
    type Item = (usize, u32, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(usize, u32, &'a [u8])> {
        let (tag, payload) = record::take(&mut self.records)?;
        self.index += 1;
        Some((self.index - 1, tag, payload))
    }
}
