//! The worker: claims frames from the task ring and runs their tasks, whose results go into its
//! stream. This is the main loop of a worker process, in its only thread.
//!
//! It claims no more at once than a fair share of what is queued, and no more than it will likely
//! finish soon, so that little waits behind a task that takes long. The parent takes back tasks
//! that wait too long.

use std::io::{self, ErrorKind};
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_shm::{ClaimLimit, Control, Meter, Phase, Slot, Spin};
use procession_sys::image::{BuildId, Entry, SameImage};
use procession_sys::link::Link;
use procession_sys::thread::ignore_interrupt;

use super::carrier::Way;
use super::chunk::{CANNOT_SERVE, Chunk, ChunkEntry, ChunkFn};
use super::context::{Contexts, Propagation};
use super::frame::Header;
use super::handle_broker::{Asker, NO_JOB};
use super::memory::Memory;
use super::result_blocks::ResultBlocks;
use super::seal::Seal;
use super::trace;
use crate::beside::{self, Ask};
use crate::confinement::{Confinement, Keeper};
use crate::handle;
use crate::observe::monotonic_nanos;
use crate::outcome::{self, tag};
use crate::output::{Entering, Output, Records};

/// The terms on which the workers of a pool serve.
#[derive(Debug, Default)]
pub struct Service {
    /// Called once in each worker before its first task.
    pub initializer: Option<Initializer>,
    /// Chunks that a worker runs before it makes way for a fresh one.
    pub max_tasks: Option<NonZeroU32>,
    /// Bytes of memory of its own that a worker may have after a task: with more it makes way for a
    /// fresh one.
    pub max_memory: Option<NonZeroU64>,
    /// True if Ctrl-C leaves the workers alone. A face that starts workers its own way sees to it.
    pub ignores_interrupt: bool,
    /// The resources and rights that are left to the workers, once they are ready.
    pub confinement: Confinement,
    /// The place where their output goes.
    pub output: Output,
    /// The settings for records that their code sends.
    pub records: Option<Records>,
    /// Around calls of the callbacks of both.
    pub entering: Option<Entering>,
    /// True if each leads a process group of its own, which ends with it.
    pub leads_group: bool,
    /// The context that goes beside jobs to their tasks.
    pub propagation: Option<Propagation>,
    /// True if they seal their results: see `seal.rs`.
    pub is_sealed: bool,
    /// True if they measure how they spend their time: see `meters.rs`.
    pub measures: bool,
    /// True if large buffers of arguments and results travel inside of them, and handles not at
    /// all: for what goes on to another machine, or has come from one.
    pub is_inline: bool,
    /// True if no worker is started in the place of one that has ended.
    pub is_final: bool,
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
pub(crate) fn run(
    control: &Arc<Control>,
    slot: u32,
    service: &Service,
    broker: Arc<Link>,
    link: &Link,
    confinement: &Confinement,
    seal: Option<Seal>,
) -> i32 {
    if service.ignores_interrupt {
        ignore_interrupt();
    }
    match service.initializer.as_ref().and_then(|initializer| initialize(initializer, link)) {
        Some(code) => code,
        None => {
            let refuse = |why: String| refuse(link, tag::UNCONFINED, why.as_bytes());
            serve_confined(control, slot, service, broker, (confinement, seal), None, refuse)
        }
    }
}

/// Serves until the pool is closed and no task is left. A face that starts workers its own way
/// calls it in them, once they are ready; it returns the exit code.
pub fn serve(control: &Arc<Control>, slot: u32, service: &Service, broker: Arc<Link>) -> i32 {
    let refuse = |why| eprintln!("procession: worker {slot} cannot be confined: {why}");
    serve_confined(control, slot, service, broker, (&service.confinement, None), None, refuse)
}

/// As [`serve`], in the thread of a worker whose tasks run elsewhere.
pub(super) fn serve_carried(
    control: &Arc<Control>,
    slot: u32,
    service: &Service,
    broker: Arc<Link>,
    way: &mut Way,
) -> i32 {
    let refuse = |why| eprintln!("procession: worker {slot} cannot be confined: {why}");
    let service = Service { max_tasks: service.max_tasks, ..Service::default() };
    serve_confined(control, slot, &service, broker, (&service.confinement, None), Some(way), refuse)
}

/// As [`serve`], under a confinement. If the worker cannot be confined, calls `refuse` with the
/// reason.
fn serve_confined(
    control: &Arc<Control>,
    slot: u32,
    service: &Service,
    broker: Arc<Link>,
    (confinement, seal): (&Confinement, Option<Seal>),
    way: Option<&mut Way>,
    refuse: impl FnOnce(String),
) -> i32 {
    if slot as usize >= control.room() {
        eprintln!("procession: worker {slot} cannot begin: the pool has no such slot");
        return CANNOT_SERVE;
    }
    if let Err(error) = control.enter(slot as usize) {
        eprintln!("procession: worker {slot} cannot use the pool's shared memory: {error}");
        return CANNOT_SERVE;
    }
    let asker = Rc::new(Asker::new(broker));
    let buffers = Rc::new(ResultBlocks::new(control, slot, service.is_inline));
    let serve = |worker: Worker<'_>| {
        handle::asking(asker.clone(), || beside::within_buffers(buffers.clone(), || worker.serve()))
    };
    // A worker that is large is to leave before a task has to answer for it.
    let max_memory = confinement.limits.memory.and_then(NonZeroU64::new);
    let max_memory = service.max_memory.into_iter().chain(max_memory).min();
    let worker = Worker::new(control, slot, service.max_tasks, max_memory, seal, &asker, &buffers, way);
    // Now that it has opened what it needs.
    if let Err(error) = confine(confinement) {
        refuse(error.to_string());
        return CANNOT_SERVE;
    }
    let served = worker.map(serve);
    asker.values().clear();
    match served {
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
            payload.extend_from_slice(NOT_LOADED);
            tag::UNDECODABLE
        }
    };
    if tag == tag::VALUE {
        return None;
    }
    refuse(link, tag, &payload);
    Some(CANNOT_SERVE)
}

/// The reason why a function is not called. The pool refuses one that no process could find.
const NOT_LOADED: &[u8] =
    b"the function is in a shared object that this worker has not loaded: make the pool after the \
    object was loaded and one of its functions was used";
/// Tells the pool why this worker does not begin.
fn refuse(link: &Link, tag: u32, payload: &[u8]) {
    if let Err(error) = outcome::send_returned(link, tag, payload) {
        eprintln!("procession: cannot tell the pool why a worker does not begin: {error}");
    }
}

fn confine(confinement: &Confinement) -> io::Result<()> {
    if let Some(most) = confinement.limits.memory {
        let own = Memory::of_self()?.own();
        if own > most {
            let text = format!(
                "it has {own} bytes of memory before its first task, and may have {most}: give it more, or start it by \
                 `spawn` or `forkserver`, which inherit nothing"
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
    }
    confinement.apply(Keeper::Pool)
}

struct Worker<'a> {
    control: &'a Control,
    index: u32,
    slot: &'a Slot,
    parent: u32,
    spin: Spin,
    last_wait: Wait,
    pace: Pace,
    /// Chunks left to run.
    left: Option<u32>,
    proof: SameImage,
    /// The entry looked up last, since a job's frames all name the same.
    known: Option<(u64, ChunkFn)>,
    asker: &'a Asker,
    buffers: &'a ResultBlocks,
    chunk: Chunk,
    contexts: Contexts,
    /// In a pool that measures.
    meter: Option<Rc<Meter>>,
    /// The way to its tasks, if they run elsewhere.
    way: Option<&'a mut Way>,
}

/// The last wait of a worker for tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// The worker has run tasks since.
    Over,
    /// It ended with news. The worker has run nothing since, as before its first wait.
    Found,
    /// It ended without news.
    InVain,
}

impl<'a> Worker<'a> {
    #[expect(clippy::too_many_arguments, reason = "the parts of a worker")]
    fn new(
        control: &'a Arc<Control>,
        index: u32,
        max_tasks: Option<NonZeroU32>,
        max_memory: Option<NonZeroU64>,
        seal: Option<Seal>,
        asker: &'a Rc<Asker>,
        buffers: &'a Rc<ResultBlocks>,
        way: Option<&'a mut Way>,
    ) -> Result<Worker<'a>, &'static str> {
        let meter = control.meter(index as usize, monotonic_nanos).map(Rc::new);
        Ok(Worker {
            control,
            index,
            slot: control.slot(index as usize),
            parent: parent_id(),
            spin: control.spin(),
            last_wait: Wait::Found,
            pace: Pace::default(),
            left: max_tasks.map(NonZeroU32::get),
            proof: BuildId::current().same_image().ok_or("this image has no identity")?,
            known: None,
            asker,
            buffers,
            chunk: Chunk::new(control, index, max_memory, buffers, asker, seal, meter.clone(), way.is_some()),
            contexts: Contexts::default(),
            meter,
            way,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        self.slot.set_ready();
        if let Some(meter) = &self.meter {
            meter.set_ready();
        }
        trace::ready(self.index);
        loop {
            if self.has_departed() {
                return Ok(());
            }
            let is_to_leave = self.is_to_leave();
            if !is_to_leave && self.claim()? {
                self.run_claimed()?;
            } else if is_to_leave || self.control.is_closed() {
                self.slot.set_finished();
                self.enter(Phase::Over);
                return Ok(());
            } else {
                self.wait();
                if self.way.is_none() && parent_id() != self.parent {
                    // The kernel has not told, because a task has closed the link: there is nobody
                    // to serve.
                    return Ok(());
                }
            }
        }
    }

    fn wait(&mut self) {
        // The time for which an orphan that the kernel has not ended may wait here.
        const LOOK_UP: Duration = Duration::from_secs(5);
        let (control, slot) = (self.control, self.slot);
        // It has nothing, whatever a stray write says: else the parent would not find that tasks
        // are lost.
        slot.finish_claim();
        let departs = self.way.as_deref().map(Way::watch);
        let departs = || departs.as_ref().is_some_and(|departs| departs());
        let news = || !control.tasks().looks_empty() || control.is_closed() || slot.is_dismissed() || departs();
        let finds = match self.last_wait {
            Wait::Over => control.search().look(self.index, &self.spin, &self.spin.lingering(), news),
            Wait::Found => control.search().look(self.index, &self.spin, &Spin::none(), news),
            // It sleeps at once.
            Wait::InVain => false,
        };
        if !finds {
            // The fds of a channel's senders tell when it ends: a worker that sleeps has none.
            self.asker.set_job(NO_JOB);
        }
        let sleep_finds = || control.task_gate().wait_until(Some(Instant::now() + LOOK_UP), &Spin::none(), news);
        if finds || sleep_finds() {
            self.last_wait = Wait::Found;
        } else {
            self.last_wait = Wait::InVain;
            // Refused the memory stays in use, as before.
            let _ = self.buffers.trim();
            self.asker.values().clear();
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
        drop(ring);
        let has_claimed = claimed? > 0;
        if has_claimed && self.last_wait != Wait::Over && !self.control.tasks().looks_empty() {
            // Another process may have pushed these tasks after this worker looked, and woken
            // nobody.
            self.control.task_gate().wake(1);
        }
        Ok(has_claimed)
    }

    fn run_claimed(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let mut frames = 0;
        // The parent gives the rest of a claim to others if this worker is to leave in the middle
        // of it.
        while !self.is_to_leave()
            && !self.has_departed()
            && let Some(frame) = self.slot.begin_next()?
        {
            self.run_frame(frame)?;
            frames += 1;
        }
        if self.has_departed() {
            // The parent accounts for what is left.
            return Ok(());
        }
        self.enter(Phase::Waiting);
        self.last_wait = Wait::Over;
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
        if self.chunk.is_skipped() {
            // Its entry would decode the job's state, which nobody could stop.
        } else if let Some(why) = self.chunk.refusal() {
            self.chunk.refuse(tag::NO_MEMORY, &why);
        } else if let Some(way) = self.way.as_deref_mut() {
            self.chunk.carry(way);
        } else {
            self.asker.set_job(header.job);
            match self.entry(header.entry) {
                Some(entry) if header.has_context => {
                    let (contexts, chunk) = (&mut self.contexts, &mut self.chunk);
                    contexts.within(header.job, self.asker, || entry(chunk));
                }
                Some(entry) => entry(&mut self.chunk),
                None => self.chunk.refuse(tag::UNDECODABLE, NOT_LOADED),
            }
        }
        if self.chunk.close() { Ok(()) } else { Err(torn()) }
    }

    fn enter(&self, phase: Phase) {
        if let Some(meter) = &self.meter {
            meter.enter(phase);
        }
    }

    /// Returns whether the process where its tasks run has ended, or is about to be.
    fn has_departed(&self) -> bool {
        self.chunk.is_stopped() || self.way.as_deref().is_some_and(Way::is_over)
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

/// The time that frames take of late, which decides how many to claim at once.
#[derive(Debug, Default)]
struct Pace {
    frame: Option<Duration>,
}

impl Pace {
    // The most time, frames and bytes that one claim may hold back from other workers.
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
