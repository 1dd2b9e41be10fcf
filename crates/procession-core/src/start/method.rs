//! The start methods' names, as `multiprocessing` has them. Used in any process and thread.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A start method: the way in which a process comes to be.
///
/// In `multiprocessing` it is a string: one of those that [`as_str`](Self::as_str) returns.
///
/// ```
/// # use procession_core::start::StartMethod;
/// let method: StartMethod = "spawn".parse()?;
/// assert_eq!(method, StartMethod::Spawn);
/// assert_eq!(StartMethod::ForkServer.to_string(), "forkserver");
/// # Ok::<(), procession_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StartMethod {
    /// The child is a copy of this process.
    Fork,
    /// The child executes this program anew.
    Spawn,
    /// The child is a copy of a small clean server that executed this program anew.
    ForkServer,
}

impl StartMethod {
    /// All that this platform has.
    pub const ALL: [StartMethod; 3] = [StartMethod::Fork, StartMethod::Spawn, StartMethod::ForkServer];

    /// Returns the name: `fork`, `spawn`, `forkserver`.
    ///
    /// ```
    /// # use procession_core::start::StartMethod;
    /// assert_eq!(StartMethod::ALL.map(StartMethod::as_str), ["fork", "spawn", "forkserver"]);
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            StartMethod::Fork => "fork",
            StartMethod::Spawn => "spawn",
            StartMethod::ForkServer => "forkserver",
        }
    }
}

impl fmt::Display for StartMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StartMethod {
    type Err = ParseStartMethodError;

    fn from_str(name: &str) -> Result<StartMethod, ParseStartMethodError> {
        let known = StartMethod::ALL.into_iter().find(|method| method.as_str() == name);
        known.ok_or_else(|| ParseStartMethodError { name: name.into() })
    }
}

/// The error of a name that is no [`StartMethod`]'s.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseStartMethodError {
    name: Box<str>,
}

impl fmt::Display for ParseStartMethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a start method: use \"fork\", \"spawn\" or \"forkserver\"", self.name)
    }
}

impl std::error::Error for ParseStartMethodError {}

impl From<ParseStartMethodError> for Error {
    fn from(error: ParseStartMethodError) -> Error {
        Error::Invalid(error.to_string())
    }
}
