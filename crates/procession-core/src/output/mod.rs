//! The output of children, brought home line by line: also what C code writes to fds 1 and 2.
//!
//! | file | what it is |
//! |---|---|
//! | `streams.rs` | the child's ends of the pipes, and how they become its standard streams |
//! | `lines.rs` | cuts what comes out of a pipe into lines |
//! | `records.rs` | what code of a child sends beside: log records |
//! | `collector.rs` | the thread of the parent that reads the pipes of a pool, or of a process |
//!
//! ```text
//! child: fd 1, fd 2 ─▶ two pipes ─▶ parent: the collector's thread ─▶ lines ─▶ printed, or a callback
//! ```
//!
//! The parent holds the reading ends, and what is in a pipe survives its writer. So the collector
//! reads all that a killed child has written. A pipe is open for as long as anybody has its writing
//! end, and what a child has started may: the collector waits for that no longer than [`GRACE`]
//! after the child's end. A child waits while its pipe is full, until the collector's thread has
//! read it.

mod collector;
mod lines;
pub mod records;
mod streams;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use collector::{Capture, Collector, Paused, finish_all};
pub use procession_sys::stdio::StreamName;
pub use records::{Recording, Records};
pub use streams::Streams;

/// The time for which the pipes of a child that has ended are read, if others hold them open.
pub const GRACE: Duration = Duration::from_millis(500);

/// The longest line that comes whole. A longer one comes in pieces.
pub const MAX_LINE: usize = 1 << 20;

/// The place where the output of children goes.
#[derive(Clone, Default)]
pub enum Output {
    /// It goes where the parent's goes: the children have its standard streams.
    #[default]
    Inherit,
    /// It is dropped.
    Null,
    /// The parent prints each line on the same stream of its own, behind the child's name.
    Prefix,
    /// The function gets each line, one at a time: see [`Output::callback`].
    Callback(Arc<LineCallback>),
}

/// The callback that gets lines; see [`Output::callback`].
pub type LineCallback = dyn Fn(&Line<'_>) + Send + Sync;

/// Runs what it is given, which calls callbacks, for all lines or records that have come together:
/// a face whose callbacks need a runtime of their language enters it there. If that has ended, it
/// runs nothing, and they are dropped.
#[derive(Clone)]
pub struct Entering(Arc<EnterFn>);

type EnterFn = dyn Fn(&mut dyn FnMut()) + Send + Sync;

/// A line that a child has printed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub(crate) source: &'a Source,
    pub(crate) stream: StreamName,
    pub(crate) bytes: &'a [u8],
    pub(crate) is_whole: bool,
}

/// The process that prints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The process's name.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// Of a pool's worker: its slot.
    pub slot: Option<usize>,
}

impl Output {
    /// Has the function get each line, one at a time, in a thread of the engine's.
    ///
    /// While it runs, no child is forked, and children that print wait once their pipes are full:
    /// it must not wait for them. If it panics, that is reported as a thread's panic is, and the
    /// next line comes all the same.
    pub fn callback(callback: impl Fn(&Line<'_>) + Send + Sync + 'static) -> Output {
        Output::Callback(Arc::new(callback))
    }
}

impl Entering {
    /// By this function.
    pub fn new(run: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Entering {
        Entering(Arc::new(run))
    }

    fn run(&self, act: &mut dyn FnMut()) {
        (self.0)(act);
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").finish_non_exhaustive()
    }
}

impl<'a> Line<'a> {
    /// Returns the name of the process that printed it.
    pub fn name(&self) -> &'a str {
        &self.source.name
    }

    /// Returns the pid of the process whose output it is. A process that this one has started has
    /// the same output.
    pub fn pid(&self) -> u32 {
        self.source.pid
    }

    /// Returns the worker's number in its pool, from 0 on, which its replacement keeps. `None` if
    /// it is no pool's worker.
    pub fn slot(&self) -> Option<usize> {
        self.source.slot
    }

    /// Returns which stream it was printed on.
    pub fn stream(&self) -> StreamName {
        self.stream
    }

    /// Returns the line, without its newline.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the line as text; what is no UTF-8 in it is replaced.
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    /// Returns whether it was ended by a newline. The last bytes of a process may not be, and a
    /// line of more than a MiB comes in pieces.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }
}

impl Source {
    /// The text before each of its lines.
    fn prefix(&self) -> String {
        match self.slot {
            Some(slot) => format!("[worker {slot}] "),
            None => format!("[{}] ", self.name),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Inherit => "Inherit",
            Output::Null => "Null",
            Output::Prefix => "Prefix",
            Output::Callback(_) => "Callback",
        })
    }
}
