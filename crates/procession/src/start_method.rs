//! The start methods by name, the default one, and the program that they execute. Used in the
//! parent, from any thread.

use std::path::PathBuf;
use std::sync::OnceLock;

use procession_core::start::Method;

use crate::{Error, Result};

/// A start method: how a process comes to be.
///
/// ```
/// use procession::StartMethod;
/// let method: StartMethod = "spawn".parse()?;
/// assert_eq!(method, StartMethod::Spawn);
/// assert_eq!(StartMethod::ForkServer.to_string(), "forkserver");
/// # Ok::<(), procession::Error>(())
/// ```
// Not the engine's `Method`, since a name that does not parse is this crate's `Error`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StartMethod {
    /// The child is a copy of this process.
    Fork,
    /// The child executes this program anew.
    Spawn,
    /// The child is forked from a small clean server.
    ForkServer,
}

impl StartMethod {
    /// All that this platform has.
    pub const ALL: [StartMethod; 3] = [StartMethod::Fork, StartMethod::Spawn, StartMethod::ForkServer];

    pub(crate) fn engine(self) -> Method {
        match self {
            StartMethod::Fork => Method::Fork,
            StartMethod::Spawn => Method::Spawn,
            StartMethod::ForkServer => Method::ForkServer,
        }
    }
}

impl std::fmt::Display for StartMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.engine().as_str())
    }
}

impl std::str::FromStr for StartMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<StartMethod> {
        Ok(match name.parse::<Method>()? {
            Method::Fork => StartMethod::Fork,
            Method::Spawn => StartMethod::Spawn,
            Method::ForkServer => StartMethod::ForkServer,
        })
    }
}

static DEFAULT: OnceLock<StartMethod> = OnceLock::new();

/// Sets the start method of [`Context::default`](crate::Context::default),
/// [`Process::new`](crate::Process::new) and [`Pool::new`](crate::Pool::new). Meant for the start
/// of `main`.
///
/// # Errors
///
/// When it has been set before: libraries cannot quarrel about it. Use a
/// [`Context`](crate::Context) object instead.
///
/// ```
/// use procession::StartMethod;
/// procession::set_start_method(StartMethod::Spawn)?;
/// assert_eq!(procession::start_method(), StartMethod::Spawn);
/// assert!(procession::set_start_method(StartMethod::Fork).is_err());
/// # Ok::<(), procession::Error>(())
/// ```
pub fn set_start_method(method: StartMethod) -> Result<()> {
    DEFAULT.set(method).map_err(|_| {
        Error::invalid(format!(
            "the start method is already set, to {}: set it once, or use Context objects side by side",
            start_method()
        ))
    })
}

/// The start method of [`Context::default`](crate::Context::default): what [`set_start_method`]
/// said, or else `forkserver`.
pub fn start_method() -> StartMethod {
    DEFAULT.get().copied().unwrap_or(StartMethod::ForkServer)
}

/// Sets the program that `spawn` and `forkserver` execute; the default is the image that is
/// running. It must be the same build of the same program, wherever it lies; another one is found
/// out when a process starts ([`Error::is_other_build`]). A fork server that already runs keeps its
/// program.
pub fn set_executable(program: impl Into<PathBuf>) {
    procession_core::start::set_executable(program);
}
