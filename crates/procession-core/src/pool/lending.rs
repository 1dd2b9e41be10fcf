//! The large buffers of arguments: blocks in the parent's area, each lent to a job until the job is
//! over and no worker has the block. In the parent, in any thread.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_shm::{Allocator, BlockId, Control};

/// The most bytes of arguments, in blocks and as much again in the ring. A thread that submits more
/// waits for tasks to finish.
pub(super) const MAX_BYTES: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Lending(Mutex<Arguments>);

#[derive(Debug)]
struct Arguments {
    allocator: Allocator,
    /// Blocks of jobs that are over, which workers still had.
    lingering: Vec<BlockId>,
    /// The blocks lent to jobs that are not over.
    jobs: HashMap<u64, Vec<BlockId>>,
}

/// A block that is being submitted. It is free once this is dropped and no worker has it, unless a
/// job has been [lent](Lending::lend) it.
#[derive(Debug)]
pub(super) struct Lent {
    lending: Arc<Lending>,
    block: Option<BlockId>,
}

impl Lending {
    pub(super) fn new(control: &Control) -> io::Result<Lending> {
        let allocator = Allocator::new(control.arguments().clone())?;
        Ok(Lending(Mutex::new(Arguments { allocator, lingering: Vec::new(), jobs: HashMap::new() })))
    }

    /// Returns whether this many bytes may be lent now. They may if nothing else is lent.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let mut arguments = self.arguments();
        arguments.sweep();
        arguments.jobs.is_empty() || arguments.allocator.in_use() + bytes <= MAX_BYTES
    }

    /// A block with these bytes; `None` if there is no room for it.
    pub(super) fn fill_block(self: &Arc<Self>, bytes: &[u8]) -> Option<Lent> {
        let block = self.arguments().allocator.allocate(bytes)?;
        Some(Lent { lending: self.clone(), block: Some(block) })
    }

    /// Lends blocks to a job until it is over.
    pub(super) fn lend(&self, job: u64, lent: Vec<Lent>) {
        let blocks: Vec<_> = lent.into_iter().filter_map(|mut lent| lent.block.take()).collect();
        if !blocks.is_empty() {
            self.arguments().jobs.insert(job, blocks);
        }
    }

    /// Takes back what a job was lent that is over.
    pub(super) fn take_back(&self, job: u64) {
        let mut arguments = self.arguments();
        for block in arguments.jobs.remove(&job).unwrap_or_default() {
            arguments.free(block);
        }
    }

    /// Frees the blocks of jobs that are over which no worker has any more.
    pub(super) fn sweep(&self) {
        self.arguments().sweep();
    }

    /// Gives memory back that is kept for the next blocks.
    pub(super) fn trim(&self) {
        let mut arguments = self.arguments();
        arguments.sweep();
        // Refused it stays in use, as before.
        let _ = arguments.allocator.trim();
    }

    fn arguments(&self) -> MutexGuard<'_, Arguments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arguments {
    fn free(&mut self, block: BlockId) {
        if !self.allocator.free(block) {
            self.lingering.push(block);
        }
    }

    fn sweep(&mut self) {
        let Arguments { allocator, lingering, .. } = self;
        lingering.retain(|block| !allocator.free(*block));
    }
}

impl Lent {
    pub(super) fn id(&self) -> Option<BlockId> {
        self.block
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.lending.arguments().free(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lending() -> (Control, Arc<Lending>) {
        let control = Control::create(1).unwrap();
        let lending = Arc::new(Lending::new(&control).unwrap());
        (control, lending)
    }

    #[test]
    fn a_block_is_free_when_its_job_is_over() {
        let (_control, lending) = lending();
        let lent = lending.fill_block(&[1; 100_000]).unwrap();
        lending.lend(7, vec![lent]);
        assert!(!lending.has_room(MAX_BYTES));
        lending.take_back(7);
        assert!(lending.has_room(MAX_BYTES) && lending.arguments().allocator.in_use() == 0);
    }

    #[test]
    fn a_block_that_was_never_submitted_is_free() {
        let (_control, lending) = lending();
        drop(lending.fill_block(&[1; 100_000]));
        assert_eq!(lending.arguments().allocator.in_use(), 0);
    }
}
