//! The start methods' names, as `multiprocessing` has them. Used in any process and thread.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A start method: how a process comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// The child is a copy of this process.
    Fork,
    /// The child executes this program anew.
    Spawn,
    /// The child is a copy of a small clean server that executed this program anew.
    ForkServer,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 3] = [Method::Fork, Method::Spawn, Method::ForkServer];

    /// The name: `fork`, `spawn`, `forkserver`.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Fork => "fork",
            Method::Spawn => "spawn",
            Method::ForkServer => "forkserver",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Method> {
        Method::ALL.into_iter().find(|method| method.as_str() == name).ok_or_else(|| {
            Error::Invalid(format!("{name:?} is not a start method: use \"fork\", \"spawn\" or \"forkserver\""))
        })
    }
}
