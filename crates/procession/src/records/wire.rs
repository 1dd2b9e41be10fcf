//! The form in which records travel. Written in the child, read in the parent.

use serde::{Deserialize, Serialize};

use crate::message;

/// A record on its way.
#[derive(Serialize, Deserialize, Debug)]
pub(super) enum Record {
    /// Of the crate `log`.
    #[cfg(feature = "log")]
    Log(LogRecord),
    /// Of the crate `tracing`.
    #[cfg(feature = "tracing")]
    Event(EventRecord),
}

/// A log record.
#[cfg(feature = "log")]
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct LogRecord {
    pub(super) level: u8,
    pub(super) target: String,
    pub(super) text: String,
    pub(super) module: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) pairs: Vec<(String, String)>,
}

/// An event.
#[cfg(feature = "tracing")]
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct EventRecord {
    pub(super) site: Site,
    /// The job of the task that it is of; 0: it is of none.
    pub(super) job: u64,
    /// Of the site's fields.
    pub(super) values: Vec<String>,
    /// The spans that it was in, from the outermost on: `task{job=1 index=2}`.
    pub(super) spans: Vec<String>,
}

/// The place in the code that an event is of.
#[cfg(feature = "tracing")]
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) target: String,
    pub(super) level: u8,
    pub(super) module: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) fields: Vec<String>,
}

/// In the child: sends a record.
pub(super) fn send(record: &Record) {
    let mut bytes = Vec::new();
    if message::encode(record, &mut bytes).is_ok() {
        // Refused if it is longer than records may be, or the parent is gone: as with any logger,
        // there is nobody to tell.
        let _ = procession_core::output::records::send(&bytes);
    }
}

/// In the parent: reads what a child has sent; `None` if it is no record.
pub(super) fn read(bytes: &[u8]) -> Option<Record> {
    message::decode(bytes).ok()
}
