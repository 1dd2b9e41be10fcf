//! The worker's way through a chunk: which task is next, what is written before and after it, and where its result goes. In
//! the worker's only thread.
//!
//! An entry answers the task that it is called with. It may go on by itself, through [`Tasks::rest`]: then the loop over a
//! chunk is compiled with the user's types, and costs a few nanoseconds a task. An entry that returns after each task is called
//! again for the next.
//!
//! | | a chunk whose tasks have no time limit | one whose tasks have |
//! |---|---|---|
//! | before a task | its index is said | the same, and its stretch begins |
//! | after it | its result is committed | its stretch ends, its result is committed |
//! | stretch (see [`procession_shm::Running`]) | the chunk | the task |
//! | who goes through it | the entry, if it will | the engine, which calls the entry for each |

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use procession_shm::record::{self, Word};
use procession_shm::{Control, Gate, MAX_RECORD, Running, Slot, Stream, StreamWriter, Verdict};
use procession_sys::exit;

use super::frame::{BLOCKS, FIRST, Header, Identity};
use super::memory::Diet;
use super::result_blocks::ResultBlocks;
use super::worker::CANNOT_SERVE;
use crate::outcome::tag;

/// A worker's tasks.
#[derive(Debug)]
pub struct Tasks {
    control: Arc<Control>,
    slot: Slot,
    stream: Stream,
    buffers: Rc<ResultBlocks>,
    header: Cell<Header>,
    /// The index of the next task.
    next: Cell<u32>,
    /// One past the last task of the chunk.
    end: Cell<u32>,
    /// Where the arguments of the next task and of those behind it lie in the inbox.
    rest: Cell<usize>,
    /// Where they end.
    frame_end: Cell<usize>,
    /// A stretch is begun and not finished.
    is_begun: Cell<bool>,
    /// The chunk's first result is still to come.
    is_first: Cell<bool>,
    /// This worker is to make way for another.
    is_leaving: Cell<bool>,
    diet: Option<RefCell<Diet>>,
    /// Of the blocks of a result, on their way into the stream.
    named: RefCell<Vec<u8>>,
}

thread_local! {
    static SERVED: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

/// What the worker in this thread serves; `None` where no worker does.
#[inline]
pub fn tasks() -> Option<Rc<Tasks>> {
    SERVED.with_borrow(Option::clone)
}

/// Runs `body`, in which entries find `tasks`.
pub(super) fn serving<R>(tasks: Option<Rc<Tasks>>, body: impl FnOnce() -> R) -> R {
    /// Puts what was served before back, whether `body` returns or unwinds.
    struct Restore(Option<Rc<Tasks>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            drop(SERVED.replace(self.0.take()));
        }
    }
    let _restore = Restore(SERVED.replace(tasks));
    body()
}

impl Tasks {
    pub(super) fn new(
        control: &Arc<Control>,
        slot: u32,
        most: Option<NonZeroU64>,
        buffers: &Rc<ResultBlocks>,
    ) -> Tasks {
        Tasks {
            control: control.clone(),
            slot: control.slot(slot as usize).clone(),
            stream: control.stream(slot as usize).clone(),
            buffers: buffers.clone(),
            header: Cell::default(),
            next: Cell::new(0),
            end: Cell::new(0),
            rest: Cell::new(0),
            frame_end: Cell::new(0),
            is_begun: Cell::new(false),
            is_first: Cell::new(false),
            is_leaving: Cell::new(false),
            diet: most.map(|most| RefCell::new(Diet::new(most))),
            named: RefCell::default(),
        }
    }

    /// For going through the tasks behind the one at hand.
    #[inline]
    pub fn rest(&self) -> Rest<'_> {
        let header @ Header { job, .. } = self.header.get();
        let next = self.next.get();
        // The engine goes through those for which there is more to do.
        let is_engines = header.is_limited() || self.diet.is_some() || cfg!(feature = "tracing");
        Rest {
            tasks: self,
            slot: &self.slot,
            running: self.slot.running(),
            job,
            next,
            end: if is_engines { next } else { self.end.get() },
            arguments: self.slot.claimed(self.rest.get()..self.frame_end.get()),
            writer: self.stream.writer(),
        }
    }

    /// Begins a chunk; `None` if its frame is malformed.
    pub(super) fn open(&self, frame: Range<usize>) -> Option<Header> {
        let (header, items) = Header::parse(self.slot.claimed(frame.clone()))?;
        self.header.set(header);
        self.next.set(header.first);
        self.end.set(header.first.checked_add(header.count)?);
        self.rest.set(frame.end - items.len());
        self.frame_end.set(frame.end);
        self.is_first.set(true);
        if !header.is_limited() && !self.begin() {
            self.end.set(header.first);
        }
        Some(header)
    }

    /// The argument of the next task, which begins with that. `Ok(None)`: this worker runs no more of the chunk.
    ///
    /// # Errors
    ///
    /// [`Malformed`], if the frame is.
    pub(super) fn next(&self) -> Result<Option<&[u8]>, Malformed> {
        if self.is_over() {
            return Ok(None);
        }
        let frame_end = self.frame_end.get();
        let mut rest = self.slot.claimed(self.rest.get()..frame_end);
        let (_, argument) = record::take(&mut rest).ok_or(Malformed)?;
        let index = self.next.get();
        self.slot.running().set_index(index);
        self.next.set(index + 1);
        self.rest.set(frame_end - rest.len());
        if self.header.get().is_limited() && !self.begin() {
            // The rest of the chunk is of the same job.
            self.end.set(self.next.get());
            return Ok(None);
        }
        Ok(Some(argument))
    }

    /// The index in the job of the task at hand.
    #[inline]
    pub(super) fn index(&self) -> u32 {
        self.next.get() - 1
    }

    /// Says that the function of the task at hand has ended: what the entry still does for its result counts no more
    /// towards the task's time limit.
    pub fn stop_clock(&self) {
        if self.header.get().is_limited() && self.is_begun.get() {
            self.finish_stretch();
        }
    }

    /// Says how the task at hand ended.
    pub(super) fn finish(&self, tag: u32, answer: &mut Vec<u8>) {
        self.stop_clock();
        self.commit_at_length(tag, answer, self.control.result_gate());
    }

    /// Ends each task of a chunk whose arguments this worker had no memory for.
    pub(super) fn refuse(&self) {
        let why = self.slot.claimed(self.rest.get()..self.frame_end.get());
        while !self.is_over() {
            self.running().set_index(self.next.get());
            self.next.set(self.next.get() + 1);
            self.finish(tag::NO_MEMORY, &mut why.to_vec());
        }
    }

    /// The worker runs no more of the chunk.
    pub(super) fn close(&self) {
        if self.is_begun.get() {
            self.finish_stretch();
        }
    }

    /// Whether it runs no more. A worker that has once left a claim undone is not to claim again, since that would void it,
    /// whatever the parent thinks by then.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        if self.slot.is_dismissed() {
            self.is_leaving.set(true);
        }
        self.is_leaving.get()
    }

    #[inline]
    fn is_over(&self) -> bool {
        // One that is too large from the beginning still runs a task.
        if let Some(diet) = &self.diet
            && self.next.get() != self.header.get().first
            && diet.borrow_mut().is_over()
        {
            self.is_leaving.set(true);
        }
        self.is_leaving() || self.next.get() == self.end.get() || self.running().is_stopped(self.header.get().job)
    }

    /// Begins a stretch; `false` if it is to be left.
    fn begin(&self) -> bool {
        match self.running().begin(self.header.get().job) {
            Verdict::Run => {
                self.is_begun.set(true);
                true
            }
            Verdict::Skip => false,
            Verdict::Condemned => exit::exit_now(CANNOT_SERVE),
        }
    }

    fn finish_stretch(&self) {
        self.is_begun.set(false);
        if !self.running().finish() {
            exit::exit_now(CANNOT_SERVE);
        }
    }

    fn commit_at_length(&self, tag: u32, answer: &mut Vec<u8>, gate: &Gate) {
        let tag = self.name_blocks(bounded(tag, answer));
        let named = self.named.borrow();
        if self.is_first.replace(false) {
            let Header { job, chunk, .. } = self.header.get();
            let id = Identity { job, chunk, index: self.index() }.encode();
            self.stream.write(tag | FIRST, &[&id, &named, answer], gate);
        } else {
            self.stream.write(tag, &[&named, answer], gate);
        }
    }

    /// Has the record say which blocks the result has.
    fn name_blocks(&self, tag: u32) -> u32 {
        let mut named = self.named.borrow_mut();
        named.clear();
        let given = self.buffers.take_given(tag == tag::VALUE);
        if given.is_empty() {
            return tag;
        }
        named.extend_from_slice(&(given.len() as u32).to_le_bytes());
        given.iter().for_each(|block| named.extend_from_slice(&block.to_le_bytes()));
        tag | BLOCKS
    }

    #[inline]
    fn running(&self) -> &Running {
        self.slot.running()
    }
}

/// A way through the tasks of a chunk behind the one at hand. All that is looked at for each is its own: what is behind a
/// cell would be loaded anew.
#[derive(Debug)]
pub struct Rest<'a> {
    tasks: &'a Tasks,
    slot: &'a Slot,
    running: &'a Running,
    job: u64,
    next: u32,
    end: u32,
    arguments: &'a [u8],
    writer: StreamWriter<'a>,
}

impl<'a> Rest<'a> {
    /// Commits what the task at hand gave, takes it out of `output`, and gives the argument of the next. `None`: there is none,
    /// or the outcome is no value, and it is still to be returned.
    #[inline]
    pub fn next(&mut self, tag: u32, output: &mut Vec<u8>) -> Option<&'a [u8]> {
        if tag != tag::VALUE {
            return None;
        }
        let next = self.take()?;
        if self.is_special() || !self.writer.write_value(output) {
            self.commit_at_length(output);
        }
        output.clear();
        Some(self.begin(next))
    }

    /// The same for a value that is a word; `output` is empty, and stays so.
    #[inline]
    pub fn next_by_word(&mut self, word: Word, output: &mut Vec<u8>) -> Option<&'a [u8]> {
        let next = self.take()?;
        if self.is_special() || !self.writer.write_word(word) {
            word.append(output);
            self.commit_at_length(output);
            output.clear();
        }
        Some(self.begin(next))
    }

    /// The argument of the next task, if it is to run here.
    #[inline]
    fn take(&mut self) -> Option<&'a [u8]> {
        if self.next == self.end || self.slot.is_dismissed() || self.running.is_stopped(self.job) {
            return None;
        }
        // The engine finds out what is wrong with a frame that is malformed.
        Some(record::take(&mut self.arguments)?.1)
    }

    #[inline]
    fn begin(&mut self, next: &'a [u8]) -> &'a [u8] {
        self.running.set_index(self.next);
        self.next += 1;
        next
    }

    /// Whether more is to be written than the value.
    #[inline]
    fn is_special(&self) -> bool {
        self.tasks.is_first.get() || self.tasks.buffers.has_given()
    }

    #[cold]
    fn commit_at_length(&mut self, output: &mut Vec<u8>) {
        self.tasks.next.set(self.next);
        self.tasks.commit_at_length(tag::VALUE, output, self.tasks.control.result_gate());
        self.writer = self.tasks.stream.writer();
    }
}

/// Whichever way it ends, and be it a panic of the task at hand, the engine goes on where it has come to.
impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.tasks.next.set(self.next);
        self.tasks.rest.set(self.tasks.frame_end.get() - self.arguments.len());
    }
}

/// A frame holds what no task handler writes.
#[derive(Debug)]
pub(super) struct Malformed;

/// A result that no stream can take is an error of its task, like one that does not encode.
fn bounded(tag: u32, answer: &mut Vec<u8>) -> u32 {
    const MOST: usize = MAX_RECORD - 64;
    if answer.len() <= MOST {
        return tag;
    }
    let text = format!("it takes {} bytes, and a result may take {MOST}", answer.len());
    *answer = text.into_bytes();
    tag::UNENCODABLE
}
