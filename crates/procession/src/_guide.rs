//! A guide to the crate, topic by topic. It is compiled for the documentation only.
//!
//! | page | it tells |
//! |---|---|
//! | [`quick_start`] | the first program, and which call is for what |
//! | [`what_crosses`] | what functions, arguments and results may be |
//! | [`children`] | what a child has by each start method: logging, working directory, environment, statics, signals, random state |
//! | [`state`] | data that is larger than an argument, or is shared |
//! | [`errors`] | what can go wrong, and what the error says |
//! | [`tests`] | processes in tests and benches |
//! | [`libraries`] | a library that uses processes |
//! | [`async_programs`] | futures and streams, cancellation |
//! | [`crash_isolation`] | code that crashes, hangs or leaks |
//! | [`observing`] | what a pool is doing, where its time went, which tasks are slow |
//! | [`hostile_input`] | input that nobody trusts |
//! | [`performance`] | what costs how much |
//! | [`coming_from`] | the names here for those of `std::thread`, rayon, procspawn, ipc-channel |

#[doc = include_str!("../guide/quick_start.md")]
pub mod quick_start {}

#[doc = include_str!("../guide/what_crosses.md")]
pub mod what_crosses {}

#[doc = include_str!("../guide/children.md")]
pub mod children {}

#[doc = include_str!("../guide/state.md")]
pub mod state {}

#[doc = include_str!("../guide/errors.md")]
pub mod errors {}

#[doc = include_str!("../guide/tests.md")]
pub mod tests {}

#[doc = include_str!("../guide/libraries.md")]
pub mod libraries {}

#[doc = include_str!("../guide/async_programs.md")]
pub mod async_programs {}

#[doc = include_str!("../guide/crash_isolation.md")]
pub mod crash_isolation {}

#[doc = include_str!("../guide/observing.md")]
pub mod observing {}

#[doc = include_str!("../guide/hostile_input.md")]
pub mod hostile_input {}

#[doc = include_str!("../guide/performance.md")]
pub mod performance {}

#[doc = include_str!("../guide/coming_from.md")]
pub mod coming_from {}
