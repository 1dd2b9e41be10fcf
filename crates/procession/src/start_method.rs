//! The start methods by name, the default one, and the program that they execute. Used in the
//! parent, from any thread.

use std::path::PathBuf;
use std::sync::OnceLock;

use procession_core::start::{self, Start};
pub use procession_core::start::{ParseStartMethodError, StartMethod};

use crate::{Error, Result, startup};

/// Returns the engine's starter of a method.
pub(crate) fn starter(method: StartMethod) -> &'static dyn Start {
    startup::keep_entry();
    start::starter(method)
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
///
/// ```
/// use procession::{StartMethod, start_method};
///
/// assert_eq!(start_method(), StartMethod::ForkServer);
/// ```
pub fn start_method() -> StartMethod {
    DEFAULT.get().copied().unwrap_or(StartMethod::ForkServer)
}

/// Sets the program that `spawn` and `forkserver` execute; the default is the image that is
/// running. It must be the same build of the same program, wherever it lies; another one is found
/// out when a process starts ([`Error::is_other_build`]). A fork server that already runs keeps its
/// program.
///
/// If this crate is in a shared object, the object is preloaded into the program, whose own code
/// does not run. Then any program will do that is linked dynamically. One that does not load the
/// object is found out at the start ([`Error::is_not_initialized`]).
///
/// ```no_run
/// // In a program that a launcher has started from a file that it has removed since:
/// procession::set_executable("/opt/app/bin/app");
/// ```
pub fn set_executable(program: impl Into<PathBuf>) {
    procession_core::start::set_executable(program);
}
