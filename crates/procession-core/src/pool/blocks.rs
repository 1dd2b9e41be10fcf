//! Large buffers of arguments and results, in blocks beside the frames and records. A face's codec, deep in an argument or a
//! result, [`give`]s a buffer and encodes in its place where it went, and [`take`]s it where that is decoded, in place. As
//! handles do, buffers go by the thread, within a scope:
//!
//! | scope | thread | gives | takes |
//! |---|---|---|---|
//! | submitting | of the program, encoding arguments | into the parent's area | |
//! | serving | the worker's | results, into its own area | arguments, until it lets go |
//! | reading | of the program, decoding results | | results |
//!
//! An argument's block is its job's, and free when the job is over and no worker has it. A result's is held by the job from
//! its arrival on, and by whoever has decoded it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use procession_shm::{Allocator, Area, BlockId, Control, Held, Holder};

use super::Shared;
use super::job::Job;

/// A buffer that is shorter travels with the rest. Measured: there and back, 8 KiB take as long in a block as inline, 16 KiB
/// two thirds, 64 KiB not half as long.
pub const THRESHOLD: usize = 16 * 1024;

/// What arguments may take up, in blocks and as much again in the ring, before whoever submits waits for tasks to finish.
pub(super) const MOST_BYTES: usize = 256 << 20;
/// How long it waits for room, before it does without.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Where a buffer went: to be encoded in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// 0: the arguments' area; else 1 more than the slot whose results' it is.
    pub area: u32,
    /// The block there.
    pub block: u64,
}

/// Puts a buffer into a block. `None`: it is to travel with the rest, since it is short, or nothing takes blocks here, or there
/// is no room.
pub fn give(bytes: &[u8]) -> Option<Place> {
    if bytes.len() < THRESHOLD {
        return None;
    }
    match SCOPE.with_borrow(Option::clone)? {
        Scope::Submitting(outbox) => {
            let lent = outbox.shared.lend(bytes, &outbox)?;
            let place = Place { area: 0, block: lent.block.0 };
            outbox.lent.borrow_mut().push(lent);
            Some(place)
        }
        Scope::Serving(serving) => serving.give(bytes),
        Scope::Reading(_) => None,
    }
}

/// The buffer that was given, in place.
///
/// # Errors
///
/// Why it is not there: what to tell the user. `OutOfMemory` if this process may have no more addresses.
pub fn take(place: Place) -> io::Result<Arc<Held>> {
    let gone = || io::Error::new(ErrorKind::NotFound, "its buffer was not sent along");
    match SCOPE.with_borrow(Option::clone) {
        Some(Scope::Serving(serving)) if place.area == 0 => {
            let holder = Holder::Worker(serving.slot);
            let held = serving.arguments.take(BlockId(place.block), holder);
            held.map(Arc::new)
        }
        Some(Scope::Reading(job)) => match job.blocks().get(&(place.area, place.block)) {
            Some(Ok(held)) => Ok(held.clone()),
            Some(Err((kind, why))) => Err(io::Error::new(*kind, why.clone())),
            None => Err(gone()),
        },
        _ => Err(gone()),
    }
}

thread_local! {
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

#[derive(Clone)]
enum Scope {
    Submitting(Rc<Outbox>),
    Serving(Rc<Serving>),
    Reading(Arc<Job>),
}

/// What is being submitted has given so far.
struct Outbox {
    shared: Arc<Shared>,
    lent: RefCell<Vec<Lent>>,
}

/// Runs `encode`, which may give buffers that are then lent to whatever is submitted.
pub(super) fn submitting<R>(shared: &Arc<Shared>, encode: impl FnOnce() -> R) -> (R, Vec<Lent>) {
    let outbox = Rc::new(Outbox { shared: shared.clone(), lent: RefCell::default() });
    let result = within(Scope::Submitting(outbox.clone()), encode);
    (result, outbox.lent.take())
}

/// Runs `decode`, which may take the job's results.
pub(super) fn reading<R>(job: &Arc<Job>, decode: impl FnOnce() -> R) -> R {
    if job.blocks().is_empty() { decode() } else { within(Scope::Reading(job.clone()), decode) }
}

/// Runs a worker's tasks.
pub(super) fn serving<R>(serving: &Rc<Serving>, serve: impl FnOnce() -> R) -> R {
    within(Scope::Serving(serving.clone()), serve)
}

fn within<R>(scope: Scope, body: impl FnOnce() -> R) -> R {
    /// Puts the scope before back, whether `body` returns or unwinds.
    struct Restore(Option<Scope>);
    impl Drop for Restore {
        fn drop(&mut self) {
            drop(SCOPE.replace(self.0.take()));
        }
    }
    let _restore = Restore(SCOPE.replace(Some(scope)));
    body()
}

/// The parent's area, as the parent keeps it.
#[derive(Debug)]
pub(super) struct Arguments {
    allocator: Allocator,
    /// Blocks of jobs that are over, which workers still had.
    lingering: Vec<BlockId>,
    /// What jobs that are not over have been lent.
    jobs: HashMap<u64, Vec<Lent>>,
}

impl Arguments {
    pub(super) fn new(control: &Control) -> io::Result<Arguments> {
        let allocator = Allocator::new(control.arguments().clone())?;
        Ok(Arguments { allocator, lingering: Vec::new(), jobs: HashMap::new() })
    }

    fn sweep(&mut self) {
        let Arguments { allocator, lingering, .. } = self;
        lingering.retain(|block| !allocator.free(*block));
    }
}

/// A block of the parent's, which is free once this is dropped and no worker has it.
pub(super) struct Lent {
    shared: std::sync::Weak<Shared>,
    block: BlockId,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lent").field(&self.block).finish()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut arguments = shared.arguments();
            if !arguments.allocator.free(self.block) {
                arguments.lingering.push(self.block);
            }
        }
    }
}

impl Shared {
    /// A block with these bytes, once there is room for it.
    fn lend(self: &Arc<Self>, bytes: &[u8], outbox: &Outbox) -> Option<Lent> {
        let has_room = || {
            let mut arguments = self.arguments();
            arguments.sweep();
            arguments.jobs.is_empty() || arguments.allocator.in_use() + bytes.len() <= MOST_BYTES
        };
        // What is being submitted itself is not over before it is: it is not waited for.
        if outbox.lent.borrow().is_empty() && !has_room() {
            self.wait_until(has_room, Some(Instant::now() + PATIENCE));
        }
        let block = self.arguments().allocator.give(bytes)?;
        Some(Lent { shared: Arc::downgrade(self), block })
    }

    /// Keeps what a job was lent until it is over.
    pub(super) fn keep_lent(&self, job: u64, lent: Vec<Lent>) {
        if !lent.is_empty() {
            self.arguments().jobs.insert(job, lent);
        }
    }

    /// The job is over.
    pub(super) fn release_lent(&self, job: u64) {
        let lent = self.arguments().jobs.remove(&job);
        // Not under the lock, which it takes.
        drop(lent);
    }

    /// A worker is dead, and its results are read: what it had of others is nobody's, and what it told nobody of is free.
    ///
    /// # Errors
    ///
    /// If an area makes no sense, or cannot be mapped.
    pub(super) fn bury_blocks(&self, slot: usize) -> io::Result<()> {
        self.control.arguments().bereave(slot as u32)?;
        self.control.results(slot).reclaim()?;
        self.arguments().sweep();
        Ok(())
    }

    /// The pool has nothing to do: gives memory back that is kept for the next blocks.
    pub(super) fn trim_blocks(&self) {
        let mut arguments = self.arguments();
        arguments.sweep();
        // Refused it stays in use, as before.
        let _ = arguments.allocator.trim();
    }

    /// Holds the results' blocks that a record names; `None` if one is not there, though its worker has told of it.
    pub(super) fn hold(&self, job: Option<&Arc<Job>>, slot: usize, blocks: impl Iterator<Item = u64>) -> Option<()> {
        for block in blocks {
            let held = self.control.results(slot).take(BlockId(block), Holder::Parent);
            if held.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData)) {
                return None;
            }
            if let Some(job) = job {
                // If this process has no memory for the block, whoever decodes the result is told.
                let held = held.map(Arc::new).map_err(|error| (error.kind(), error.to_string()));
                job.blocks().insert((slot as u32 + 1, block), held);
            }
        }
        Some(())
    }

    fn arguments(&self) -> MutexGuard<'_, Arguments> {
        self.arguments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results' blocks of a job, by area and block; or why one could not be had.
pub(super) type Blocks = HashMap<(u32, u64), Result<Arc<Held>, (ErrorKind, String)>>;

/// A worker's part.
#[derive(Debug)]
pub(super) struct Serving {
    slot: u32,
    arguments: Area,
    results: Area,
    /// Made with the first block: its table is not touched before.
    allocator: RefCell<Option<Allocator>>,
    given: RefCell<Vec<u64>>,
    has_given: Cell<bool>,
}

impl Serving {
    pub(super) fn new(control: &Control, slot: u32) -> Serving {
        let (arguments, results) = (control.arguments().clone(), control.results(slot as usize).clone());
        Serving {
            slot,
            arguments,
            results,
            allocator: RefCell::default(),
            given: RefCell::default(),
            has_given: Cell::new(false),
        }
    }

    /// Whether the result has given any.
    #[inline]
    pub(super) fn has_given(&self) -> bool {
        self.has_given.get()
    }

    /// What the result has given; its task has failed where it is not wanted.
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

    fn give(&self, bytes: &[u8]) -> Option<Place> {
        let mut allocator = self.allocator.borrow_mut();
        let allocator = match &mut *allocator {
            Some(allocator) => allocator,
            // Refused memory it is without blocks, for this result.
            empty => empty.insert(Allocator::new(self.results.clone()).ok()?),
        };
        let block = allocator.give(bytes)?;
        self.given.borrow_mut().push(block.0);
        self.has_given.set(true);
        Some(Place { area: self.slot + 1, block: block.0 })
    }
}
