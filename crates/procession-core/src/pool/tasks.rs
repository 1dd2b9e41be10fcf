//! The worker's way through a chunk: which task is next, what is written before and after it, and where its result goes. In
//! the worker's only thread.
//!
//! An entry answers the task that it is called with. It may go on by itself, through [`Tasks::each`]: then the loop over a
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

use procession_shm::{Control, Gate, MAX_RECORD, Running, Slot, Stream, Verdict, record};
use procession_sys::exit;

use super::blocks::Serving;
use super::frame::{Header, Identity};
use super::memory::Diet;
use super::worker::{BLOCKS, CANNOT_SERVE, FIRST};
use crate::outcome::tag;

/// A worker's tasks.
#[derive(Debug)]
pub struct Tasks {
    control: Arc<Control>,
    slot: Slot,
    stream: Stream,
    buffers: Rc<Serving>,
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
    pub(super) fn new(control: &Arc<Control>, slot: u32, most: Option<NonZeroU64>, buffers: &Rc<Serving>) -> Tasks {
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

    /// Has `answer` answer the task at hand, which has this argument, and those behind it as long as each answer is a value.
    /// What it gives, and leaves in `output`, is the last one's and still to be returned.
    #[inline]
    pub fn each(
        &self,
        argument: &[u8],
        output: &mut Vec<u8>,
        mut answer: impl FnMut(&[u8], &mut Vec<u8>) -> u32,
    ) -> u32 {
        let mut tag = answer(argument, output);
        let Header { job, is_limited, .. } = self.header.get();
        if is_limited || self.diet.is_some() || cfg!(feature = "tracing") {
            return tag;
        }
        // All that is looked at for each task is in locals: what is behind a cell would be loaded anew.
        let (slot, running, gate) = (&self.slot, self.slot.running(), self.control.result_gate());
        let (mut next, end) = (self.next.get(), self.end.get());
        let (rest, frame_end) = (self.rest.get(), self.frame_end.get());
        let mut arguments = slot.claimed(rest..frame_end);
        let mut writer = self.stream.writer();
        while tag == tag::VALUE && next != end && !slot.is_dismissed() && !running.is_stopped(job) {
            // The engine finds out what is wrong with a frame that is malformed.
            let Some((_, argument)) = record::take(&mut arguments) else { break };
            if self.is_first.get() || self.buffers.has_given() || !writer.write_value(output) {
                self.commit_at_length(tag, output, gate);
                writer = self.stream.writer();
            }
            output.clear();
            running.set_index(next);
            next += 1;
            self.next.set(next);
            self.rest.set(frame_end - arguments.len());
            tag = answer(argument, output);
        }
        tag
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
        if !header.is_limited && !self.begin() {
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
        if self.header.get().is_limited && !self.begin() {
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

    /// Says how the task at hand ended.
    pub(super) fn finish(&self, tag: u32, answer: &mut Vec<u8>) {
        if self.header.get().is_limited {
            self.finish_stretch();
        }
        self.commit_at_length(tag, answer, self.control.result_gate());
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
