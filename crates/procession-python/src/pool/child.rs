//! A process that runs tasks for a worker on another machine. `procession.remote` starts it there,
//! and it serves in its main thread. See `carrier.rs`.

use std::cell::Cell;
use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::carrier::{ANSWER, TASK};
use super::channel::{Channel, KEPT};
use super::worker;
use crate::codec;
use crate::error::{OrOsError, os_error};

/// Runs the tasks that come over a channel, until it is told to leave (`True`), or the other end is
/// closed.
#[pyfunction]
pub(crate) fn serve_carrier(py: Python<'_>, fd: RawFd, bulk: RawFd) -> PyResult<bool> {
    let mut channel = Channel::of_fds(fd, bulk).or_os_error()?;
    codec::prepare(py)?;
    let (mut item, mut out) = (Vec::new(), Vec::new());
    py.detach(|| {
        while let Some(kind) = channel.receive(&mut item, || Python::attach(worker::handle_signals_of))? {
            if kind != TASK {
                return Ok(true);
            }
            let begun = Cell::new(1_u32);
            out.clear();
            let tag = Python::attach(|py| {
                worker::answer(py, &item, &|| begun.set(begun.get().saturating_add(1)), None, &mut out)
            });
            channel.send(ANSWER, &[&tag.to_le_bytes(), &begun.get().to_le_bytes(), &out])?;
            item.shrink_to(KEPT);
            out.shrink_to(KEPT);
        }
        Ok(false)
    })
    .map_err(os_error)
}
