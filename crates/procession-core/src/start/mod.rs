//! The start methods: how a process comes to be. Each is a [`Start`]; nothing else in the engine
//! knows how a child was made. Called in the parent, in the thread that starts.
//!
//! | file | what it is |
//! |---|---|
//! | `method.rs`, `starter.rs` | the methods' names; what each of them does |
//! | `fork.rs`, `spawn.rs`, `forkserver.rs` | the three |
//! | `client/`, `running_server.rs` | how an owner asks its fork server; the one that it has |
//! | `server.rs` | a fork server's own side: how it holds its children |
//! | `closable_link.rs` | an end of a link that a forked child can close |
//! | `foreign.rs` | children that a face makes itself |

pub mod client;
mod closable_link;
pub mod foreign;
pub mod fork;
pub mod forkserver;
pub mod method;
pub mod running_server;
pub mod server;
pub mod spawn;
pub mod starter;

use std::sync::Arc;

use crate::Result;
use crate::child::Child;
use crate::engine::engine;
use crate::preparation::Preparation;

pub use closable_link::ClosableLink;
pub use fork::Fork;
pub use forkserver::ForkServer;
pub use method::{ParseStartMethodError, StartMethod};
pub use spawn::{Spawn, set_executable};
pub use starter::Start;

/// Starts a process and enters it among this process's children.
///
/// # Errors
///
/// The error of the start method; an error of the system.
pub fn start(starter: &dyn Start, preparation: Preparation<'_>) -> Result<Arc<Child>> {
    // A fork server may take long to answer, so no start waits for another's. A process that is
    // forked meanwhile holds a copy of the link as long as it lives. It ends with this process, and
    // then so does the child.
    let _starting = match starter.method() {
        StartMethod::ForkServer => engine().check_staying().map(|()| None)?,
        StartMethod::Fork | StartMethod::Spawn => Some(engine().starting()?),
    };
    let child = starter.child(preparation)?;
    engine().adopt(&child)?;
    Ok(child)
}

/// Returns what starts processes by this method.
pub fn starter(method: StartMethod) -> &'static dyn Start {
    match method {
        StartMethod::Fork => &Fork { threads: None },
        StartMethod::Spawn => &Spawn,
        StartMethod::ForkServer => &ForkServer,
    }
}
