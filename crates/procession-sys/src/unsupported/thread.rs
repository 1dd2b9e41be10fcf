//! No engine threads. As [`linux/thread.rs`](../linux/thread.rs).

use std::io;
use std::thread::JoinHandle;

use super::unsupported;

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn spawn_engine_thread(_name: &str, _body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    unsupported()
}

/// Runs it: there are no engine threads.
pub fn as_program_thread<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn other_threads() -> io::Result<usize> {
    unsupported()
}

/// Returns `true`.
pub fn is_main() -> bool {
    true
}

/// Does nothing: there is no process that could be named.
pub fn set_process_name(_name: &str) {}

/// See `linux/thread.rs`.
pub fn process_name() -> Vec<u8> {
    Vec::new()
}

/// Blocks nothing.
#[derive(Debug)]
pub struct SignalsBlocked;

impl SignalsBlocked {
    /// Blocks nothing.
    #[expect(clippy::new_without_default, reason = "as on other platforms")]
    pub fn new() -> SignalsBlocked {
        SignalsBlocked
    }

    /// Returns none.
    pub fn blocked_before(&self) -> Vec<i32> {
        Vec::new()
    }
}

/// Does nothing: nothing blocks signals here.
pub fn unblock_all_signals() {}

/// Does nothing.
pub fn ignore_interrupt() {}
