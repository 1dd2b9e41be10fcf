//! Pickling at the speed of C: values to bytes and large buffers beside, and back. Called by pools
//! and queues, in any process, with the interpreter attached.
//!
//! The reducers are those of `multiprocessing.reduction.ForkingPickler`. That class is Python code
//! which costs microseconds to instantiate; here the C pickler itself is kept, with a table of the
//! same reducers, and used again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::buffer::Bytes;

/// A buffer that is shorter is pickled with the rest: see
/// [`procession_core::pool::blocks::THRESHOLD`].
const THRESHOLD: usize = procession_core::pool::blocks::THRESHOLD;

/// Makes ready what this process pickles and unpickles with. Before a fork, so that its child has
/// no need to.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    Encoder::take(py)?.give_back();
    unpickler(py).map(drop)
}

/// Appends the pickle of `value` to `out`; its large buffers, in order, to `buffers`.
///
/// # Errors
///
/// The exception of the pickler or of a reducer; then `out` and `buffers` are as before.
pub(crate) fn dumps(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, buffers: &mut Vec<Bytes>) -> PyResult<()> {
    let py = value.py();
    if let Some(pickler) = own_pickler(py) {
        let pickle = pickler.call_method1(intern!(py, "dumps"), (value,))?;
        append(out, Bytes::of(&pickle)?.as_slice())?;
        return Ok(());
    }
    let encoder = Encoder::take(py)?;
    let result = encoder.encode(value, out, buffers);
    // One that has failed half-way is not used again.
    if result.is_ok() {
        encoder.give_back();
    }
    result
}

/// The value of a pickle, whose large buffers are `buffers`.
///
/// # Errors
///
/// The exception of unpickling.
pub(crate) fn loads<'py>(
    py: Python<'py>,
    pickle: &Bound<'py, PyAny>,
    buffers: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(pickler) = own_pickler(py)
        && buffers.is_empty()
    {
        return pickler.call_method1(intern!(py, "loads"), (pickle,));
    }
    let loads = unpickler(py)?;
    if buffers.is_empty() {
        return loads.call1((pickle,));
    }
    let named = PyDict::new(py);
    named.set_item(intern!(py, "buffers"), PyList::new(py, buffers)?)?;
    loads.call((pickle,), Some(&named))
}

fn unpickler(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "_pickle", "loads")
}

/// The pickler that a program has set as its contexts' `reducer`, in place of the standard
/// library's: its `ForkingPickler`.
static OWN_PICKLER: Mutex<Option<Py<PyAny>>> = Mutex::new(None);
static HAS_OWN_PICKLER: AtomicBool = AtomicBool::new(false);

/// From now on this process pickles and unpickles by this class, which has `dumps` and `loads`;
/// `None`: by the standard one.
#[pyfunction]
pub(crate) fn set_pickler(pickler: Option<Py<PyAny>>) {
    HAS_OWN_PICKLER.store(pickler.is_some(), Ordering::Release);
    let before = std::mem::replace(&mut *OWN_PICKLER.lock().unwrap_or_else(PoisonError::into_inner), pickler);
    // Here, under no lock: what it holds may run code when it goes.
    drop(before);
}

/// Returns whether the program pickles by a class of its own.
pub(crate) fn has_own_pickler() -> bool {
    HAS_OWN_PICKLER.load(Ordering::Acquire)
}

fn own_pickler(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    if !has_own_pickler() {
        return None;
    }
    let own = OWN_PICKLER.lock().unwrap_or_else(PoisonError::into_inner);
    own.as_ref().map(|pickler| pickler.bind(py).clone())
}

/// A C pickler, and where it writes.
struct Encoder {
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    sink: Py<Sink>,
    /// The reducers that the pickler's table was made of.
    registered: Registered,
}

/// Copies of the tables in which reducers are registered: `copyreg`'s, and `ForkingPickler`'s if
/// that is loaded.
struct Registered {
    of_copyreg: Py<PyDict>,
    of_forking_pickler: Option<Py<PyDict>>,
}

/// Those that are not in use. A reducer may pickle for another process itself, so there may be
/// several.
static IDLE: Mutex<Vec<Encoder>> = Mutex::new(Vec::new());
const MOST_IDLE: usize = 8;

impl Encoder {
    fn take(py: Python<'_>) -> PyResult<Encoder> {
        let reducers = Reducers::get(py)?;
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(encoder) if reducers.are(py, &encoder.registered)? => Ok(encoder),
            _ => Encoder::new(py, reducers),
        }
    }

    fn new(py: Python<'_>, reducers: &Reducers) -> PyResult<Encoder> {
        static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        const PROTOCOL: u8 = 5;
        let sink = Py::new(py, Sink::default())?;
        let named = PyDict::new(py);
        named.set_item("buffer_callback", OutOfBand { sink: sink.clone_ref(py) })?;
        let pickler = PICKLER.import(py, "_pickle", "Pickler")?.call((&sink, PROTOCOL), Some(&named))?;
        let registered = reducers.registered(py)?;
        pickler.setattr("dispatch_table", reducers.table(py)?)?;
        let bound = |name| pickler.getattr(name).map(Bound::unbind);
        Ok(Encoder { dump: bound("dump")?, clear_memo: bound("clear_memo")?, sink, registered })
    }

    fn encode(&self, value: &Bound<'_, PyAny>, out: &mut Vec<u8>, buffers: &mut Vec<Bytes>) -> PyResult<()> {
        let py = value.py();
        let (before, known) = (out.len(), buffers.len());
        {
            let mut sink = self.sink.borrow_mut(py);
            std::mem::swap(&mut sink.bytes, out);
            std::mem::swap(&mut sink.buffers, buffers);
        }
        let dumped = self.dump.call1(py, (value,));
        {
            let mut sink = self.sink.borrow_mut(py);
            std::mem::swap(&mut sink.bytes, out);
            std::mem::swap(&mut sink.buffers, buffers);
        }
        if let Err(error) = dumped {
            out.truncate(before);
            buffers.truncate(known);
            return Err(error);
        }
        self.clear_memo.call0(py)?;
        Ok(())
    }

    fn give_back(self) {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(self);
        }
    }
}

/// The place in which reducers are registered.
struct Reducers {
    of_copyreg: Py<PyDict>,
    modules: Py<PyDict>,
}

impl Reducers {
    fn get(py: Python<'_>) -> PyResult<&Reducers> {
        static REDUCERS: PyOnceLock<Reducers> = PyOnceLock::new();
        REDUCERS.get_or_try_init(py, || {
            let dict = |module, name| -> PyResult<Py<PyDict>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyDict>()?.unbind())
            };
            Ok(Reducers { of_copyreg: dict("copyreg", "dispatch_table")?, modules: dict("sys", "modules")? })
        })
    }

    /// Those of `ForkingPickler`, whose module imports `socket`: where that is not loaded nobody
    /// has registered any. Of its own, those for methods do what pickle does by itself; see
    /// [`reduce_partial`].
    fn of_forking_pickler<'py>(&self, py: Python<'py>) -> PyResult<Option<&Bound<'py, PyDict>>> {
        static REDUCERS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
        if REDUCERS.get(py).is_none() && !self.modules.bind(py).contains(intern!(py, "socket"))? {
            return Ok(None);
        }
        let reducers = REDUCERS.get_or_try_init(py, || -> PyResult<_> {
            let forking = py.import("procession.reduction")?.getattr("ForkingPickler")?;
            Ok(forking.getattr("_extra_reducers")?.cast_into::<PyDict>()?.unbind())
        })?;
        Ok(Some(reducers.bind(py)))
    }

    /// Copies what is registered now.
    fn registered(&self, py: Python<'_>) -> PyResult<Registered> {
        let copy = |table: &Bound<'_, PyDict>| table.copy().map(Bound::unbind);
        Ok(Registered {
            of_copyreg: copy(self.of_copyreg.bind(py))?,
            of_forking_pickler: self.of_forking_pickler(py)?.map(copy).transpose()?,
        })
    }

    /// Returns whether the registered reducers are these, and no others.
    fn are(&self, py: Python<'_>, these: &Registered) -> PyResult<bool> {
        Ok(self.of_copyreg.bind(py).eq(&these.of_copyreg)?
            && match (self.of_forking_pickler(py)?, &these.of_forking_pickler) {
                (Some(table), Some(copy)) => table.eq(copy)?,
                (table, copy) => table.is_none() && copy.is_none(),
            })
    }

    fn table<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let table = self.of_copyreg.bind(py).copy()?;
        match self.of_forking_pickler(py)? {
            Some(reducers) => table.update(reducers.as_mapping())?,
            None => {
                let partial = py.import("functools")?.getattr("partial")?;
                table.set_item(partial, wrap_pyfunction!(reduce_partial, py)?)?;
            }
        }
        Ok(table)
    }
}

/// A `functools.partial` as pickle has it, but without attributes of its own, as `ForkingPickler`
/// has it.
#[pyfunction]
fn reduce_partial<'py>(
    partial: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let (kind, args, state): (_, _, Bound<'py, PyTuple>) = partial.call_method0("__reduce__")?.extract()?;
    let (function, bound, named, _): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
        state.extract()?;
    Ok((kind, args, (function, bound, named, partial.py().None()).into_pyobject(partial.py())?))
}

/// The file that a pickler writes to.
#[pyclass(module = "procession._engine")]
#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    buffers: Vec<Bytes>,
}

#[pymethods]
impl Sink {
    fn write(&mut self, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        match piece.cast_exact::<PyBytes>() {
            Ok(bytes) => append(&mut self.bytes, bytes.as_bytes()),
            Err(_) => append(&mut self.bytes, Bytes::of(piece)?.as_slice()),
        }
    }
}

/// Appends bytes of a user's value.
///
/// # Errors
///
/// `MemoryError` where a `Vec` would end the process.
pub(crate) fn append(out: &mut Vec<u8>, bytes: &[u8]) -> PyResult<()> {
    let reserved = out.try_reserve(bytes.len()).or_else(|_| out.try_reserve_exact(bytes.len()));
    reserved.map_err(|_| PyMemoryError::new_err(format!("no memory for {} bytes of a pickle", bytes.len())))?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// The callback that a pickler calls for each buffer of an object that has some.
#[pyclass(frozen, module = "procession._engine")]
struct OutOfBand {
    sink: Py<Sink>,
}

#[pymethods]
impl OutOfBand {
    /// `True`: it is to be pickled with the rest.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        // Refused for what is not consecutive; then it is pickled as it pickles.
        let Ok(raw) = buffer.call_method0(intern!(buffer.py(), "raw")) else { return Ok(true) };
        if raw.len()? < THRESHOLD {
            return Ok(true);
        }
        let bytes = Bytes::of(&raw)?;
        self.sink.borrow_mut(buffer.py()).buffers.push(bytes);
        Ok(false)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.sink)
    }
}

/// A tuple of arguments, of whatever was given.
pub(crate) fn as_tuple<'py>(args: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    match args.cast::<PyTuple>() {
        Ok(tuple) => Ok(tuple.clone()),
        Err(_) => {
            let all: Vec<Bound<'py, PyAny>> =
                args.try_iter().map_err(|_| PyTypeError::new_err("args must be iterable"))?.collect::<PyResult<_>>()?;
            PyTuple::new(args.py(), all)
        }
    }
}
