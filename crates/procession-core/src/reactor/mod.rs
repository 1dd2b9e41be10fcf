//! Futures that wait for queues and sockets. Their tasks block no thread; the engine's threads wake
//! them.
//!
//! | what is awaited | the thread that waits |
//! |---|---|
//! | a queue's items or room | the reactor (`queues`): one for all queues of the process, at their gates |
//! | a connection's socket | the supervisor, which waits for the ends of processes too (`sockets`) |
//! | a pool's results | the pool's own thread ([`Handle::awaken`](crate::pool::Handle::awaken)) |
//!
//! A waker is the code of the program's runtime. It is called under no lock, and a panic of it ends
//! nothing but itself.

mod queues;
mod sockets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

pub use queues::QueueWatch;
pub use sockets::{Direction, SocketWatch};

fn wake(waker: Waker) {
    // The panic's message was printed where it happened.
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}
