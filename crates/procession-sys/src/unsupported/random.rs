//! No random bytes. As [`linux/random.rs`](../linux/random.rs).

use std::io;

use super::unsupported;

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn fill(_bytes: &mut [u8]) -> io::Result<()> {
    unsupported()
}
