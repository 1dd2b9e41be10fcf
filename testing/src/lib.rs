//! Helpers that the tests of the crates and the storms share. No crate that is published depends on
//! this one but for its tests.
//!
//! A test binary runs its tests in the main thread, one after the other, since processes that fork
//! need it. Each test is a function, and the function's name is the test's:
//!
//! ```
//! use std::process::Command;
//!
//! use procession_testing::{eventually, exists, once, run, tests};
//!
//! fn main() {
//!     run(tests! {
//!         once: [child_is_a_zombie_until_it_is_reaped],
//!     })
//! }
//!
//! fn child_is_a_zombie_until_it_is_reaped() {
//!     let mut child = Command::new("true").spawn().unwrap();
//!     eventually("it ends", || !procession_testing::runs(child.id()));
//!     assert!(exists(child.id()));
//!     child.wait().unwrap();
//!     assert!(!exists(child.id()));
//! }
//! ```

#[cfg(feature = "engine")]
mod contexts;
#[cfg(feature = "engine")]
mod one_way;
mod processes;
mod random;
#[cfg(feature = "engine")]
mod segment;
mod skip;
mod storm;
mod time;
mod trial;
pub mod watchdog;

#[cfg(feature = "engine")]
pub use contexts::{CONTEXTS, for_each_context};
pub use libtest_mimic::Trial;
#[cfg(feature = "engine")]
pub use one_way::OneWay;
pub use processes::{
    children_named, children_of, children_of_named, end_of, exists, has_stopped, kill, open_fds, processes_below, runs,
};
pub use random::{Random, seed_of_now};
#[cfg(feature = "engine")]
pub use segment::Segment;
pub use skip::{needs_mounts, skip};
pub use storm::storm;
pub use time::{eventually, in_time, long, patience, scaled};
pub use trial::{once, run, trial};
