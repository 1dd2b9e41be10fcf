//! Leaving, as far as the standard library goes. As [`linux/exit.rs`](../linux/exit.rs).

use std::io::{self, Write};

use super::unsupported;

/// Ends the process.
pub fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Writes out the contents of Rust's standard output.
pub fn flush_stdio() {
    let _ = io::stdout().flush();
}

/// Refuses.
///
/// # Errors
///
/// Always `Unsupported`.
pub fn at_exit(_hook: fn()) -> io::Result<()> {
    unsupported()
}
