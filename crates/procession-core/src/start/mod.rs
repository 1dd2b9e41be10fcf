//! The start methods: how a process comes to be. Each is a [`Start`]; nothing else in the engine knows how a child was
//! made. Called in the parent, in the thread that starts.

pub mod foreign;
pub mod fork;
pub mod forkserver;
pub mod server;
pub mod spawn;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use procession_sys::link::Link;
use procession_sys::pidfd::PidFd;

use crate::child::{Child, Reaper};
use crate::engine::engine;
use crate::preparation::Preparation;
use crate::{Error, Result};

pub use fork::Fork;
pub use forkserver::ForkServer;
pub use spawn::{Spawn, set_executable};

/// A way to make a process.
pub trait Start: Sync + fmt::Debug {
    /// Which of the three it is.
    fn method(&self) -> Method;

    /// Makes a child that will run the target.
    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen>;

    /// Makes it, and the parent's hold on it. A face whose processes are more than the engine's does both its own way.
    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        let (name, daemon) = (preparation.name.clone(), preparation.daemon);
        Ok(Arc::new(Child::new(name, daemon, self.popen(preparation)?)))
    }
}

/// A child as a start method gives it to its parent.
#[derive(Debug)]
pub struct Popen {
    /// The child.
    pub pidfd: PidFd,
    /// The parent's end.
    pub link: Link,
    /// The child is known to have reached its bootstrap.
    pub began: bool,
    /// Who learns how it ended.
    pub reaper: Reaper,
}

impl<S: Start + ?Sized> Start for &S {
    fn method(&self) -> Method {
        (**self).method()
    }

    fn popen(&self, preparation: Preparation<'_>) -> Result<Popen> {
        (**self).popen(preparation)
    }

    fn child(&self, preparation: Preparation<'_>) -> Result<Arc<Child>> {
        (**self).child(preparation)
    }
}

/// Starts a process and enters it among this process's children.
///
/// # Errors
///
/// What the start method says; what the system refuses.
pub fn start(starter: &dyn Start, preparation: Preparation<'_>) -> Result<Arc<Child>> {
    // A fork server may take long to answer, and no start waits for another's. A process that is forked meanwhile holds a copy
    // of the link, for as long as it lives: it ends with this one, and then so does the child.
    let _starting = match starter.method() {
        Method::ForkServer => engine().check_staying().map(|()| None)?,
        Method::Fork | Method::Spawn => Some(engine().starting()?),
    };
    let child = starter.child(preparation)?;
    engine().adopt(&child)?;
    Ok(child)
}

/// The start methods' names, as `multiprocessing` has them.
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

    /// What starts processes by this method.
    pub fn starter(self) -> &'static dyn Start {
        match self {
            Method::Fork => &Fork { threads: None },
            Method::Spawn => &Spawn,
            Method::ForkServer => &ForkServer,
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
