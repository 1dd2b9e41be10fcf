//! The worker's way through a chunk: which task is next, what is written before and after it, and
//! where its result goes. In the worker's only thread.
//!
//! The entry of a job gets the chunk and has it [run](Chunk::run) a closure over each argument. So
//! the loop is compiled with the user's types, and costs a few nanoseconds a task; what is looked
//! at for some chunks only (time limits, the worker's memory, tracing) are branches in it.
//!
//! | | a chunk whose tasks have no time limit | one whose tasks have |
//! |---|---|---|
//! | before a task | its index is said | the same, and its stretch begins |
//! | after it | its result is committed | its stretch ends, its result is committed |
//! | stretch (see [`procession_shm::Running`]) | the chunk | the task; the decoding of the state |

use std::num::NonZeroU64;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::record::{self, Word};
use procession_shm::{Control, MAX_RECORD, Meter, Phase, Running, Slot, Stream, StreamWriter, Verdict};
use procession_sys::exit;
use procession_sys::image::Entry;

use super::carrier::{Load, Way};
use super::frame::{BLOCKS, FIRST, Header, Identity, Kind, SEALED, span};
use super::handle_broker::Asker;
use super::memory::Diet;
use super::result_blocks::ResultBlocks;
use super::seal::{Seal, Sealed, UNREAD};
use super::{state, trace};
use crate::beside::Ask;
use crate::outcome::tag;

/// A job's entry: what a worker calls with each chunk of the job.
pub(super) type ChunkFn = fn(&mut Chunk);

/// The name of a job's entry.
pub type ChunkEntry = Entry<ChunkFn>;

/// The exit code of a worker that cannot serve.
pub(super) const CANNOT_SERVE: i32 = 70;

/// The outcome of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// An outcome of this tag (see [`crate::outcome::tag`]), whose payload has been written.
    Written(u32),
    /// A value that is this word; nothing has been written.
    Word(Word),
}

/// A chunk that a worker runs.
#[derive(Debug)]
pub struct Chunk {
    control: Arc<Control>,
    slot: Slot,
    stream: Stream,
    buffers: Rc<ResultBlocks>,
    asker: Rc<Asker>,
    diet: Option<Diet>,
    cursor: Cursor,
    state: State,
    /// The payload of the current task's outcome, until it is committed.
    output: Vec<u8>,
    /// The blocks of a result, on their way into the stream.
    named: Vec<u8>,
    /// In a pool whose results are sealed.
    sealing: Option<Sealing>,
    /// In a pool that measures.
    meter: Option<Rc<Meter>>,
}

/// The seals of a worker's results.
#[derive(Debug)]
struct Sealing {
    seal: Seal,
    /// The argument of the task at hand: this worker's own copy.
    argument: Vec<u8>,
    hash: u64,
}

impl Sealing {
    /// Copies the argument of the next task, so that nobody can change it any more.
    fn take(&mut self, entry: u64, argument: &[u8]) -> &[u8] {
        self.argument.clear();
        self.argument.extend_from_slice(argument);
        self.hash = self.seal.argument(entry, &self.argument);
        &self.argument
    }
}

/// The count of the calls that a worker has begun.
#[derive(Debug)]
pub struct Calls(Slot);

impl Calls {
    /// Counts a call of the task at hand, beside its first.
    #[inline]
    pub fn begin_another(&self) {
        self.0.running().begin_another_call();
    }
}

/// The worker's place in the chunk.
#[derive(Debug, Default)]
struct Cursor {
    header: Header,
    /// The index of the next task.
    next: u32,
    /// One past the last task.
    end: u32,
    /// The place in the inbox of the arguments of the next task and of those behind it.
    rest: usize,
    /// The place in the inbox where the arguments end.
    frame_end: usize,
    /// The section in the inbox that names the state.
    state: Range<usize>,
    /// The chunk's first result is still to come.
    is_first: bool,
    /// The frame holds what no task handler writes.
    is_malformed: bool,
}

/// The kind of a worker, by which it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// A process, which exits.
    Process,
    /// A thread, which cannot, and whose tasks are carried elsewhere.
    Thread,
    /// Such a thread that has been stopped.
    StoppedThread,
}

/// The state that is looked at between two tasks.
#[derive(Debug)]
struct State {
    life: Life,
    /// A stretch is begun and not finished.
    is_begun: bool,
    /// This worker is to make way for another.
    is_leaving: bool,
}

impl Chunk {
    /// The chunks of the worker in a slot, which may have at most `most` bytes of memory. Those of
    /// one that is carried run elsewhere.
    #[expect(clippy::too_many_arguments, reason = "the parts of a worker")]
    pub(super) fn new(
        control: &Arc<Control>,
        slot: u32,
        most: Option<NonZeroU64>,
        buffers: &Rc<ResultBlocks>,
        asker: &Rc<Asker>,
        seal: Option<Seal>,
        meter: Option<Rc<Meter>>,
        is_carried: bool,
    ) -> Chunk {
        Chunk {
            control: control.clone(),
            slot: control.slot(slot as usize).clone(),
            stream: control.stream(slot as usize).clone(),
            buffers: buffers.clone(),
            asker: asker.clone(),
            diet: most.map(Diet::new),
            cursor: Cursor::default(),
            state: State {
                life: if is_carried { Life::Thread } else { Life::Process },
                is_begun: false,
                is_leaving: false,
            },
            output: Vec::new(),
            named: Vec::new(),
            sealing: seal.map(|seal| Sealing { seal, argument: Vec::new(), hash: UNREAD }),
            meter,
        }
    }

    /// Begins a chunk; `None` if its frame is malformed.
    pub(super) fn open(&mut self, frame: Range<usize>) -> Option<Header> {
        let (header, state, items) = Header::parse(self.slot.claimed(frame.clone()))?;
        let rest = frame.end - items.len();
        self.cursor = Cursor {
            header,
            next: header.first,
            end: header.first.checked_add(header.count)?,
            rest,
            frame_end: frame.end,
            state: rest - state.len()..rest,
            is_first: true,
            is_malformed: false,
        };
        if !header.is_limited() && !self.state.begin(self.slot.running(), header.job) {
            self.cursor.end = header.first;
        }
        Some(header)
    }

    /// Returns whether none of its tasks is to begin, as the job has been cancelled.
    pub(super) fn is_skipped(&self) -> bool {
        self.cursor.next == self.cursor.end
    }

    /// The state of the chunk's job, decoded by `decode` unless this worker has it from a chunk
    /// before. It takes no task's time, and ends with its worker if the job is cancelled. If
    /// `decode` unwinds, the chunk is to be [refused](Chunk::refuse).
    ///
    /// # Errors
    ///
    /// The error of `decode`; why the state cannot be had here.
    pub fn state<S: 'static>(&mut self, decode: impl FnOnce(&[u8]) -> Result<S, String>) -> Result<Rc<S>, String> {
        let Chunk { slot, asker, cursor, state, meter, .. } = self;
        if let Some(meter) = meter {
            meter.enter(Phase::Pickling);
        }
        let decode = |bytes: &[u8]| {
            slot.running().set_prepared(cursor.next);
            if !cursor.header.is_limited() {
                return decode(bytes);
            }
            if !state.begin(slot.running(), cursor.header.job) {
                cursor.end = cursor.next;
                return Err("its job was cancelled".into());
            }
            let decoded = decode(bytes);
            state.finish(slot.running());
            decoded
        };
        state::receive(asker, slot.claimed(cursor.state.clone()), decode)
    }

    /// Runs `task` over the argument of each task that is left, and commits what it answers with.
    /// The vector is empty, and for the payload of the answer. If `task` unwinds, the task at hand
    /// is to be [finished](Chunk::finish), and the rest may be run on.
    ///
    /// In a pool that measures, [`run_measured`](Chunk::run_measured) is to be called instead.
    #[inline]
    pub fn run(&mut self, task: impl FnMut(&[u8], &mut Vec<u8>) -> Answer) {
        self.run_all::<false>(task);
    }

    /// As [`run`](Chunk::run), for a worker that has a [meter](Chunk::meter), which it tells of
    /// each task. It is a call of its own so that other pools need not look for one at each task.
    #[cold]
    pub fn run_measured(&mut self, task: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> Answer) {
        self.run_all::<true>(task);
    }

    #[inline]
    fn run_all<const IS_MEASURED: bool>(&mut self, mut task: impl FnMut(&[u8], &mut Vec<u8>) -> Answer) {
        let Chunk { control, slot, stream, buffers, diet, cursor, state, output, named, sealing, meter, .. } = self;
        let meter = meter.as_deref().filter(|_| IS_MEASURED);
        let (running, job, is_limited) = (slot.running(), cursor.header.job, cursor.header.is_limited());
        let mut arguments = slot.claimed(cursor.rest..cursor.frame_end);
        let mut writer = stream.writer();
        while !is_over(cursor, state, slot, diet.as_mut()) {
            let Some((_, argument)) = record::take(&mut arguments) else {
                cursor.is_malformed = true;
                return;
            };
            running.set_index(cursor.next);
            cursor.next += 1;
            cursor.rest = cursor.frame_end - arguments.len();
            if is_limited && !state.begin(running, job) {
                // The rest of the chunk is of the same job.
                cursor.end = cursor.next;
                return;
            }
            let argument = match sealing {
                Some(sealing) => sealing.take(cursor.header.entry, argument),
                None => argument,
            };
            output.clear();
            if let Some(meter) = meter {
                meter.begin_task(job, cursor.next - 1);
            }
            let answer = {
                let _span = trace::task(job, cursor.next - 1);
                task(argument, output)
            };
            if is_limited {
                state.finish(running);
            }
            if cursor.is_first
                || sealing.is_some()
                || buffers.has_given()
                || !write_at_once(&mut writer, answer, output)
            {
                commit(cursor, stream, buffers, control, answer, output, named, sealing.as_ref(), &never);
                writer = stream.writer();
            }
        }
    }

    /// The meter of this worker, in a pool that measures: to say when calls begin and end.
    pub fn meter(&self) -> Option<Rc<Meter>> {
        self.meter.clone()
    }

    /// For a task that is several calls: where each further one is said.
    pub fn calls(&self) -> Calls {
        Calls(self.slot.clone())
    }

    /// Commits the outcome of the task at hand, which [`run`](Chunk::run) has not committed as it
    /// unwound. The time of `write` counts no more towards the task's time limit.
    pub fn finish(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u32) {
        let Chunk { control, slot, stream, buffers, cursor, state, output, named, sealing, .. } = self;
        if cursor.header.is_limited() {
            state.finish(slot.running());
        }
        output.clear();
        let answer = Answer::Written(write(output));
        commit(cursor, stream, buffers, control, answer, output, named, sealing.as_ref(), &never);
    }

    /// Ends every task of the chunk with the same outcome.
    pub fn refuse(&mut self, tag: u32, why: &[u8]) {
        let Chunk { control, slot, stream, buffers, diet, cursor, state, output, named, sealing, .. } = self;
        if cursor.header.is_limited() && state.is_begun {
            // The state's decoding has unwound.
            state.finish(slot.running());
        }
        while !is_over(cursor, state, slot, diet.as_mut()) {
            slot.running().set_index(cursor.next);
            cursor.next += 1;
            if cursor.header.is_limited() {
                if !state.begin(slot.running(), cursor.header.job) {
                    return;
                }
                state.finish(slot.running());
                if state.is_stopped() {
                    return;
                }
            }
            if let Some(sealing) = sealing {
                sealing.hash = UNREAD;
            }
            output.clear();
            output.extend_from_slice(why);
            commit(cursor, stream, buffers, control, Answer::Written(tag), output, named, sealing.as_ref(), &never);
        }
    }

    /// Why this worker had no memory for the arguments, if it had none.
    pub(super) fn refusal(&self) -> Option<Vec<u8>> {
        let Cursor { header, rest, frame_end, .. } = &self.cursor;
        (header.kind == Kind::Refused).then(|| self.slot.claimed(*rest..*frame_end).to_vec())
    }

    /// The worker runs no more of the chunk. Returns whether its frame was well formed.
    pub(super) fn close(&mut self) -> bool {
        if self.state.is_begun {
            self.state.finish(self.slot.running());
        }
        self.asker.values().end_chunk();
        // A large result is not kept for the next one.
        self.output.shrink_to(1 << 20);
        !self.cursor.is_malformed
    }

    /// Has the tasks run elsewhere, and commits their outcomes as they come. A time limit has each
    /// task travel by itself.
    pub(super) fn carry(&mut self, way: &mut Way) {
        let shared = match state::shared_bytes(&self.asker, self.slot.claimed(self.cursor.state.clone())) {
            Ok(shared) => shared,
            Err(why) => return self.refuse(tag::STATE_UNDECODABLE, why.as_bytes()),
        };
        let Chunk { control, slot, stream, buffers, cursor, state, output, named, .. } = self;
        let (running, header, gives_up) = (slot.running(), cursor.header, way.watch_kill());
        let mut arguments = slot.claimed(cursor.rest..cursor.frame_end);
        while !is_over(cursor, state, slot, None) && !state.is_stopped() {
            let count = if header.is_limited() { 1 } else { cursor.end - cursor.next };
            let Some(len) = span(arguments, count) else {
                cursor.is_malformed = true;
                return;
            };
            let (items, rest) = arguments.split_at(len);
            arguments = rest;
            let end = cursor.next + count;
            let begin_next = |cursor: &mut Cursor| {
                running.set_index(cursor.next);
                cursor.next += 1;
            };
            begin_next(cursor);
            if header.is_limited() && !state.begin(running, header.job) {
                cursor.end = cursor.next;
                return;
            }
            let state_of_load = shared.as_ref().map(|(id, bytes)| (*id, &bytes[..]));
            let load = Load { entry: header.entry, count, items, state: state_of_load };
            let mut left = count;
            let goes_on = way.carry(&load, &mut |mut outcomes| {
                while left > 0
                    && let Some((tag, payload)) = record::take(&mut outcomes)
                {
                    if header.is_limited() {
                        state.finish(running);
                    }
                    if state.is_stopped() || gives_up() {
                        return;
                    }
                    output.clear();
                    output.extend_from_slice(payload);
                    commit(cursor, stream, buffers, control, Answer::Written(tag), output, named, None, &gives_up);
                    left -= 1;
                    if cursor.next < end {
                        begin_next(cursor);
                    }
                }
            });
            if !goes_on {
                if way.has_left() {
                    // Tasks that it has not begun run elsewhere, as behind one that has left.
                    slot.set_finished();
                }
                return;
            }
            control.result_gate().wake(1);
        }
    }

    /// Returns whether the worker is a thread that has been stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.is_stopped()
    }

    /// Returns whether the worker is to make way for another. A worker that has once left a claim
    /// undone must not claim again, whatever the parent thinks by then: another claim would void
    /// the first.
    #[inline]
    pub(super) fn is_leaving(&mut self) -> bool {
        self.state.is_leaving(&self.slot)
    }
}

/// Returns whether the worker runs no more of the chunk.
#[inline]
fn is_over(cursor: &Cursor, state: &mut State, slot: &Slot, diet: Option<&mut Diet>) -> bool {
    // One that is too large from the beginning still runs a task.
    if let Some(diet) = diet
        && cursor.next != cursor.header.first
        && diet.is_over()
    {
        state.is_leaving = true;
    }
    cursor.next == cursor.end || state.is_leaving(slot) || slot.running().is_stopped(cursor.header.job)
}

impl State {
    /// Begins a stretch; `false` if it is to be left.
    #[inline]
    fn begin(&mut self, running: &Running, job: u64) -> bool {
        match running.begin(job) {
            Verdict::Run => {
                self.is_begun = true;
                true
            }
            Verdict::Skip => false,
            Verdict::Stopped => {
                self.stop();
                false
            }
        }
    }

    #[inline]
    fn finish(&mut self, running: &Running) {
        self.is_begun = false;
        if !running.finish() {
            self.stop();
        }
    }

    /// The parent has stopped the stretch: the worker ends.
    #[cold]
    fn stop(&mut self) {
        match self.life {
            Life::Process => exit::exit_now(CANNOT_SERVE),
            Life::Thread | Life::StoppedThread => self.life = Life::StoppedThread,
        }
    }

    fn is_stopped(&self) -> bool {
        self.life == Life::StoppedThread
    }

    #[inline]
    fn is_leaving(&mut self, slot: &Slot) -> bool {
        self.is_leaving |= slot.is_dismissed();
        self.is_leaving
    }
}

/// Writes a short value as it stands; `false` if it is none, or finds no room.
#[inline]
fn write_at_once(writer: &mut StreamWriter<'_>, answer: Answer, output: &[u8]) -> bool {
    match answer {
        Answer::Word(word) => writer.write_word(word),
        Answer::Written(tag) => tag == tag::VALUE && writer.write_value(output),
    }
}

/// Of a process, which is killed where it waits.
fn never() -> bool {
    false
}

#[cold]
#[expect(clippy::too_many_arguments, reason = "the parts of a chunk, which is borrowed apart")]
fn commit(
    cursor: &mut Cursor,
    stream: &Stream,
    buffers: &ResultBlocks,
    control: &Control,
    answer: Answer,
    output: &mut Vec<u8>,
    named: &mut Vec<u8>,
    sealing: Option<&Sealing>,
    gives_up: &dyn Fn() -> bool,
) {
    let tag = match answer {
        Answer::Written(tag) => bounded(tag, output),
        Answer::Word(word) => {
            word.append(output);
            tag::VALUE
        }
    };
    let tag = tag | name_blocks(named, buffers.take_given(tag == tag::VALUE));
    let (Header { job, chunk, .. }, index) = (cursor.header, cursor.next - 1);
    let seal = sealing.map(|Sealing { seal, hash, .. }| {
        seal.result(Sealed { job, chunk, index, argument: *hash, tag }, &[named, output]).to_le_bytes()
    });
    let (tag, seal) = match &seal {
        Some(seal) => (tag | SEALED, &seal[..]),
        None => (tag, &[][..]),
    };
    if std::mem::take(&mut cursor.is_first) {
        let identity = Identity { job, chunk, index }.encode();
        stream.write_unless(tag | FIRST, &[&identity, seal, named, output], control.result_gate(), gives_up);
    } else {
        stream.write_unless(tag, &[seal, named, output], control.result_gate(), gives_up);
    }
}

/// Has the record say which blocks the result has. Returns the flag that says so.
fn name_blocks(named: &mut Vec<u8>, blocks: Vec<u64>) -> u32 {
    named.clear();
    if blocks.is_empty() {
        return 0;
    }
    named.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
    blocks.iter().for_each(|block| named.extend_from_slice(&block.to_le_bytes()));
    BLOCKS
}

/// A result that no stream can take is an error of its task, like one that does not encode.
fn bounded(tag: u32, answer: &mut Vec<u8>) -> u32 {
    const MAX_LEN: usize = MAX_RECORD - 64;
    if answer.len() <= MAX_LEN {
        return tag;
    }
    let text = format!("it takes {} bytes, and a result may take {MAX_LEN}", answer.len());
    *answer = text.into_bytes();
    tag::UNENCODABLE
}
