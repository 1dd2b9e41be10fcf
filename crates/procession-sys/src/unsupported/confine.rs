//! No limits. As [`linux/confine.rs`](../linux/confine.rs).

use std::io;
use std::time::Duration;

use super::unsupported;
pub use crate::resource::Resource;

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn lead_group() -> io::Result<()> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn limit(_resource: Resource, _most: u64) -> io::Result<()> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn take_no_new_privileges() -> io::Result<()> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn threads() -> io::Result<usize> {
    unsupported()
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn cpu_time(_pid: u32) -> io::Result<Duration> {
    unsupported()
}
