//! The title of a worker in `ps` and `top`: its slot and the function that it ran last, as in
//! `procession worker 3: module.function`. In the worker's main thread, with the interpreter
//! attached.
//!
//! The whole text is shown by the optional package `setproctitle`, whose function is handed in.
//! Without it the process has a name of 15 bytes, as in `worker 3: functi`. Both change only when a
//! task's function is another than the last one's.

use std::cell::RefCell;

use procession_core::{process_name, set_process_name};
use pyo3::intern;
use pyo3::prelude::*;

struct Shown {
    slot: u32,
    /// Sets a title of any length.
    set_title: Option<Py<PyAny>>,
    /// The last function's module and name.
    text: String,
    /// The process's name as it is since. The program may choose another, which then stays.
    name: Vec<u8>,
}

thread_local! {
    static SHOWN: RefCell<Option<Shown>> = const { RefCell::new(None) };
}

/// Worker: shows its slot, and from now on the functions that it runs. `set_title` sets a title of
/// any length.
#[pyfunction]
#[pyo3(signature = (slot, set_title = None))]
pub(crate) fn name_worker(py: Python<'_>, slot: u32, set_title: Option<Py<PyAny>>) {
    let mut shown = Shown { slot, set_title, text: String::new(), name: process_name() };
    shown.show(py, String::new(), "");
    SHOWN.set(Some(shown));
}

/// Shows the function of the task at hand.
pub(super) fn show(function: &Bound<'_, PyAny>) {
    let py = function.py();
    // Taken out, since a title is set by code of Python's.
    let Some(mut shown) = SHOWN.take() else { return };
    if let Some((module, name)) = names(function) {
        let text = if module.is_empty() { name.clone() } else { format!("{module}.{name}") };
        if text != shown.text && process_name() == shown.name {
            shown.show(py, text, &name);
        }
    }
    SHOWN.set(Some(shown));
}

impl Shown {
    fn show(&mut self, py: Python<'_>, text: String, name: &str) {
        let separator = if text.is_empty() { "" } else { ": " };
        match &self.set_title {
            // The title is for people alone.
            Some(set_title) => {
                let title = format!("procession worker {}{separator}{text}", self.slot);
                if let Err(error) = set_title.call1(py, (title,)) {
                    error.write_unraisable(py, None);
                }
            }
            None => set_process_name(&format!("worker {}{separator}{name}", self.slot)),
        }
        self.text = text;
        self.name = process_name();
    }
}

/// A function's module and its name there. A partial's are those of what it calls, and an object's
/// those of its class.
fn names(function: &Bound<'_, PyAny>) -> Option<(String, String)> {
    let py = function.py();
    let mut named = function.clone();
    // Partials are made one of all when they are nested; others may lead anywhere.
    if named.getattr_opt(intern!(py, "__qualname__")).ok()?.is_none() {
        named = match named.getattr_opt(intern!(py, "func")).ok()? {
            Some(called) => called,
            None => named.get_type().into_any(),
        };
    }
    let name = named.getattr(intern!(py, "__qualname__")).ok()?.extract().ok()?;
    let module = named.getattr(intern!(py, "__module__")).ok()?.extract().unwrap_or_default();
    Some((module, name))
}
