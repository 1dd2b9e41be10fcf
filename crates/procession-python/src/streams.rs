//! The standard streams' numbers, kept from what Python makes itself. Used by the package's code
//! wherever it has Python make an fd that is kept, in any thread, with the interpreter attached.

use std::sync::{Mutex, PoisonError};

use procession_core::descriptor;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::OrOsError;

/// A context in which no new fd gets a number of the standard streams, even if the program closed
/// one of these.
#[pyclass(frozen, module = "procession._engine")]
#[derive(Debug)]
pub(crate) struct HeldStreams {
    held: Mutex<Option<descriptor::HeldStreams>>,
}

#[pymethods]
impl HeldStreams {
    #[new]
    fn new() -> HeldStreams {
        HeldStreams { held: Mutex::new(None) }
    }

    fn __enter__(&self) -> PyResult<()> {
        self.set(Some(descriptor::HeldStreams::new().or_os_error()?));
        Ok(())
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyTuple>) {
        self.set(None);
    }
}

impl HeldStreams {
    fn set(&self, held: Option<descriptor::HeldStreams>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}
