//! The collector: the one thread of a pool, or of a process's handle, that reads what children
//! print. It begins with the first child and ends after the last, once its owner is gone.
//!
//! The children of a pool come and go. For each the thread watches up to four fds: the pipes of its
//! streams, that of its records, and the child's sentinel. A pipe's end is its end of file, or
//! [`GRACE`] after the child's end, whichever comes first.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use procession_sys::per_process::{PerProcess, fork_generation};
use procession_sys::poller::{Poller, Waker};
use procession_sys::stdio;
use procession_sys::thread::{as_program_thread, spawn_engine_thread};

use super::lines::Lines;
use super::records::{self, Recording, Records, Scope};
use super::{Entering, GRACE, Line, Output, Source, StreamName, Streams};
use crate::child::Child;
use crate::engine::engine;
use crate::{Error, Result};

/// The key of the waker. Those of children have a child's number in the upper bits.
const WAKER: u64 = u64::MAX;
/// The lower bits of a key: which fd of the child it is.
const FDS: u64 = 4;
const SENTINEL: u64 = 3;
/// The most bytes of one read, and the capacity of a pipe.
const READ_LEN: usize = 64 * 1024;
/// A child that writes small pieces one after the other need not wake the thread for each. After a
/// read of fewer bytes than this, within [`SOON`] of the last, the thread pauses for [`PAUSE`].
const SMALL_READ: usize = READ_LEN / 4;
const SOON: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_micros(500);
/// The most bytes that a pipe holds, unless root has enlarged it.
const MAX_PIPE_LEN: usize = 1 << 20;
/// The time for which a program's exit waits for the lines of children that have ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);

/// See the module.
pub struct Collector {
    shared: Arc<Shared>,
    generation: u64,
}

/// The reading ends of the pipes of a child that is about to start: of its two streams, and of its
/// records.
#[derive(Debug, Default)]
pub struct Capture([Option<OwnedFd>; 3]);

/// A pipe and what cuts the bytes that come out of it.
#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    cutter: Cutter,
}

#[derive(Debug)]
enum Cutter {
    Lines(StreamName, Lines),
    Records(records::Cutter),
}

/// While it exists, no code of the program runs in the collector's thread.
#[derive(Debug)]
pub struct Paused<'a> {
    _calling: Option<MutexGuard<'a, ()>>,
}

/// The state that the thread and its owner share.
struct Shared {
    output: Output,
    records: Option<Records>,
    entering: Option<Entering>,
    /// Of a pool.
    scope: OnceLock<Box<Scope>>,
    state: Mutex<State>,
    /// A child's output has come to its end, or the thread has.
    changed: Condvar,
    /// Held while the program's code runs.
    calling: Mutex<()>,
    thread: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct State {
    watch: Option<Arc<Watch>>,
    readers: HashMap<u64, Reader>,
    next: u64,
    /// Children whose output has not come to its end, the one that the thread has in hand too.
    live: usize,
    /// No further child comes.
    is_closed: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Watch {
    poller: Poller,
    waker: Waker,
}

/// A child whose pipes are read.
#[derive(Debug)]
struct Reader {
    source: Source,
    child: Arc<Child>,
    /// `None`: it has come to its end.
    pipes: [Option<Pipe>; 3],
    /// The time at which the pipes are given up, once the child has ended.
    until: Option<Instant>,
}

impl Collector {
    /// Of children whose output is to be treated so. Callbacks are called within `entering`.
    pub fn new(output: Output, records: Option<Records>, entering: Option<Entering>) -> Collector {
        let shared = Shared {
            output,
            records,
            entering,
            scope: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            calling: Mutex::new(()),
            thread: OnceLock::new(),
        };
        Collector { shared: Arc::new(shared), generation: fork_generation() }
    }

    /// Sets what runs code in the scope of a job. The first counts.
    pub fn set_scope(&self, scope: Box<Scope>) {
        // A pool sets one.
        let _ = self.shared.scope.set(scope);
    }

    /// Returns whether children are to have what their parent has, and send no records.
    pub fn is_idle(&self) -> bool {
        matches!(self.shared.output, Output::Inherit) && self.shared.records.is_none()
    }

    /// Makes the pipes of a child that is about to start. Returns what the child is to have, and
    /// the other ends.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn capture(&self) -> Result<(Option<Streams>, Option<Recording>, Capture)> {
        let capture = || -> io::Result<_> {
            let mut capture = Capture::default();
            let streams = match self.shared.output {
                Output::Inherit => None,
                Output::Null => Some(Streams::null()?),
                Output::Prefix | Output::Callback(_) => {
                    let (out_reader, out_writer) = stdio::pipe()?;
                    let (err_reader, err_writer) = stdio::pipe()?;
                    capture.0[0] = Some(out_reader);
                    capture.0[1] = Some(err_reader);
                    Some(Streams::new(out_writer, err_writer))
                }
            };
            let recording = match &self.shared.records {
                None => None,
                Some(Records { begin, argument, .. }) => {
                    let (reader, pipe) = stdio::pipe()?;
                    capture.0[2] = Some(reader);
                    Some(Recording { pipe, begin: *begin, argument: argument.clone() })
                }
            };
            Ok((streams, recording, capture))
        };
        capture().map_err(Error::os("cannot make the pipes for what a new process prints"))
    }

    /// Reads what the child prints and sends that was started with the other ends.
    ///
    /// # Errors
    ///
    /// If the thread or its epoll instance cannot be made.
    pub fn follow(&self, capture: Capture, slot: Option<usize>, child: &Arc<Child>) -> Result<()> {
        if capture.0.iter().all(Option::is_none) {
            return Ok(());
        }
        let source = Source { name: child.name().to_owned(), pid: child.pid(), slot };
        let [output, error, records] = capture.0;
        let lines = |stream| move |fd| Pipe { fd, cutter: Cutter::Lines(stream, Lines::default()) };
        let pipes = [
            output.map(lines(StreamName::Stdout)),
            error.map(lines(StreamName::Stderr)),
            records.map(|fd| Pipe { fd, cutter: Cutter::Records(records::Cutter::default()) }),
        ];
        let reader = Reader { source, child: child.clone(), pipes, until: None };
        self.shared.add(reader).map_err(Error::os(format!("cannot read what process {} prints", child.pid())))
    }

    /// Waits until all is delivered that children have printed which have ended. Of those that run
    /// on it waits for more until the deadline. Does not wait in the thread that delivers. Returns
    /// whether no more comes.
    pub fn finish(&self, deadline: Option<Instant>) -> bool {
        self.generation != fork_generation() || self.shared.finish(deadline)
    }

    /// Waits until no code of the program runs in the thread, and holds it back. For a fork, which
    /// would be refused beside it. In the thread itself it holds nothing back.
    pub fn pause(&self) -> Paused<'_> {
        let calling = || self.shared.calling.lock().unwrap_or_else(PoisonError::into_inner);
        Paused { _calling: (!self.shared.is_own_thread()).then(calling) }
    }

    /// As [`pause`](Self::pause); `None` while code of the program runs there.
    pub fn try_pause(&self) -> Option<Paused<'_>> {
        match self.shared.calling.try_lock() {
            Ok(calling) => Some(Paused { _calling: Some(calling) }),
            Err(TryLockError::Poisoned(poisoned)) => Some(Paused { _calling: Some(poisoned.into_inner()) }),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("output", &self.shared.output).finish_non_exhaustive()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // A thread that does not exist in a forked child may hold the lock, and its waker is the
        // parent's too.
        if self.generation != fork_generation() {
            return;
        }
        let mut state = self.shared.state();
        state.is_closed = true;
        if let Some(watch) = &state.watch {
            // Refused once the program has closed the engine's fds: then the thread has ended.
            let _ = watch.waker.wake();
        }
    }
}

impl Shared {
    /// Enters a child. The thread begins with the first.
    fn add(self: &Arc<Self>, reader: Reader) -> io::Result<()> {
        let mut state = self.state();
        let watch = match &state.watch {
            Some(watch) => watch.clone(),
            None => {
                let watch = Arc::new(Watch { poller: Poller::new()?, waker: Waker::new()? });
                watch.poller.add(watch.waker.as_fd(), WAKER)?;
                let (shared, its) = (self.clone(), watch.clone());
                spawn_engine_thread("output", move || shared.run(&its))?;
                finish_at_exit(self).map_err(io::Error::other)?;
                state.watch.insert(watch).clone()
            }
        };
        let number = state.next;
        state.next += 1;
        for (index, pipe) in reader.pipes.iter().enumerate() {
            if let Some(pipe) = pipe {
                watch.poller.add(pipe.fd.as_fd(), number * FDS + index as u64)?;
            }
        }
        watch.poller.add(reader.child.sentinel(), number * FDS + SENTINEL)?;
        state.readers.insert(number, reader);
        state.live += 1;
        Ok(())
    }

    fn finish(&self, deadline: Option<Instant>) -> bool {
        if self.is_own_thread() {
            return true;
        }
        let mut state = self.state();
        while state.live > 0 && !state.has_ended {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return false,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    fn run(&self, watch: &Watch) {
        let _ = self.thread.set(thread::current().id());
        let mut buffer = vec![0; READ_LEN];
        let mut keys = Vec::new();
        let mut last = None;
        // Refused once the program has closed the engine's fds.
        while watch.poller.wait(&mut keys, self.next_look()).is_ok() {
            let is_soon = last.is_some_and(|last: Instant| last.elapsed() < SOON);
            let mut most = 0;
            for key in keys.drain(..) {
                if key == WAKER {
                    let _ = watch.waker.drain();
                } else {
                    most = most.max(self.read(watch, key, &mut buffer));
                }
            }
            self.give_up_late(watch, &mut buffer);
            if is_soon && (1..SMALL_READ).contains(&most) {
                thread::sleep(PAUSE);
            }
            last = Some(Instant::now());
            let state = self.state();
            if state.is_closed && state.live == 0 {
                break;
            }
        }
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    /// Returns the time until pipes of a child that has ended are given up.
    fn next_look(&self) -> Option<Duration> {
        let first = self.state().readers.values().filter_map(|reader| reader.until).min();
        first.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Reads once from what is ready, and returns how much. The reader is in this thread's hands
    /// meanwhile, as the program's code runs.
    fn read(&self, watch: &Watch, key: u64, buffer: &mut [u8]) -> usize {
        let number = key / FDS;
        let Some(mut reader) = self.state().readers.remove(&number) else { return 0 };
        let len = match key % FDS {
            SENTINEL => {
                let _ = watch.poller.remove(reader.child.sentinel());
                reader.until = Some(Instant::now() + GRACE);
                0
            }
            index => self.read_pipe(watch, &mut reader, index as usize, buffer),
        };
        self.put_back(number, reader);
        len
    }

    fn read_pipe(&self, watch: &Watch, reader: &mut Reader, index: usize, buffer: &mut [u8]) -> usize {
        let Reader { source, pipes, .. } = reader;
        let Some(Pipe { fd, cutter }) = &mut pipes[index] else { return 0 };
        let read = stdio::read_now(fd.as_fd(), buffer);
        let goes_on = match read {
            Ok(None) => true,
            Ok(Some(len)) if len > 0 => match cutter {
                Cutter::Lines(stream, lines) => {
                    let stream = *stream;
                    self.deliver_lines(|deliver| {
                        lines.add(&buffer[..len], |bytes, is_whole| deliver(source, stream, bytes, is_whole));
                    });
                    true
                }
                Cutter::Records(records) => self.deliver_records(source, records, &buffer[..len]),
            },
            // Its end, or the program has closed it.
            Ok(Some(_)) | Err(_) => false,
        };
        if !goes_on {
            self.end_pipe(watch, reader, index);
        }
        read.ok().flatten().unwrap_or(0)
    }

    /// Reads what is in the pipes of children that have ended long ago, and lets go of them.
    fn give_up_late(&self, watch: &Watch, buffer: &mut [u8]) {
        let now = Instant::now();
        let is_late = |reader: &Reader| reader.until.is_some_and(|until| until <= now);
        let late: Vec<u64> =
            self.state().readers.iter().filter(|(_, reader)| is_late(reader)).map(|(number, _)| *number).collect();
        for number in late {
            let Some(mut reader) = self.state().readers.remove(&number) else { continue };
            for index in 0..reader.pipes.len() {
                // As much as a pipe can hold. Others may have it, and write for ever.
                let mut total = 0;
                while total < MAX_PIPE_LEN
                    && let len @ 1.. = self.read_pipe(watch, &mut reader, index, buffer)
                {
                    total += len;
                }
                self.end_pipe(watch, &mut reader, index);
            }
            self.put_back(number, reader);
        }
    }

    fn end_pipe(&self, watch: &Watch, reader: &mut Reader, index: usize) {
        let Some(Pipe { fd, cutter }) = reader.pipes[index].take() else { return };
        let _ = watch.poller.remove(fd.as_fd());
        let source = &reader.source;
        match cutter {
            Cutter::Lines(stream, mut lines) => self.deliver_lines(|deliver| {
                lines.finish(|bytes, is_whole| deliver(source, stream, bytes, is_whole));
            }),
            Cutter::Records(_) => {
                if let Some(ended) = self.records.as_ref().and_then(|records| records.ended.as_ref()) {
                    self.call(|| drop(panic::catch_unwind(AssertUnwindSafe(|| ended(source)))));
                }
            }
        }
    }

    fn put_back(&self, number: u64, reader: Reader) {
        let is_over = reader.pipes.iter().all(Option::is_none) && reader.until.is_some();
        let mut state = self.state();
        if is_over {
            state.live -= 1;
            self.changed.notify_all();
        } else {
            state.readers.insert(number, reader);
        }
    }

    /// Has `cut` give lines, each to what the output is for.
    fn deliver_lines(&self, cut: impl FnOnce(&mut dyn FnMut(&Source, StreamName, &[u8], bool))) {
        match &self.output {
            Output::Callback(callback) => self.call(|| {
                cut(&mut |source, stream, bytes, is_whole| {
                    let line = Line { source, stream, bytes, is_whole };
                    // Its message is printed by the panic hook, as a thread's is.
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| callback(&line)));
                });
            }),
            Output::Prefix => {
                let mut printing = Printing::default();
                cut(&mut |source, stream, bytes, _| printing.add(source, stream, bytes));
                printing.flush();
            }
            Output::Inherit | Output::Null => {}
        }
    }

    /// Returns whether what has come is records.
    fn deliver_records(&self, source: &Source, cutter: &mut records::Cutter, bytes: &[u8]) -> bool {
        let Some(Records { callback, .. }) = &self.records else { return false };
        let mut goes_on = true;
        self.call(|| {
            goes_on = cutter.add(bytes, |record| {
                let scope: &Scope = self.scope.get().map_or(&|_, act| act(), |scope| scope);
                let _ = panic::catch_unwind(AssertUnwindSafe(|| callback(source, record, scope)));
            });
        });
        goes_on
    }

    /// Runs what calls the program's code.
    fn call(&self, act: impl FnOnce()) {
        let _calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut act = Some(act);
        let mut run = || act.take().into_iter().for_each(|act| act());
        as_program_thread(|| match &self.entering {
            Some(entering) => entering.run(&mut run),
            None => run(),
        });
    }

    fn is_own_thread(&self) -> bool {
        self.thread.get().is_some_and(|own| *own == thread::current().id())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The collectors of this process whose threads have begun. `None`: there was none yet.
static RUNNING: PerProcess<Mutex<Option<Vec<Weak<Shared>>>>> = PerProcess::new(Mutex::default);

/// Waits until all is delivered that the children of this process have printed, for no more than a
/// few seconds. The engine calls it at the process's exit. A face calls it before, if its callbacks
/// cannot run then any more.
pub fn finish_all() {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    let running = RUNNING.get().lock().unwrap_or_else(PoisonError::into_inner).clone();
    for collector in running.iter().flatten().filter_map(Weak::upgrade) {
        collector.finish(Some(deadline));
    }
}

/// Has this process's exit wait for what its children have printed.
fn finish_at_exit(collector: &Arc<Shared>) -> Result<()> {
    let mut running = RUNNING.get().lock().unwrap_or_else(PoisonError::into_inner);
    let is_first = running.is_none();
    let running = running.get_or_insert_default();
    running.retain(|known| known.strong_count() > 0);
    running.push(Arc::downgrade(collector));
    if is_first { engine().on_leave(finish_all) } else { Ok(()) }
}

/// Lines on their way to a standard stream of this process.
#[derive(Debug, Default)]
struct Printing {
    stream: Option<StreamName>,
    text: Vec<u8>,
}

impl Printing {
    /// The most bytes that a pipe takes in one piece, whoever else writes to it.
    const PIPE_BUF: usize = 4096;

    fn add(&mut self, source: &Source, stream: StreamName, line: &[u8]) {
        let prefix = source.prefix();
        if self.text.len() + prefix.len() + line.len() >= Self::PIPE_BUF {
            self.flush();
        }
        self.stream = Some(stream);
        self.text.extend_from_slice(prefix.as_bytes());
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    fn flush(&mut self) {
        if let Some(stream) = self.stream {
            // Nobody reads it if it is refused, as with any print.
            let _ = stdio::write(stream, &self.text);
            self.text.clear();
        }
    }
}
