//! Pools of processes. Used in the parent, from any thread; the functions run in the workers.

mod builder;
mod imap;
mod items;
#[allow(clippy::module_inception, reason = "the pool itself, beside what it returns")]
mod pool;
mod result;

pub use crate::function::{TaskFn, TupleFn};
pub use builder::Builder;
pub use imap::{Imap, ImapUnordered};
pub use pool::Pool;
pub use procession_core::pool::{RunningTask, Stats, WorkerStats};
pub use result::AsyncResult;
