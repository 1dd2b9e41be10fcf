//! Memory that has a descriptor and no name, for the package's code. Called in any process, in any
//! thread.

use std::os::fd::IntoRawFd;

use procession_core::memfd;
use pyo3::prelude::*;

use crate::error::OrOsError;

/// Returns an empty memfd, which may be sealed. No exec inherits it, only its user may open it, and
/// it has no number of the standard streams. `os.memfd_create` does not exist in a Python that was
/// built for an older libc.
#[pyfunction]
pub(crate) fn create_memfd(name: &str) -> PyResult<i32> {
    Ok(memfd::empty(name).or_os_error()?.into_raw_fd())
}
