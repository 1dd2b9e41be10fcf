//! Structures in memory that processes share: what a pool shares with its workers, queues, locks.
//!
//! Every structure here is **kill-safe**: SIGKILL may end a process at any instruction of any
//! operation, and the others go on with everything that was committed. The head of each module
//! lists the steps of its protocol and what a death after each step leaves.
//! `faults/tests/fault_injection.rs` dies at every one of them.
//!
//! | module | what it is |
//! |---|---|
//! | [`Control`] | the layout of a pool's segment |
//! | [`Queue`] | a queue's segment |
//! | [`Segment`] | a memfd mapped shared |
//! | `window` | the part of a segment that begins small and grows |
//! | [`Memory`] | bytes of the users' own, with or without a name |
//! | [`Elements`] | values of one size of the users' own |
//! | [`Constant`] | bytes that nobody writes any more, read in place |
//! | [`Area`] | blocks of bytes beside frames and records, read in place |
//! | [`Ring`] | frames from many producers to many consumers, under a robust lock at each end |
//! | [`TaskRing`] | frames from a parent to its workers, which cannot harm the parent |
//! | `consumers` | the processes that have items of a joinable queue and are not done with them |
//! | [`Slot`] | the claim of one worker, and how far the worker is |
//! | [`Running`] | the tasks that a worker runs, and the word by which the parent may stop them |
//! | [`Meter`] | how a worker spends its time, and its slowest calls |
//! | [`record`] | how arguments and results stand one behind the other |
//! | [`Stream`] | records from one worker to the parent, without a lock |
//! | [`sync`] | locks, semaphores, conditions, events, barriers: 64 bytes and more (128 on aarch64) in an arena of many |
//! | [`Gate`] | sleep and wake between processes |
//! | [`Search`] | which idle worker looks for work, while the others sleep |
//! | [`interrupt`] | waits that a signal may end |
//! | [`Spin`] | what a waiter does before it sleeps; `wake_time` measures for how long |

#![deny(unsafe_code)]

mod begun;
mod block;
#[cfg(not(loom))]
mod constant;
#[cfg(not(loom))]
mod consumers;
#[cfg(not(loom))]
mod control;
mod cursors;
#[cfg(not(loom))]
mod elements;
pub mod fault;
mod gate;
pub mod interrupt;
mod lease;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod meter;
#[cfg(loom)]
pub mod model;
#[cfg(not(loom))]
mod observed;
mod primitive;
#[cfg(not(loom))]
mod queue;
#[cfg(not(loom))]
pub mod record;
mod ring;
mod running;
mod search;
#[cfg_attr(loom, path = "segment_model.rs")]
mod segment;
mod spin;
#[cfg(not(loom))]
mod stream;
#[cfg(not(loom))]
pub mod sync;
#[cfg(not(loom))]
mod wake_time;
#[cfg(not(loom))]
mod window;

pub use begun::Begun;
pub use block::{Allocator, Area, BlockId, Held, Holder};
#[cfg(not(loom))]
pub use constant::Constant;
#[cfg(not(loom))]
pub use control::Control;
pub use cursors::{Cursors, Produced};
#[cfg(not(loom))]
pub use elements::Elements;
pub use gate::Gate;
pub use lease::Slot;
#[cfg(not(loom))]
pub use memory::{Atomic, Memory, RawMemory};
#[cfg(not(loom))]
pub use meter::{KEPT, Meter, MeterReading, Phase, SlowCall};
#[cfg(not(loom))]
pub use observed::{Observed, ObservedSlot, ObservedTask};
#[cfg(not(loom))]
pub use queue::{NotPut, Queue, Side, Tried};
pub use ring::{
    ClaimLimit, HeadGuard, Overwritten, ParentHead, ParentTail, Ring, RingFull, TailGuard, TaskRing, WorkerHead,
};
pub use running::{Running, Snapshot, Verdict};
pub use search::Search;
#[cfg(not(loom))]
pub use segment::Segment;
pub use spin::Spin;
#[cfg(not(loom))]
pub use stream::{Arrival, MAX_RECORD, STREAM_CAPACITY, Stream, StreamReader, StreamWriter};
