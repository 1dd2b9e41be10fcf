//! Pickling as `multiprocessing` does it, without making a pickler for each object. Called by whatever sends objects, in any
//! process and thread, with the interpreter attached.
//!
//! `ForkingPickler` is a Python class whose every instance builds a chain of two dictionaries. Here the interpreter's own
//! pickler, in C, is kept and used again; its `dispatch_table` is [`Reducers`], which looks into the same two dictionaries each
//! time, so that what is registered later counts at once. A pickler is out of the store while it is in use: a reducer may run
//! any code, and pickle something itself.

use std::sync::{Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

/// The newest protocol of every Python from 3.8 on.
const PROTOCOL: u8 = 5;
/// Picklers kept, each with its buffer.
const MOST_KEPT: usize = 8;
/// A buffer that has grown beyond this is not kept.
const LARGEST_KEPT: usize = 1 << 20;

static KEPT: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

/// A pickled object. Gives its pickler back when dropped.
pub(crate) struct Pickled {
    pickler: Option<Pickler>,
    bytes: Vec<u8>,
}

impl Pickled {
    /// Pickles `object`, behind the bytes of `head`.
    ///
    /// # Errors
    ///
    /// What the pickler and the object's own methods raise.
    pub(crate) fn new(object: &Bound<'_, PyAny>, head: &[u8]) -> PyResult<Pickled> {
        let py = object.py();
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pickler = match kept {
            Some(pickler) => pickler,
            None => Pickler::new(py)?,
        };
        pickler.sink.get().bytes().extend_from_slice(head);
        // A pickler that has failed is in an unknown state, and is not used again.
        pickler.dump.call1(py, (object,))?;
        // It would keep the object alive, and refer to it in the next pickle.
        pickler.clear_memo.call0(py)?;
        let bytes = std::mem::take(&mut *pickler.sink.get().bytes());
        Ok(Pickled { pickler: Some(pickler), bytes })
    }

    /// The head and the pickle.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pickled {
    fn drop(&mut self) {
        let Some(pickler) = self.pickler.take() else { return };
        if self.bytes.capacity() <= LARGEST_KEPT {
            self.bytes.clear();
            *pickler.sink.get().bytes() = std::mem::take(&mut self.bytes);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.push(pickler);
        }
    }
}

/// The object that was pickled.
///
/// # Errors
///
/// What the object's class raises.
pub(crate) fn loads<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(bytes.py(), "pickle", "loads")?.call1((bytes,))
}

/// A C pickler's methods, and where it writes to.
struct Pickler {
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
}

impl Pickler {
    fn new(py: Python<'_>) -> PyResult<Pickler> {
        let sink = Py::new(py, Sink(Mutex::default()))?;
        let pickler = py.import("_pickle")?.getattr("Pickler")?.call1((&sink, PROTOCOL))?;
        pickler.setattr("dispatch_table", Reducers::new(py)?)?;
        Ok(Pickler { dump: pickler.getattr("dump")?.into(), clear_memo: pickler.getattr("clear_memo")?.into(), sink })
    }
}

/// The file that a pickler writes to: a buffer.
#[pyclass(frozen, module = "procession._engine")]
struct Sink(Mutex<Vec<u8>>);

impl Sink {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sink {
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(data) = data.cast_exact::<PyBytes>() {
            self.bytes().extend_from_slice(data.as_bytes());
            return Ok(());
        }
        let py = data.py();
        let data = PyBuffer::<u8>::get(data)?;
        let mut bytes = self.bytes();
        let begin = bytes.len();
        bytes.resize(begin + data.len_bytes(), 0);
        data.copy_to_slice(py, &mut bytes[begin..])
    }
}

/// The reducers of `ForkingPickler`, then those of `copyreg`.
#[pyclass(frozen, mapping, module = "procession._engine")]
struct Reducers {
    forking: Py<PyDict>,
    copyreg: Py<PyDict>,
}

impl Reducers {
    fn new(py: Python<'_>) -> PyResult<Reducers> {
        let pickler = py.import("procession.reduction")?.getattr("ForkingPickler")?;
        let forking = pickler.getattr("_extra_reducers")?.cast_into::<PyDict>()?.unbind();
        let copyreg = py.import("copyreg")?.getattr("dispatch_table")?.cast_into::<PyDict>()?.unbind();
        Ok(Reducers { forking, copyreg })
    }
}

#[pymethods]
impl Reducers {
    fn __getitem__<'py>(&self, class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        if let Some(reducer) = self.forking.bind(py).get_item(class)? {
            return Ok(reducer);
        }
        let reducer = self.copyreg.bind(py).get_item(class)?;
        reducer.ok_or_else(|| PyKeyError::new_err(class.clone().unbind()))
    }
}
