//! Log records and tracing events of children, brought home: what their code logs goes through this
//! program's logger (feature `log`) or subscriber (feature `tracing`).
//!
//! [`pool::Builder::forward_logs`](crate::pool::Builder::forward_logs) and
//! [`forward_events`](crate::pool::Builder::forward_events) have it so, for a
//! [`process::Builder`](crate::process::Builder) too. The records of each child come in order, also
//! those that it has made before it was killed. They travel over a pipe: a child that logs faster
//! than this program takes its records waits. All of them have come when a pool or process has been
//! joined.
//!
//! | | in a child by `spawn` or `forkserver` | in a forked child |
//! |---|---|---|
//! | `log` | has a logger that sends to its parent | has a copy of its parent's logger: make that a [`Forwarding`] one |
//! | `tracing` | has a subscriber that sends to its parent | the same, in its first thread, which runs the tasks |
//!
//! Events of a pool's tasks are given to the subscriber in the span of their call, which is in the
//! span of its caller. (It is the span `job`, or the caller's own where nobody wants that.) A
//! worker that has a subscriber of its own, such as an exporter, gets the caller's context by
//! [`pool::Builder::trace_context`](crate::pool::Builder::trace_context).
//!
//! A child sends what its parent's logger or subscriber wants by its level at the time of the
//! child's start; the parent's logger or subscriber is asked again for each.
//!
//! **Difference from `multiprocessing`:** there, records of children go to a handler that the
//! children set up themselves, or by a `QueueHandler` and a listener that the program makes.

#[cfg(feature = "tracing")]
mod context;
#[cfg(feature = "log")]
mod log;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(any(feature = "log", feature = "tracing"))]
mod wire;

use procession_core::output::Records;
#[cfg(any(feature = "log", feature = "tracing"))]
use procession_core::output::{Source, records::Scope};

#[cfg(feature = "tracing")]
pub(crate) use self::context::propagation;
#[cfg(feature = "log")]
pub use self::log::Forwarding;

/// The kinds of records that children are to send.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Wanted {
    #[cfg(feature = "log")]
    pub(crate) logs: bool,
    #[cfg(feature = "tracing")]
    pub(crate) events: bool,
}

impl Wanted {
    /// For a pool or a process that is about to start.
    #[cfg(any(feature = "log", feature = "tracing"))]
    pub(crate) fn records(self) -> Option<Records> {
        use std::sync::Arc;

        use procession_core::{Entry, EntryFn};

        use crate::message;

        let levels = Levels {
            #[cfg(feature = "log")]
            logs: self.logs.then(log::wanted_level),
            #[cfg(feature = "tracing")]
            events: self.events.then(tracing::wanted_level),
        };
        if levels == Levels::default() {
            return None;
        }
        let mut argument = Vec::new();
        // Two numbers always encode.
        let encoded = message::encode(&levels, &mut argument);
        debug_assert!(encoded.is_ok());
        Some(Records { begin: Entry::of(begin as EntryFn), argument, callback: Arc::new(receive), ended: None })
    }

    /// Without the features there are none.
    #[cfg(not(any(feature = "log", feature = "tracing")))]
    pub(crate) fn records(self) -> Option<Records> {
        None
    }
}

/// The levels that a child's parent wants, as numbers of the crates `log` and `tracing`. `None`:
/// the child sends none of the kind.
#[cfg(any(feature = "log", feature = "tracing"))]
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, Default, Debug)]
struct Levels {
    #[cfg(feature = "log")]
    logs: Option<u8>,
    #[cfg(feature = "tracing")]
    events: Option<u8>,
}

/// In the child, before any code of a user: has its records sent.
#[cfg(any(feature = "log", feature = "tracing"))]
fn begin(argument: &[u8], _: &mut Vec<u8>) -> u32 {
    let Ok(levels) = crate::message::decode::<Levels>(argument) else { return 0 };
    #[cfg(feature = "log")]
    if let Some(level) = levels.logs {
        log::begin(level);
    }
    #[cfg(feature = "tracing")]
    if let Some(level) = levels.events {
        tracing::begin(level);
    }
    0
}

/// In the parent, in the thread that reads records: a record has come.
#[cfg(any(feature = "log", feature = "tracing"))]
fn receive(source: &Source, bytes: &[u8], scope: &Scope) {
    // A log record has no job.
    let _ = scope;
    match wire::read(bytes) {
        #[cfg(feature = "log")]
        Some(wire::Record::Log(record)) => log::emit(&record, source),
        #[cfg(feature = "tracing")]
        Some(wire::Record::Event(record)) => scope(record.job, &mut || tracing::emit(&record, source)),
        // A child may send anything.
        None => {}
    }
}
