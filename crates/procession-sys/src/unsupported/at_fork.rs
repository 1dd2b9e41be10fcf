//! No functions around a fork. As [`linux/at_fork.rs`](../linux/at_fork.rs).

use std::io;

/// Does nothing: no process forks here.
pub(crate) fn register(_before: extern "C" fn(), _after: extern "C" fn(), _child: extern "C" fn()) -> io::Result<()> {
    Ok(())
}
