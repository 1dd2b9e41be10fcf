//! The large buffers of results: blocks in a worker's own area, which it fills and the parent
//! takes. In the worker's only thread; there it also takes the arguments' blocks, until it lets go
//! of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use procession_shm::{Allocator, Area, BlockId, Control, Held, Holder};

use crate::beside::{Buffers, Place, not_sent};

/// See the module.
#[derive(Debug)]
pub(super) struct ResultBlocks {
    slot: u32,
    arguments: Area,
    results: Area,
    /// Made with the first block: its table is not touched before.
    allocator: RefCell<Option<Allocator>>,
    given: RefCell<Vec<u64>>,
    has_given: Cell<bool>,
    /// Results go on to where no block can be read.
    is_inline: bool,
}

impl ResultBlocks {
    pub(super) fn new(control: &Control, slot: u32, is_inline: bool) -> ResultBlocks {
        let (arguments, results) = (control.arguments().clone(), control.results(slot as usize).clone());
        ResultBlocks {
            slot,
            arguments,
            results,
            allocator: RefCell::default(),
            given: RefCell::default(),
            has_given: Cell::new(false),
            is_inline,
        }
    }

    /// Returns whether the result has given any blocks.
    #[inline]
    pub(super) fn has_given(&self) -> bool {
        self.has_given.get()
    }

    /// Takes the blocks that the result has given. Frees them where they are not wanted, since the
    /// task has failed.
    pub(super) fn take_given(&self, is_wanted: bool) -> Vec<u64> {
        if !self.has_given.replace(false) {
            return Vec::new();
        }
        let given = self.given.take();
        if is_wanted {
            return given;
        }
        if let Some(allocator) = &mut *self.allocator.borrow_mut() {
            for block in given {
                allocator.free(BlockId(block));
            }
        }
        Vec::new()
    }

    /// There has been nothing to do for a while.
    pub(super) fn trim(&self) -> io::Result<()> {
        match &mut *self.allocator.borrow_mut() {
            Some(allocator) => allocator.trim(),
            None => Ok(()),
        }
    }
}

impl Buffers for ResultBlocks {
    fn put(&self, bytes: &[u8]) -> Option<Place> {
        if self.is_inline {
            return None;
        }
        let mut allocator = self.allocator.borrow_mut();
        let allocator = match &mut *allocator {
            Some(allocator) => allocator,
            // Refused memory it is without blocks, for this result.
            empty => empty.insert(Allocator::new(self.results.clone()).ok()?),
        };
        let block = allocator.allocate(bytes)?;
        self.given.borrow_mut().push(block.0);
        self.has_given.set(true);
        Some(Place { area: self.slot + 1, block: block.0 })
    }

    fn take(&self, place: Place) -> io::Result<Arc<Held>> {
        if place.area != 0 {
            return Err(not_sent());
        }
        self.arguments.take(BlockId(place.block), Holder::Worker(self.slot)).map(Arc::new)
    }
}
