//! The worker: claims frames from the task ring, runs their items, commits each result to its stream. This is the main
//! loop of a worker process, in its only thread.
//!
//! It claims no more at once than a fair share of what is queued, and no more than it will likely finish soon, so that
//! little waits behind a task that takes long. What does wait too long the parent takes back.

use std::num::{NonZeroU32, NonZeroU64};
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_shm::{ClaimLimit, Control, MAX_RECORD, Slot, Spin, Verdict};
use procession_sys::exit;
use procession_sys::image::{BuildId, Entry, EntryFn, SameImage};
use procession_sys::link::Link;

use super::blocks::{self, Serving};
use super::desk::Asker;
use super::frame::{Header, Identity, next_item};
use super::memory::Diet;
use super::trace;
use crate::handle;
use crate::outcome::{self, tag};

/// Set in the tag of the first result of a chunk: the payload begins with job, chunk and index.
pub(super) const FIRST: u32 = 1 << 31;
/// Set in the tag of a result with large buffers: the rest of the payload begins with their number and their blocks.
pub(super) const BLOCKS: u32 = 1 << 30;

// What a worker that cannot serve exits with.
const CANNOT_SERVE: i32 = 70;

/// How the workers of a pool serve.
#[derive(Debug, Default)]
pub struct Service {
    /// Called once in each worker before its first task.
    pub initializer: Option<Initializer>,
    /// Chunks that a worker runs before it makes way for a fresh one.
    pub max_tasks: Option<NonZeroU32>,
    /// Bytes of memory of its own that a worker may have after a task: with more it makes way for a fresh one.
    pub max_memory: Option<NonZeroU64>,
}

/// A call that makes a worker ready.
#[derive(Debug)]
pub struct Initializer {
    /// Of the face.
    pub entry: Entry,
    /// In the codec of the face.
    pub argument: Vec<u8>,
    /// Of the handles in the argument.
    pub handles: Vec<OwnedFd>,
}

/// As [`serve`], in a process of the engine's own, once the initializer has been called. Returns the exit code.
pub(crate) fn run(control: &Control, slot: u32, service: &Service, desk: Arc<Link>, link: &Link) -> i32 {
    match service.initializer.as_ref().and_then(|initializer| initialize(initializer, link)) {
        Some(code) => code,
        None => serve(control, slot, service, desk),
    }
}

/// Serves until the pool is closed and no task is left. A face that starts workers its own way calls it in them, once they
/// are ready; it returns the exit code.
pub fn serve(control: &Control, slot: u32, service: &Service, desk: Arc<Link>) -> i32 {
    let asker = Rc::new(Asker::new(desk));
    let buffers = Rc::new(Serving::new(control, slot));
    let serve = |worker: Worker<'_>| handle::asking(asker.clone(), || blocks::serving(&buffers, || worker.serve()));
    match Worker::new(control, slot, service, &asker, &buffers).map(serve) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            eprintln!("procession: worker {slot} cannot use the pool's shared memory: {error}");
            CANNOT_SERVE
        }
        Err(why) => {
            eprintln!("procession: worker {slot} cannot begin: {why}");
            CANNOT_SERVE
        }
    }
}

/// Calls the initializer; the exit code if the worker is not to go on, its outcome then being on the link.
fn initialize(initializer: &Initializer, link: &Link) -> Option<i32> {
    let Initializer { entry, argument, handles } = initializer;
    let function = BuildId::current().same_image().and_then(|proof| entry.resolve(proof));
    let handles: Result<Vec<_>, _> = handles.iter().map(OwnedFd::try_clone).collect();
    let mut payload = Vec::new();
    let tag = match (function, handles) {
        (Some(function), Ok(handles)) => handle::receiving(handles, || function(argument, &mut payload)),
        (_, Err(error)) => {
            payload.extend_from_slice(error.to_string().as_bytes());
            tag::UNDECODABLE
        }
        (None, _) => {
            payload.extend_from_slice(b"the initializer is not in this program's code");
            tag::UNDECODABLE
        }
    };
    if tag == tag::VALUE {
        return None;
    }
    if let Err(error) = outcome::send_returned(link, tag, &payload) {
        eprintln!("procession: cannot tell the pool that its initializer failed: {error}");
    }
    Some(CANNOT_SERVE)
}

struct Worker<'a> {
    control: &'a Control,
    index: u32,
    slot: &'a Slot,
    parent: u32,
    spin: Spin,
    pace: Pace,
    /// Chunks left to run.
    left: Option<u32>,
    diet: Option<Diet>,
    proof: SameImage,
    /// The entry looked up last, since a job's frames all name the same.
    known: Option<(u64, EntryFn)>,
    output: Vec<u8>,
    asker: &'a Asker,
    buffers: &'a Serving,
    /// Of the blocks of a result, on their way into the stream.
    named: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(
        control: &'a Control,
        index: u32,
        service: &Service,
        asker: &'a Asker,
        buffers: &'a Serving,
    ) -> Result<Worker<'a>, &'static str> {
        if index as usize >= control.slots() {
            return Err("the pool has no such slot");
        }
        Ok(Worker {
            control,
            index,
            slot: control.slot(index as usize),
            parent: parent_id(),
            spin: Spin::new(control.slots() + 1),
            pace: Pace::default(),
            left: service.max_tasks.map(NonZeroU32::get),
            diet: service.max_memory.map(Diet::new),
            proof: BuildId::current().same_image().ok_or("this image has no identity")?,
            known: None,
            output: Vec::new(),
            asker,
            buffers,
            named: Vec::new(),
        })
    }

    fn serve(mut self) -> std::io::Result<()> {
        self.slot.set_ready();
        trace::ready(self.index);
        loop {
            let is_to_leave = self.is_to_leave();
            if !is_to_leave && self.claim()? {
                self.run_claimed()?;
            } else if is_to_leave || self.control.is_closed() {
                self.slot.set_finished();
                return Ok(());
            } else {
                self.wait();
                if parent_id() != self.parent {
                    // The kernel has not told, because a task has closed the link: there is nobody to serve.
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self) {
        // How long an orphan that the kernel has not ended may sit here.
        const LOOK_UP: Duration = Duration::from_secs(5);
        let (control, slot) = (self.control, self.slot);
        let news = || !control.tasks().is_empty() || control.is_closed() || slot.is_dismissed();
        if !control.task_gate().wait_until(Some(Instant::now() + LOOK_UP), &self.spin, news) {
            // Refused the memory stays in use, as before.
            let _ = self.buffers.trim();
        }
    }

    fn claim(&mut self) -> std::io::Result<bool> {
        let ring = self.control.tasks();
        if ring.is_empty() {
            return Ok(false);
        }
        let mut ring = ring.lock_head(self.index + 1)?;
        let mut limit = self.pace.share(ring.len() as usize, self.control.slots());
        if let Some(left) = self.left {
            limit.max_frames = limit.max_frames.min(left as usize);
        }
        Ok(ring.claim(self.slot, limit)? > 0)
    }

    fn run_claimed(&mut self) -> std::io::Result<()> {
        let begun = Instant::now();
        let mut frames = 0;
        // What it leaves of a claim when it is to leave itself, the parent gives to others.
        while !self.is_to_leave()
            && let Some(frame) = self.slot.begin_next()
        {
            self.run_frame(frame)?;
            frames += 1;
        }
        self.pace.learn(frames, begun.elapsed());
        self.left = self.left.map(|left| left.saturating_sub(frames));
        if self.left != Some(0) && self.slot.is_bulky() {
            self.control.tasks().lock_head(self.index + 1)?.trim(self.slot)?;
        }
        self.control.result_gate().wake(1);
        Ok(())
    }

    fn run_frame(&mut self, frame: &[u8]) -> std::io::Result<()> {
        let Some((header, mut items)) = Header::parse(frame) else { return Err(torn()) };
        let function = self.function(header.entry);
        self.asker.set_job(header.job);
        let stream = self.control.stream(self.index as usize);
        let gate = self.control.result_gate();
        for index in header.first..header.first + header.count {
            let item = next_item(&mut items).ok_or_else(torn)?;
            self.slot.running().set_index(index);
            match self.slot.running().begin(header.job) {
                Verdict::Run => {}
                // The rest of the chunk is of the same job.
                Verdict::Skip => break,
                Verdict::Condemned => exit::exit_now(CANNOT_SERVE),
            }
            self.output.clear();
            let tag = match function {
                Some(function) => {
                    let _span = trace::task(header.job, index);
                    function(item, &mut self.output)
                }
                None => {
                    self.output.extend_from_slice(b"the task's function is not in this program's code");
                    tag::UNDECODABLE
                }
            };
            let tag = self.bounded(tag);
            let tag = self.name_blocks(tag);
            if !self.slot.running().finish() {
                exit::exit_now(CANNOT_SERVE);
            }
            if index == header.first {
                let id = Identity { job: header.job, chunk: header.chunk, index }.encode();
                stream.write(tag | FIRST, &[&id, &self.named, &self.output], gate);
            } else {
                stream.write(tag, &[&self.named, &self.output], gate);
            }
            if self.diet.as_mut().is_some_and(Diet::is_over) {
                self.left = Some(0);
            }
            if self.is_to_leave() {
                break;
            }
        }
        // A large result is not kept for the next one.
        self.output.shrink_to(1 << 20);
        Ok(())
    }

    /// Between two tasks: whether this worker runs no more. A worker that has once left a claim undone is not to claim
    /// again, since that would void it, whatever the parent thinks by then.
    fn is_to_leave(&mut self) -> bool {
        if self.slot.is_dismissed() {
            self.left = Some(0);
        }
        self.left == Some(0)
    }

    /// A result that no stream can take is an error of its task, like one that does not encode.
    fn bounded(&mut self, tag: u32) -> u32 {
        const MOST: usize = MAX_RECORD - 64;
        if self.output.len() <= MOST {
            return tag;
        }
        let text = format!("it takes {} bytes, and a result may take {MOST}", self.output.len());
        self.output = text.into_bytes();
        tag::UNENCODABLE
    }

    /// Has the record say which blocks the result has.
    fn name_blocks(&mut self, tag: u32) -> u32 {
        self.named.clear();
        let given = self.buffers.take_given(tag == tag::VALUE);
        if given.is_empty() {
            return tag;
        }
        self.named.extend_from_slice(&(given.len() as u32).to_le_bytes());
        given.iter().for_each(|block| self.named.extend_from_slice(&block.to_le_bytes()));
        tag | BLOCKS
    }

    fn function(&mut self, entry: u64) -> Option<EntryFn> {
        match self.known {
            Some((known, function)) if known == entry => Some(function),
            _ => {
                let function = Entry::from_raw(entry).resolve(self.proof)?;
                self.known = Some((entry, function));
                Some(function)
            }
        }
    }
}

/// How long frames take of late, and so how many to claim at once.
#[derive(Debug, Default)]
struct Pace {
    frame: Option<Duration>,
}

impl Pace {
    // What a claim may hold back from other workers.
    const HOLD: Duration = Duration::from_micros(50);
    const MOST_FRAMES: usize = 64;
    const MOST_BYTES: usize = 64 * 1024;

    fn share(&self, queued: usize, workers: usize) -> ClaimLimit {
        let fair = (queued / (2 * workers)).clamp(1, Self::MOST_FRAMES);
        let quick = match self.frame {
            None => 1,
            Some(frame) => (Self::HOLD.as_nanos() / frame.as_nanos().max(1)).clamp(1, 1 << 20) as usize,
        };
        ClaimLimit { max_frames: fair.min(quick), max_bytes: Self::MOST_BYTES }
    }

    /// Slower at once, quicker by and by: one long frame is warning enough.
    fn learn(&mut self, frames: u32, elapsed: Duration) {
        if frames == 0 {
            return;
        }
        let mean = elapsed / frames;
        self.frame = Some(match self.frame {
            Some(frame) if mean < frame => (frame * 3 + mean) / 4,
            _ => mean,
        });
    }
}

fn torn() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "a frame in the task ring is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_claims_one_frame_until_it_knows_them_quick() {
        let mut pace = Pace::default();
        assert_eq!(pace.share(1000, 2).max_frames, 1);
        pace.learn(1, Duration::from_micros(1));
        assert_eq!(pace.share(1000, 2).max_frames, 50);
        assert_eq!(pace.share(8, 2).max_frames, 2);
        assert_eq!(pace.share(1, 2).max_frames, 1);
        pace.learn(50, Duration::from_millis(50));
        assert_eq!(pace.share(1000, 2).max_frames, 1);
    }
}
