//! The names of the streams that a process writes to.

use std::fmt;

/// A stream that a process writes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamName {
    /// Its standard output, fd 1.
    Stdout,
    /// Its standard error, fd 2.
    Stderr,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        })
    }
}
