//! No sessions. As [`linux/session.rs`](../linux/session.rs).

use std::io;

use super::unsupported;

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn leave() -> io::Result<()> {
    unsupported()
}

/// Does nothing: standard error stays.
pub fn leave_stderr() {}
