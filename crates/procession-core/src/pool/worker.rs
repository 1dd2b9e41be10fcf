//! The worker: claims frames from the task ring and runs their tasks, whose results go into its
//! stream. This is the main loop of a worker process, in its only thread.
//!
//! It claims no more at once than a fair share of what is queued, and no more than it will likely
//! finish soon, so that little waits behind a task that takes long. What does wait too long the
//! parent takes back.

use std::io::{self, ErrorKind};
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_shm::{ClaimLimit, Control, Slot, Spin};
use procession_sys::image::{BuildId, Entry, SameImage};
use procession_sys::link::Link;

use super::blocks;
use super::chunk::{CANNOT_SERVE, Chunk, ChunkEntry, ChunkFn};
use super::frame::Header;
use super::handle_broker::Asker;
use super::result_blocks::ResultBlocks;
use super::trace;
use crate::handle;
use crate::outcome::{self, tag};

/// How the workers of a pool serve.
#[derive(Debug, Default)]
pub struct Service {
    /// Called once in each worker before its first task.
    pub initializer: Option<Initializer>,
    /// Chunks that a worker runs before it makes way for a fresh one.
    pub max_tasks: Option<NonZeroU32>,
    /// Bytes of memory of its own that a worker may have after a task: with more it makes way for a
    /// fresh one.
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

/// As [`serve`], in a process of the engine's own, once the initializer has been called. Returns
/// the exit code.
pub(crate) fn run(control: &Arc<Control>, slot: u32, service: &Service, broker: Arc<Link>, link: &Link) -> i32 {
    match service.initializer.as_ref().and_then(|initializer| initialize(initializer, link)) {
        Some(code) => code,
        None => serve(control, slot, service, broker),
    }
}

/// Serves until the pool is closed and no task is left. A face that starts workers its own way
/// calls it in them, once they are ready; it returns the exit code.
pub fn serve(control: &Arc<Control>, slot: u32, service: &Service, broker: Arc<Link>) -> i32 {
    if slot as usize >= control.room() {
        eprintln!("procession: worker {slot} cannot begin: the pool has no such slot");
        return CANNOT_SERVE;
    }
    if let Err(error) = control.enter(slot as usize) {
        eprintln!("procession: worker {slot} cannot use the pool's shared memory: {error}");
        return CANNOT_SERVE;
    }
    let asker = Rc::new(Asker::new(broker));
    let buffers = Rc::new(ResultBlocks::new(control, slot));
    let serve =
        |worker: Worker<'_>| handle::asking(asker.clone(), || blocks::within(buffers.clone(), || worker.serve()));
    match Worker::new(control, slot, service, &asker, &buffers).map(serve) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            if error.kind() == io::ErrorKind::InvalidData {
                control.slot(slot as usize).set_overwritten();
            }
            eprintln!("procession: worker {slot} cannot use the pool's shared memory: {error}");
            CANNOT_SERVE
        }
        Err(why) => {
            eprintln!("procession: worker {slot} cannot begin: {why}");
            CANNOT_SERVE
        }
    }
}

/// Calls the initializer; the exit code if the worker is not to go on, its outcome then being on
/// the link.
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
    /// Nothing came in the wait before this.
    is_idle: bool,
    pace: Pace,
    /// Chunks left to run.
    left: Option<u32>,
    proof: SameImage,
    /// The entry looked up last, since a job's frames all name the same.
    known: Option<(u64, ChunkFn)>,
    asker: &'a Asker,
    buffers: &'a ResultBlocks,
    chunk: Chunk,
}

impl<'a> Worker<'a> {
    fn new(
        control: &'a Arc<Control>,
        index: u32,
        service: &Service,
        asker: &'a Asker,
        buffers: &'a Rc<ResultBlocks>,
    ) -> Result<Worker<'a>, &'static str> {
        Ok(Worker {
            control,
            index,
            slot: control.slot(index as usize),
            parent: parent_id(),
            spin: Spin::new(control.used_slots() + 1),
            is_idle: false,
            pace: Pace::default(),
            left: service.max_tasks.map(NonZeroU32::get),
            proof: BuildId::current().same_image().ok_or("this image has no identity")?,
            known: None,
            asker,
            buffers,
            chunk: Chunk::new(control, index, service.max_memory, buffers),
        })
    }

    fn serve(mut self) -> io::Result<()> {
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
                    // The kernel has not told, because a task has closed the link: there is nobody
                    // to serve.
                    return Ok(());
                }
            }
        }
    }

    fn wait(&mut self) {
        // How long an orphan that the kernel has not ended may sit here.
        const LOOK_UP: Duration = Duration::from_secs(5);
        let (control, slot) = (self.control, self.slot);
        // It has nothing, whatever a stray write says: else the parent would not find that tasks
        // are lost.
        slot.finish_claim();
        let news = || !control.tasks().looks_empty() || control.is_closed() || slot.is_dismissed();
        let spin = if self.is_idle { &Spin::none() } else { &self.spin };
        self.is_idle = !control.task_gate().wait_until(Some(Instant::now() + LOOK_UP), spin, news);
        if self.is_idle {
            // Refused the memory stays in use, as before.
            let _ = self.buffers.trim();
        }
    }

    fn claim(&mut self) -> io::Result<bool> {
        let ring = self.control.tasks();
        if ring.looks_empty() {
            return Ok(false);
        }
        let mut ring = ring.lock_for(self.index);
        let mut limit = self.pace.share(ring.len() as usize, self.control.used_slots());
        if let Some(left) = self.left {
            limit.max_frames = limit.max_frames.min(left as usize);
        }
        let claimed = match ring.claim(self.slot, limit) {
            // The tasks that it has no memory for end with that, and it goes on with others.
            Err(error) if is_for_want_of_memory(&error) => {
                let why = error.to_string();
                ring.claim_instead(self.slot, |frame| Header::refuse(frame, &why).unwrap_or_default())
            }
            claimed => claimed,
        };
        Ok(claimed? > 0)
    }

    fn run_claimed(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let mut frames = 0;
        // What it leaves of a claim when it is to leave itself, the parent gives to others.
        while !self.is_to_leave()
            && let Some(frame) = self.slot.begin_next()?
        {
            self.run_frame(frame)?;
            frames += 1;
        }
        self.pace.learn(frames, begun.elapsed());
        self.left = self.left.map(|left| left.saturating_sub(frames));
        // One that is to leave claims no more, and the parent finds what it leaves.
        if !self.is_to_leave() {
            self.slot.finish_claim();
            if self.slot.is_bulky() {
                self.control.tasks().lock_for(self.index).trim(self.slot)?;
            }
        }
        self.control.result_gate().wake(1);
        Ok(())
    }

    fn run_frame(&mut self, frame: Range<usize>) -> io::Result<()> {
        let header = self.chunk.open(frame).ok_or_else(torn)?;
        if let Some(why) = self.chunk.refusal() {
            self.chunk.refuse(tag::NO_MEMORY, &why);
        } else {
            self.asker.set_job(header.job);
            match self.entry(header.entry) {
                Some(entry) => entry(&mut self.chunk),
                None => self.chunk.refuse(tag::UNDECODABLE, b"the task's function is not in this program's code"),
            }
        }
        if self.chunk.close() { Ok(()) } else { Err(torn()) }
    }

    /// Between two tasks: whether this worker runs no more.
    fn is_to_leave(&mut self) -> bool {
        self.left == Some(0) || self.chunk.is_leaving()
    }

    fn entry(&mut self, raw: u64) -> Option<ChunkFn> {
        match self.known {
            Some((known, entry)) if known == raw => Some(entry),
            _ => {
                let entry = ChunkEntry::from_raw(raw).resolve(self.proof)?;
                self.known = Some((raw, entry));
                Some(entry)
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

fn is_for_want_of_memory(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::FileTooLarge | ErrorKind::StorageFull)
}

fn torn() -> std::io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame in the task ring is malformed")
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
