//! No futex. As [`linux/futex.rs`](../linux/futex.rs).

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::unsupported;

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn wait(_word: &AtomicU32, _seen: u32, _timeout: Option<Duration>) -> io::Result<()> {
    unsupported()
}

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn wait_any(_words: &[(&AtomicU32, u32)], _timeout: Duration) -> io::Result<()> {
    unsupported()
}

/// Refuses.
#[allow(clippy::missing_errors_doc)] // Always `Unsupported`.
pub fn wake(_word: &AtomicU32, _count: u32) -> io::Result<u32> {
    unsupported()
}
