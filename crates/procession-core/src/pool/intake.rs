//! The parent's end of the result streams: it takes what workers have committed and enters it into
//! the table of jobs. In whichever thread drains; one at a time.

use std::io::{self, ErrorKind};
use std::iter;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use procession_shm::{Arrival, BlockId, Control, Holder, Overwritten, Spin, StreamReader, record};

use super::frame::{BLOCKS, FIRST, Identity, SEALED};
use super::job::Job;
use super::results::Run;
use super::seal::{Key, Seal, Sealed, UNREAD};
use super::table::{Delivery, Ended, Table};
use crate::beside::Place;
use crate::outcome::tag;
use crate::wire;

/// See the module.
#[derive(Debug)]
pub(super) struct Intake {
    /// By slot.
    readers: Mutex<Vec<Reader>>,
    turn: Mutex<Turn>,
    turn_passed: Condvar,
    /// Of arguments, where results are sealed.
    key: Option<Key>,
    /// The looks of a thread that waits for results, before it sleeps.
    pub(super) spin: Spin,
}

/// Calls whose results streams have brought, and calls that have ended with their workers.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
}

/// The results of one look at the streams.
#[derive(Default, Debug)]
#[must_use]
pub(super) struct Drained {
    /// There was something.
    pub(super) any: bool,
    /// The jobs that it has finished.
    pub(super) ended: Vec<Ended>,
    /// A record that no worker writes, and the slot in whose stream it was.
    pub(super) overwritten: Option<(Overwritten, usize)>,
}

impl Intake {
    /// For `room` slots, with the policy of the thread that waits for results. `key`: of arguments,
    /// if results are to be sealed.
    pub(super) fn new(room: usize, spin: Spin, key: Option<Key>) -> io::Result<Intake> {
        // From the beginning, so that nobody's results pass for those of a worker to come.
        let reader = |_| Ok(Reader { seal: key.map(Seal::new).transpose()?, ..Reader::default() });
        let readers = (0..room).map(reader).collect::<io::Result<_>>()?;
        Ok(Intake { readers: Mutex::new(readers), key, turn: Mutex::default(), turn_passed: Condvar::new(), spin })
    }

    /// The hash of each argument in these records, in a pool whose results are sealed.
    pub(super) fn hash_arguments(&self, entry: u64, mut records: &[u8]) -> Option<Vec<u64>> {
        let key = self.key?;
        let arguments = iter::from_fn(|| record::take(&mut records));
        Some(arguments.map(|(_, argument)| key.argument(entry, argument)).collect())
    }

    /// Makes the seal of the next worker of a slot, if its results are to be sealed.
    pub(super) fn renew_seal(&self, slot: usize) -> io::Result<Option<Seal>> {
        let seal = self.key.map(Seal::new).transpose()?;
        self.readers()[slot].seal = seal;
        Ok(seal)
    }

    /// Takes what workers have committed.
    pub(super) fn drain(&self, control: &Control, table: &Table) -> Drained {
        let mut drained = Drained::default();
        for (slot, reader) in self.readers().iter_mut().enumerate().take(control.slots()) {
            match reader.drain(control, slot, table, &mut drained.ended) {
                Ok(any) => drained.any |= any,
                Err(overwritten) => drained.overwritten = Some((overwritten, slot)),
            }
        }
        drained
    }

    /// Takes what the dead worker of a slot had committed, and makes the stream ready for the next.
    ///
    /// # Errors
    ///
    /// If no worker writes such a thing.
    pub(super) fn finish_stream(
        &self,
        control: &Control,
        slot: usize,
        table: &Table,
    ) -> Result<Vec<Ended>, Overwritten> {
        let (mut ended, mut readers) = (Vec::new(), self.readers());
        readers[slot].drain(control, slot, table, &mut ended)?;
        readers[slot].renew(control, slot);
        Ok(ended)
    }

    /// Makes the stream of a slot that has no worker ready for the next.
    pub(super) fn renew_stream(&self, control: &Control, slot: usize) {
        self.readers()[slot].renew(control, slot);
    }

    /// Counts calls of this slot that have ended with its worker.
    pub(super) fn count_end(&self, slot: usize, calls: u64, is_lost: bool) {
        let tally = &mut self.readers()[slot].tally;
        *if is_lost { &mut tally.lost } else { &mut tally.failed } += calls;
    }

    /// The results of all workers so far.
    pub(super) fn tally(&self) -> Tally {
        self.readers().iter().fold(Tally::default(), |sum, reader| sum.plus(reader.tally))
    }

    /// Takes the turn, if nobody has it.
    pub(super) fn take_turn(&self) -> bool {
        !std::mem::replace(&mut self.turn().is_taken, true)
    }

    pub(super) fn pass_turn(&self) {
        let mut turn = self.turn();
        turn.is_taken = false;
        if turn.waiting > 0 {
            self.turn_passed.notify_all();
        }
    }

    /// Wakes the threads that wait for the turn or for a result.
    pub(super) fn announce(&self) {
        // Under the lock, so that nobody is between its look at a job and its sleep.
        if self.turn().waiting > 0 {
            self.turn_passed.notify_all();
        }
    }

    /// Waits for the turn or for news, unless the turn is free or `is_done` says so.
    pub(super) fn wait_for_turn(&self, is_done: impl Fn() -> bool, until: Option<Instant>) {
        let mut turn = self.turn();
        if !turn.is_taken || is_done() {
            return;
        }
        turn.waiting += 1;
        let mut turn = match until {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.turn_passed.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.turn_passed.wait(turn).unwrap_or_else(PoisonError::into_inner),
        };
        turn.waiting -= 1;
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally { done: self.done + other.done, failed: self.failed + other.failed, lost: self.lost + other.lost }
    }
}

/// The parent's end of one worker's result stream.
#[derive(Debug, Default)]
struct Reader {
    stream: StreamReader,
    current: Option<Current>,
    /// Of this worker and of those that had the slot before it.
    tally: Tally,
    /// By which its worker seals its results.
    seal: Option<Seal>,
}

/// The chunk whose results are arriving.
#[derive(Debug)]
struct Current {
    /// `None`: the job is over, or has been given up.
    job: Option<Arc<Job>>,
    chunk: u32,
    next: u32,
    /// Values that have arrived and are not in the job yet. Empty between two looks at the stream.
    run: Run,
}

/// The threads that wait for results.
#[derive(Debug, Default)]
struct Turn {
    is_taken: bool,
    /// Threads that wait for the turn or for a result; nobody is woken, at the price of a system
    /// call, for none.
    waiting: usize,
}

/// The task that a result in a stream is said to be of.
const TASK: Overwritten = Overwritten("which task a result is of, in the stream");
/// A result that is not what the worker of its slot has answered.
const SEAL: Overwritten = Overwritten("a result in the stream, or the argument of its task");
/// The large buffers that a result in a stream is said to have.
const BUFFERS: Overwritten = Overwritten("which large buffers a result has, in the stream");

impl Reader {
    /// For the next worker in the slot.
    fn renew(&mut self, control: &Control, slot: usize) {
        control.stream(slot).reset();
        *self = Reader { tally: self.tally, seal: self.seal, ..Reader::default() };
    }

    fn drain(
        &mut self,
        control: &Control,
        slot: usize,
        table: &Table,
        ended: &mut Vec<Ended>,
    ) -> Result<bool, Overwritten> {
        let Reader { stream, current, tally, seal } = self;
        let mut arrivals = Arrivals { control, slot, table, current, tally, seal: seal.as_ref(), ended };
        let mut understood = Ok(());
        let drained = stream.drain(control.stream(slot), |arrival| {
            if understood.is_ok() {
                understood = arrivals.receive(arrival);
            }
        });
        let entered = arrivals.enter_run();
        understood.and(entered).and(drained)
    }
}

/// The state that one look at a stream works on.
struct Arrivals<'a> {
    control: &'a Control,
    slot: usize,
    table: &'a Table,
    current: &'a mut Option<Current>,
    tally: &'a mut Tally,
    seal: Option<&'a Seal>,
    ended: &'a mut Vec<Ended>,
}

impl Arrivals<'_> {
    /// Enters what has arrived.
    ///
    /// # Errors
    ///
    /// If no worker writes such a thing.
    fn receive(&mut self, arrival: Arrival<'_>) -> Result<(), Overwritten> {
        let (tag, mut payload) = match arrival {
            Arrival::Record(tag, payload) => (tag, payload),
            Arrival::Values(..) if self.seal.is_some() => return Err(SEAL),
            Arrival::Values(count, records) => {
                let Current { job, next, run, .. } = self.current.as_mut().ok_or(TASK)?;
                if job.is_some() {
                    run.extend(*next, count, records);
                }
                *next = next.checked_add(count).ok_or(TASK)?;
                return Ok(());
            }
        };
        if tag & FIRST != 0 {
            let (identity, rest) = Identity::parse(payload).ok_or(TASK)?;
            payload = rest;
            self.begin_chunk(identity)?;
        }
        if let Some(seal) = self.seal {
            payload = self.check_seal(seal, tag, payload)?;
        }
        let tag = tag & !SEALED;
        if tag & BLOCKS != 0 {
            payload = self.hold_blocks(payload)?;
        }
        let tag = tag & !(FIRST | BLOCKS);
        let current = self.current.as_mut().ok_or(TASK)?;
        if current.job.is_some() && tag == tag::VALUE {
            current.run.add(current.next, payload);
        } else {
            self.enter_run()?;
            self.enter_outcome(tag, payload)?;
        }
        let current = self.current.as_mut().ok_or(TASK)?;
        current.next = current.next.checked_add(1).ok_or(TASK)?;
        Ok(())
    }

    /// Looks whether a result is what the worker of this slot has answered to what the task was
    /// sent. Returns what follows the seal.
    fn check_seal<'a>(&self, seal: &Seal, tag: u32, payload: &'a [u8]) -> Result<&'a [u8], Overwritten> {
        let mut reader = wire::Reader(payload);
        let (Some(found), true) = (reader.u64(), tag & SEALED != 0) else { return Err(SEAL) };
        let Some(Current { job, chunk, next, .. }) = &self.current else { return Err(TASK) };
        // A result whose job is over is dropped.
        let Some(job) = job else { return Ok(reader.0) };
        let tag = tag & !(FIRST | SEALED);
        let argument = job.argument_hash(*next).ok_or(TASK)?;
        let is_right = |argument| {
            let sealed = Sealed { job: job.id, chunk: *chunk, index: *next, argument, tag };
            seal.result(sealed, &[reader.0]) == found
        };
        // A task that its worker could not begin has an error.
        let may_be_unread = matches!(tag, tag::NO_MEMORY | tag::UNDECODABLE);
        if is_right(argument) || may_be_unread && is_right(UNREAD) { Ok(reader.0) } else { Err(SEAL) }
    }

    fn begin_chunk(&mut self, identity: Identity) -> Result<(), Overwritten> {
        self.enter_run()?;
        let (job, run) = match self.current.take() {
            Some(last) => (last.job.filter(|job| job.id == identity.job), last.run),
            None => (None, Run::default()),
        };
        let job = job.or_else(|| self.table.get(identity.job));
        *self.current = Some(Current { job, chunk: identity.chunk, next: identity.index, run });
        Ok(())
    }

    /// Holds the blocks that a record names for its job. Returns what follows them.
    fn hold_blocks<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Overwritten> {
        let mut reader = wire::Reader(payload);
        let count = reader.u32().ok_or(BUFFERS)?;
        let blocks: Vec<u64> = (0..count).map(|_| reader.u64()).collect::<Option<_>>().ok_or(BUFFERS)?;
        let job = self.current.as_ref().and_then(|current| current.job.as_ref());
        for block in blocks {
            let held = self.control.results(self.slot).take(BlockId(block), Holder::Parent);
            // Its worker has told of it, so it is there.
            if held.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData)) {
                return Err(BUFFERS);
            }
            if let Some(job) = job {
                job.hold_block(Place { area: self.slot as u32 + 1, block }, held);
            }
        }
        Ok(reader.0)
    }

    /// Enters an outcome that is no value.
    fn enter_outcome(&mut self, tag: u32, payload: &[u8]) -> Result<(), Overwritten> {
        let Some(current) = self.current else { return Ok(()) };
        let Some(job) = &current.job else { return Ok(()) };
        let delivery = self.table.deliver(job, current.chunk, current.next, tag, payload);
        self.tally.failed += u64::from(delivery.is_counted());
        self.conclude(delivery)
    }

    /// Enters the values that have arrived.
    ///
    /// # Errors
    ///
    /// If they are no task's.
    fn enter_run(&mut self) -> Result<(), Overwritten> {
        let Some(Current { job: Some(job), chunk, run, .. }) = self.current else { return Ok(()) };
        if run.count == 0 {
            return Ok(());
        }
        let calls = job.calls(run.first, run.count);
        let delivery = self.table.deliver_run(job, *chunk, run);
        self.tally.done += if delivery.is_counted() { calls } else { 0 };
        self.conclude(delivery)
    }

    fn conclude(&mut self, delivery: Delivery) -> Result<(), Overwritten> {
        match delivery {
            Delivery::Stale | Delivery::Entered => Ok(()),
            Delivery::Impossible => Err(TASK),
            Delivery::Finished(ended) => {
                // A job that is over is its handle's alone, and so are the blocks of its results:
                // this worker's next job may be long in coming.
                if let Some(current) = self.current {
                    current.job = None;
                }
                self.ended.push(ended);
                Ok(())
            }
        }
    }
}
