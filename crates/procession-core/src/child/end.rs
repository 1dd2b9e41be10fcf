//! The end of a child. Used in its parent.

use std::io;

use procession_sys::ExitStatus;
use procession_sys::image::BuildId;

use crate::outcome::Outcome;
use crate::{Error, Result};

/// The end of a child.
#[derive(Debug)]
pub struct End {
    /// `None`: another wait in this program took it.
    pub status: Option<ExitStatus>,
    /// The outcome of its target.
    pub outcome: Outcome,
}

impl End {
    /// The exit code as `multiprocessing` says it: negative is the signal that killed it.
    pub fn code(&self) -> Option<i32> {
        self.status.map(ExitStatus::code)
    }

    /// Returns the tag and payload of the target, or the error that says why there is none.
    pub fn returned(&self, pid: u32) -> Result<Option<(u32, &[u8])>> {
        match &self.outcome {
            Outcome::Returned { tag, payload } => Ok(Some((*tag, payload))),
            Outcome::Died => Ok(None),
            Outcome::NotReached => {
                let status = self.status.ok_or(Error::StatusLost { pid })?;
                // Killed by a signal on its way is a death like any other, not a missing line in
                // `main`.
                if status.signal().is_some() { Ok(None) } else { Err(Error::NotReached { pid, status }) }
            }
            Outcome::Malformed => Err(Error::os(format!("cannot read what process {pid} has left"))(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is nothing that a child sends",
            ))),
            Outcome::Misplaced(why) => Err(Error::Misplaced { pid, why: why.clone() }),
            Outcome::OtherBuild(theirs) => {
                let ours = BuildId::current().clone();
                Err(Error::OtherBuild { pid, ours, theirs: theirs.clone() })
            }
        }
    }
}
