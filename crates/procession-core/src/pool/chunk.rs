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
//! | stretch (see [`procession_shm::Running`]) | the chunk | the task |

use std::num::NonZeroU64;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::record::{self, Word};
use procession_shm::{Control, MAX_RECORD, Running, Slot, Stream, StreamWriter, Verdict};
use procession_sys::exit;
use procession_sys::image::Entry;

use super::frame::{BLOCKS, FIRST, Header, Identity, Kind};
use super::memory::Diet;
use super::result_blocks::ResultBlocks;
use super::trace;
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
    diet: Option<Diet>,
    cursor: Cursor,
    state: State,
    /// The payload of the current task's outcome, until it is committed.
    output: Vec<u8>,
    /// The blocks of a result, on their way into the stream.
    named: Vec<u8>,
}

/// The count of the calls that a worker has begun.
#[derive(Debug)]
pub struct Calls(Slot);

impl Calls {
    /// Counts a call of the task at hand, beside its first.
    #[inline]
    pub fn begin_another(&self) {
        self.0.running().count_begun();
    }
}

/// Where the worker is in the chunk.
#[derive(Debug, Default)]
struct Cursor {
    header: Header,
    /// The index of the next task.
    next: u32,
    /// One past the last task.
    end: u32,
    /// Where the arguments of the next task and of those behind it lie in the inbox.
    rest: usize,
    /// Where they end.
    frame_end: usize,
    /// The chunk's first result is still to come.
    is_first: bool,
}

/// The state that is looked at between two tasks.
#[derive(Debug, Default)]
struct State {
    /// A stretch is begun and not finished.
    is_begun: bool,
    /// This worker is to make way for another.
    is_leaving: bool,
    /// The frame holds what no task handler writes.
    is_malformed: bool,
}

impl Chunk {
    /// The chunks of the worker in a slot, which may have at most `most` bytes of memory.
    pub(super) fn new(
        control: &Arc<Control>,
        slot: u32,
        most: Option<NonZeroU64>,
        buffers: &Rc<ResultBlocks>,
    ) -> Chunk {
        Chunk {
            control: control.clone(),
            slot: control.slot(slot as usize).clone(),
            stream: control.stream(slot as usize).clone(),
            buffers: buffers.clone(),
            diet: most.map(Diet::new),
            cursor: Cursor::default(),
            state: State::default(),
            output: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Begins a chunk; `None` if its frame is malformed.
    pub(super) fn open(&mut self, frame: Range<usize>) -> Option<Header> {
        let (header, items) = Header::parse(self.slot.claimed(frame.clone()))?;
        self.cursor = Cursor {
            header,
            next: header.first,
            end: header.first.checked_add(header.count)?,
            rest: frame.end - items.len(),
            frame_end: frame.end,
            is_first: true,
        };
        self.state.is_malformed = false;
        if !header.is_limited() && !self.state.begin(self.slot.running(), header.job) {
            self.cursor.end = header.first;
        }
        Some(header)
    }

    /// Runs `task` over the argument of each task that is left, and commits what it answers with.
    /// The vector is empty, and for the payload of the answer. If `task` unwinds, the task at hand
    /// is to be [finished](Chunk::finish), and the rest may be run on.
    #[inline]
    pub fn run(&mut self, mut task: impl FnMut(&[u8], &mut Vec<u8>) -> Answer) {
        let Chunk { control, slot, stream, buffers, diet, cursor, state, output, named } = self;
        let (running, job, is_limited) = (slot.running(), cursor.header.job, cursor.header.is_limited());
        let mut arguments = slot.claimed(cursor.rest..cursor.frame_end);
        let mut writer = stream.writer();
        while !is_over(cursor, state, slot, diet.as_mut()) {
            let Some((_, argument)) = record::take(&mut arguments) else {
                state.is_malformed = true;
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
            output.clear();
            let answer = {
                let _span = trace::task(job, cursor.next - 1);
                task(argument, output)
            };
            if is_limited {
                state.finish(running);
            }
            if cursor.is_first || buffers.has_given() || !write_at_once(&mut writer, answer, output) {
                commit(cursor, stream, buffers, control, answer, output, named);
                writer = stream.writer();
            }
        }
    }

    /// For a task that is several calls: where each further one is said.
    pub fn calls(&self) -> Calls {
        Calls(self.slot.clone())
    }

    /// Commits the outcome of the task at hand, which [`run`](Chunk::run) has not committed as it
    /// unwound. What `write` does counts no more towards the task's time limit.
    pub fn finish(&mut self, write: impl FnOnce(&mut Vec<u8>) -> u32) {
        let Chunk { control, slot, stream, buffers, cursor, state, output, named, .. } = self;
        if cursor.header.is_limited() {
            state.finish(slot.running());
        }
        output.clear();
        let answer = Answer::Written(write(output));
        commit(cursor, stream, buffers, control, answer, output, named);
    }

    /// Ends every task of the chunk with the same outcome.
    pub(super) fn refuse(&mut self, tag: u32, why: &[u8]) {
        let Chunk { control, slot, stream, buffers, diet, cursor, state, output, named } = self;
        while !is_over(cursor, state, slot, diet.as_mut()) {
            slot.running().set_index(cursor.next);
            cursor.next += 1;
            if cursor.header.is_limited() {
                if !state.begin(slot.running(), cursor.header.job) {
                    return;
                }
                state.finish(slot.running());
            }
            output.clear();
            output.extend_from_slice(why);
            commit(cursor, stream, buffers, control, Answer::Written(tag), output, named);
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
        // A large result is not kept for the next one.
        self.output.shrink_to(1 << 20);
        !self.state.is_malformed
    }

    /// Whether the worker is to make way for another. One that has once left a claim undone is not
    /// to claim again, since that would void it, whatever the parent thinks by then.
    #[inline]
    pub(super) fn is_leaving(&mut self) -> bool {
        self.state.is_leaving(&self.slot)
    }
}

/// Whether the worker runs no more of the chunk.
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
            Verdict::Stopped => exit::exit_now(CANNOT_SERVE),
        }
    }

    #[inline]
    fn finish(&mut self, running: &Running) {
        self.is_begun = false;
        if !running.finish() {
            exit::exit_now(CANNOT_SERVE);
        }
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

#[cold]
fn commit(
    cursor: &mut Cursor,
    stream: &Stream,
    buffers: &ResultBlocks,
    control: &Control,
    answer: Answer,
    output: &mut Vec<u8>,
    named: &mut Vec<u8>,
) {
    let tag = match answer {
        Answer::Written(tag) => bounded(tag, output),
        Answer::Word(word) => {
            word.append(output);
            tag::VALUE
        }
    };
    let tag = tag | name_blocks(named, buffers.take_given(tag == tag::VALUE));
    if std::mem::take(&mut cursor.is_first) {
        let Header { job, chunk, .. } = cursor.header;
        let identity = Identity { job, chunk, index: cursor.next - 1 }.encode();
        stream.write(tag | FIRST, &[&identity, named, output], control.result_gate());
    } else {
        stream.write(tag, &[named, output], control.result_gate());
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
