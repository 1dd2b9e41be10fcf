//! Pools of other programs as dicts, for `procession._top`. In any thread.

use procession_core::observe::{self, ObservedPool, ObservedSlot};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::OrOsError;

/// The pools whose shared memory the process has open, as `_top` shows them.
///
/// Raises `OSError` if there is no such process, or another user has it.
#[pyfunction]
pub(crate) fn observe_pools(py: Python<'_>, pid: u32) -> PyResult<Bound<'_, PyList>> {
    let pools = py.detach(|| observe::pools_of(pid)).or_os_error()?;
    let now = observe::monotonic_nanos();
    PyList::new(py, pools.iter().map(|pool| described(py, pool, now)).collect::<PyResult<Vec<_>>>()?)
}

fn described<'py>(py: Python<'py>, pool: &ObservedPool, now: u64) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", pool.id)?;
    dict.set_item("owner", pool.owner)?;
    dict.set_item("queued_chunks", pool.queued)?;
    let slots = pool.slots.iter().enumerate().map(|(index, slot)| of_slot(py, index, slot, now));
    dict.set_item("workers", slots.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

fn of_slot<'py>(py: Python<'py>, index: usize, slot: &ObservedSlot, now: u64) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("slot", index)?;
    dict.set_item("pid", (slot.pid != 0).then_some(slot.pid))?;
    dict.set_item("begun", slot.begun)?;
    dict.set_item("unread_bytes", slot.unread)?;
    dict.set_item("job", slot.running.map(|task| task.job))?;
    dict.set_item("item", slot.running.map(|task| task.index))?;
    let age = slot.running.and_then(|task| task.seen_at).map(|at| now.saturating_sub(at) as f64 / 1e9);
    dict.set_item("age", age)?;
    Ok(dict)
}
