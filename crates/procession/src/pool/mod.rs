//! Pools of processes. Used in the parent, from any thread; the functions run in the workers.

mod builder;
mod call;
mod imap;
mod insights;
mod items;
mod map_in;
#[allow(clippy::module_inception, reason = "the pool itself, beside what it returns")]
mod pool;
mod reduce;
mod result;
mod setting;
mod try_map;
mod with;

pub use crate::argument::Argument;
pub use crate::failure::TaskError;
pub use crate::function::{StateFn, StateTupleFn, TaskFn, TupleFn};
pub use builder::Builder;
pub use imap::{Imap, ImapUnordered};
pub use map_in::MapIn;
pub use pool::Pool;
pub use procession_core::pool::{Insights, RunningTask, Shares, SlowTask, Stats, Times, WorkerInsights, WorkerStats};
pub use result::{AbortHandle, AsyncResult};
