//! Pools of Python's: the engine's pool, with pickles for payloads. The thin half of
//! `procession.pool`, whose head says how the two divide the work. Used in the parent, from any
//! thread, with the interpreter attached; what may wait detaches.

mod carrier;
mod channel;
mod child;
mod function;
mod imap;
mod insights;
mod item;
mod packed;
mod result;
mod starter;
mod title;
mod worker;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use procession_core::Error;
use procession_core::pool::ChunkEntry;
use procession_core::pool::Items;
use procession_core::pool::{self as core, Service, Terms};
use procession_core::start::StartMethod;
use pyo3::exceptions::{PyException, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PySlice, PyTuple};

pub(crate) use child::serve_carrier;
use imap::Gives;
pub(crate) use imap::IMapIterator;
use result::Form;
pub(crate) use result::{ApplyResult, MapResult};
pub(crate) use title::name_worker;
pub(crate) use worker::{give_handle, run_worker, take_handle};

use crate::codec;
use crate::error::OrRaise;
use crate::surroundings::Surroundings;
use crate::wait::{attached_for_engine, blocking, interruptible};
use function::{Function, Globals};
use insights::Measured;
use item::{Kind, Unwritten};
use starter::Starter;

/// A pool as `procession.pool.Pool` drives it.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Pool {
    engine: Option<core::Pool>,
    globals: Globals,
    /// `procession._by_value.Values`: what is sent in the place of values that cannot go by name.
    values: Py<PyAny>,
    /// A `SystemExit` of a task is its result.
    carries_exits: bool,
}

/// The options that a caller gives for the tasks.
#[derive(Clone, Copy, Default, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Asked {
    timeout: Option<f64>,
    #[pyo3(from_py_with = retries_of)]
    retries: u32,
    fail_fast: bool,
}

/// Reads the number of times that a task is run again after its worker was lost.
fn retries_of(given: &Bound<'_, PyAny>) -> PyResult<u32> {
    given.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(given.py()) {
            let text = format!("retries must be a number from 0 to {}, not {given:?}", u32::MAX);
            return PyValueError::new_err(text);
        }
        error
    })
}

#[pymethods]
impl Pool {
    /// `start` starts a worker and returns its process; see [`Starter`].
    #[new]
    #[pyo3(signature = (workers, method, start, values, max_tasks = None, max_memory = None, memory_limit = None, idle_timeout = None, carries_exits = false, surroundings = None, insights = false))]
    #[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
    fn new(
        py: Python<'_>,
        workers: usize,
        method: &str,
        start: Py<PyAny>,
        values: Py<PyAny>,
        max_tasks: Option<NonZeroU32>,
        max_memory: Option<NonZeroU64>,
        memory_limit: Option<u64>,
        idle_timeout: Option<f64>,
        carries_exits: bool,
        surroundings: Option<&Surroundings>,
        insights: bool,
    ) -> PyResult<Pool> {
        let method = method.parse::<StartMethod>().map_err(Error::from).or_raise(py)?;
        let mut service = Service { max_tasks, max_memory, measures: insights, ..Service::default() };
        service.confinement.limits.memory = memory_limit;
        if let Some(surroundings) = surroundings {
            surroundings.fill(&mut service);
        }
        let starter = Starter::new(method, start);
        codec::prepare(py)?;
        let engine = interruptible(py, || core::Pool::new(workers, starter, service))?.or_raise(py)?;
        // More than a duration can say is no limit, as infinity is.
        if let Some(limit) = idle_timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()) {
            engine.close_when_idle(limit);
        }
        Ok(Pool { engine: Some(engine), globals: Globals::default(), values, carries_exits })
    }

    /// Submits `function(*args, **named)`. With `waits` it returns the result's value, and gives
    /// the call up if the wait is interrupted: nobody else has the result. That is one call, so
    /// that no interrupt comes between.
    #[pyo3(signature = (owner, function, args, named, timeout = None, retries = 0, waits = false))]
    #[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
    fn apply(
        &self,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        named: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        #[pyo3(from_py_with = retries_of)] retries: u32,
        waits: bool,
    ) -> PyResult<Py<PyAny>> {
        let args = codec::as_tuple(args)?;
        let (kind, value) = match named {
            Some(named) if !named.is_empty() => {
                (Kind::CallNamed, PyTuple::new(owner.py(), [args.as_any(), named.as_any()])?)
            }
            _ => (Kind::Call, args),
        };
        let encode =
            |items: &mut Items, encoded: &Function| self.push(items, kind, encoded, value.as_any(), retries > 0);
        let terms = terms(Asked { timeout, retries, ..Asked::default() }, None)?;
        self.submit(owner, function, 1, terms, encode, Form::apply())?.handed_out(owner.py(), waits)
    }

    /// Submits `function` over each of `items`, a list or a range, in chunks of the pool's choice
    /// or of `chunksize`. `waits` is as with `apply`. With `returns_errors` an exception of a task
    /// takes the place of its result.
    #[pyo3(signature = (owner, function, items, chunksize, is_star, timeout = None, retries = 0, waits = false, returns_errors = false, fail_fast = false))]
    #[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
    fn map(
        &self,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        items: &Bound<'_, PyAny>,
        chunksize: Option<usize>,
        is_star: bool,
        timeout: Option<f64>,
        #[pyo3(from_py_with = retries_of)] retries: u32,
        waits: bool,
        returns_errors: bool,
        fail_fast: bool,
    ) -> PyResult<Py<PyAny>> {
        let py = owner.py();
        let asked = Asked { timeout, retries, fail_fast };
        let form = Form { returns_errors, ..Form::many(if is_star { "starmap" } else { "map" }) };
        let kind = if is_star { Kind::Starmap } else { Kind::Map };
        let len = items.len()?;
        if timeout.is_some() || retries > 0 || returns_errors {
            // These hold for each task, so each travels by itself, though still in chunks.
            let encode = |encoded: &mut Items, function: &Function| {
                items.try_iter()?.try_for_each(|item| {
                    let one = PyTuple::new(py, [item?])?;
                    match self.push(encoded, kind, function, one.as_any(), retries > 0) {
                        Err(error) if returns_errors => self.push_error(encoded, Kind::Map, error),
                        pushed => pushed,
                    }
                })
            };
            return self.submit(owner, function, len, terms(asked, chunksize)?, encode, form)?.handed_out(py, waits);
        }
        let sizes = match chunksize {
            Some(0) => return Err(PyValueError::new_err("a chunk needs at least one task, not 0")),
            Some(size) => core::explicit_chunks(len, size),
            None => core::guided_chunks(len, self.engine().size()),
        };
        let encode = |encoded: &mut Items, function: &Function| {
            let mut from = 0;
            sizes.iter().try_for_each(|size| {
                let to = from + *size as usize;
                let chunk = slice(items, from, to)?;
                from = to;
                self.push(encoded, kind, function, chunk.as_any(), false)
            })
        };
        self.submit(owner, function, sizes.len(), terms(asked, Some(1))?, encode, form)?.handed_out(py, waits)
    }

    /// Submits `[function(*args) for args in items]`, of a list, as one task. `first` is the index
    /// of its first in the user's call.
    #[pyo3(signature = (owner, function, items, timeout = None, retries = 0, first = 0))]
    fn apply_chunk(
        &self,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        items: &Bound<'_, PyList>,
        timeout: Option<f64>,
        #[pyo3(from_py_with = retries_of)] retries: u32,
        first: usize,
    ) -> PyResult<Py<PyAny>> {
        let encode = |encoded: &mut Items, pickled: &Function| {
            self.push(encoded, Kind::Starmap, pickled, items.as_any(), retries > 0)
        };
        let terms = terms(Asked { timeout, retries, ..Asked::default() }, Some(1))?;
        let form = Form { first, ..Form::many("map") };
        self.submit(owner, function, 1, terms, encode, form)?.handed_out(owner.py(), false)
    }

    /// A lazy map. `gives` says how a result is given; `expected` is how many there will be, if
    /// that is known.
    #[pyo3(signature = (owner, function, iterator, chunksize, is_ordered, most_ahead = None, timeout = None, retries = 0, gives = Gives::Values, fail_fast = false, expected = None))]
    #[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
    fn imap(
        slf: &Bound<'_, Self>,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        iterator: Bound<'_, PyAny>,
        chunksize: usize,
        is_ordered: bool,
        most_ahead: Option<usize>,
        timeout: Option<f64>,
        #[pyo3(from_py_with = retries_of)] retries: u32,
        gives: Gives,
        fail_fast: bool,
        expected: Option<usize>,
    ) -> PyResult<IMapIterator> {
        let terms = terms(Asked { timeout, retries, fail_fast }, Some(1))?;
        IMapIterator::new(slf, owner, function, iterator, chunksize, is_ordered, most_ahead, terms, gives, expected)
    }

    /// Takes no more tasks; workers end when those that were given are finished.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine().close());
    }

    /// Ends the workers at once; what is not finished is given up.
    fn terminate(&self, py: Python<'_>) {
        py.detach(|| self.engine().terminate());
    }

    /// The same, without a wait for their end.
    fn begin_to_terminate(&self, py: Python<'_>) {
        py.detach(|| self.engine().begin_to_terminate());
    }

    /// Waits, after `close` or `terminate`, until all workers have ended.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.engine().join(), Result::is_ok)?.or_raise(py)
    }

    /// Returns whether the pool takes no more tasks: it was closed, or has been idle for too long.
    fn is_closed(&self) -> bool {
        self.engine().is_closed()
    }

    /// Why it can run no more tasks, if that is so.
    fn broken(&self) -> Option<String> {
        self.engine().broken().map(|error| error.to_string())
    }

    /// Returns the number of calls that are not finished, as far as results have been taken.
    fn outstanding(&self) -> usize {
        self.engine().outstanding()
    }

    /// Gives up the calls that have not begun; how many these were.
    fn cancel_queued(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.engine().cancel_queued()).or_raise(py)
    }

    /// Has no call begin again from now on whose worker is lost.
    fn end_retries(&self) {
        self.engine().end_retries();
    }

    /// Under fork: has `callback()` called, in the pool's thread, when a thread of the program is
    /// to start a worker.
    fn when_vacant(&self, callback: Py<PyAny>) {
        self.engine().on_vacancy(Box::new(move || {
            attached_for_engine(|py| {
                if let Err(error) = callback.call0(py) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        }));
    }

    /// Has `callback()` called once all workers are gone, in the pool's thread.
    fn when_gone(&self, py: Python<'_>, callback: Py<PyAny>) {
        let callback = Box::new(move || {
            attached_for_engine(|py| {
                if let Err(error) = callback.call0(py) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
                // While attached: it may be the last that holds what it belongs to.
                drop(callback);
            });
        });
        py.detach(|| self.engine().on_end(callback));
    }

    /// Keeps so many workers from now on; `ValueError` if that is none.
    fn resize(&self, py: Python<'_>, workers: usize) -> PyResult<()> {
        interruptible(py, || self.engine().resize(workers))?.or_raise(py)
    }

    /// Returns the number of workers that the pool keeps.
    fn size(&self) -> usize {
        self.engine().size()
    }

    /// The pids of the workers that are alive; those that are missing are started first, where this
    /// thread may.
    fn worker_pids(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        interruptible(py, || self.engine().worker_pids())
    }

    /// Returns a snapshot of its workers and tasks, as plain values.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = interruptible(py, || self.engine().stats())?.or_raise(py)?;
        let workers = stats.workers.iter().map(|worker| {
            let one = PyDict::new(py);
            one.set_item("pid", worker.pid)?;
            one.set_item(
                "running",
                worker.running.map(|task| (task.job, task.index, task.since.elapsed().as_secs_f64())),
            )?;
            one.set_item("done", worker.done)?;
            one.set_item("resident", worker.resident)?;
            Ok(one)
        });
        let all = PyDict::new(py);
        all.set_item("workers", workers.collect::<PyResult<Vec<_>>>()?)?;
        all.set_item("queued", stats.queued)?;
        all.set_item("done", stats.done)?;
        all.set_item("failed", stats.failed)?;
        all.set_item("lost", stats.lost)?;
        all.set_item("respawns", stats.respawns)?;
        Ok(all)
    }

    /// Returns where the time of its workers went, as plain values; `None` in a pool that does not
    /// measure.
    fn insights(&self, py: Python<'_>) -> PyResult<Option<Measured>> {
        Ok(interruptible(py, || self.engine().insights())?.or_raise(py)?.map(Measured::from))
    }
}

impl Pool {
    fn engine(&self) -> &core::Pool {
        self.engine.as_ref().expect("it is taken by the drop alone")
    }

    fn submit(
        &self,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        items: usize,
        terms: Terms,
        encode: impl FnOnce(&mut Items, &Function) -> PyResult<()>,
        form: Form,
    ) -> PyResult<ApplyResult> {
        let py = owner.py();
        let encoded =
            self.function(function).and_then(|pickled| self.engine().items(items, |items| encode(items, &pickled)));
        let submitted = match encoded {
            Ok(items) => {
                interruptible(py, || self.engine().submit(ChunkEntry::of(worker::entry), items, terms))?.or_raise(py)?
            }
            // A value that does not pickle is an error of the call, raised where its result is
            // asked for.
            Err(error) if error.is_instance_of::<PyException>(py) => {
                return Ok(ApplyResult::failed(function, error, form));
            }
            // An exception of a signal's handler is the caller's.
            Err(error) => return Err(error),
        };
        Ok(ApplyResult::new(owner, function, submitted, form))
    }

    fn push(
        &self,
        items: &mut Items,
        kind: Kind,
        function: &Function,
        value: &Bound<'_, PyAny>,
        is_kept: bool,
    ) -> PyResult<()> {
        let py = value.py();
        let calls = match kind {
            Kind::Map | Kind::Starmap => u32::try_from(value.len()?).unwrap_or(u32::MAX),
            Kind::Call | Kind::CallNamed => 1,
        };
        let too_large =
            || Unwritten::Refused(PyValueError::new_err("a task takes more than 4 GiB beside its large buffers"));
        let names_unknown = |pickle: &[u8]| self.names_unknown(py, pickle);
        let write =
            |out: &mut Vec<u8>| item::write(out, kind, function, value, is_kept, self.carries_exits, names_unknown);
        let stand_in = match items.push_batch(calls, write, too_large) {
            Ok(()) => return Ok(()),
            Err(Unwritten::NamesUnknown) => self.by_value(value, None)?,
            Err(Unwritten::Refused(error)) if error.is_instance_of::<PyException>(py) => {
                self.by_value(value, Some(error))?
            }
            Err(Unwritten::Refused(error)) => return Err(error),
        };
        let write =
            |out: &mut Vec<u8>| item::write(out, kind, function, &stand_in, is_kept, self.carries_exits, |_| Ok(false));
        match items.push_batch(calls, write, too_large) {
            Err(Unwritten::Refused(error)) => Err(error),
            Ok(()) | Err(Unwritten::NamesUnknown) => Ok(()),
        }
    }

    /// Has a task raise the error, which stands for an item that does not pickle. An exception of a
    /// signal's handler is the caller's.
    fn push_error(&self, items: &mut Items, kind: Kind, error: PyErr) -> PyResult<()> {
        Python::attach(|py| {
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            let remote = py.import("procession._remote")?;
            let packed = remote.call_method1("pack", (error.value(py), error.traceback(py)))?;
            let function = self.function(&remote.getattr("raise_packed")?)?;
            let value = match kind {
                Kind::Map | Kind::Starmap => PyList::new(py, [packed])?.into_any(),
                Kind::Call | Kind::CallNamed => PyTuple::new(py, [packed])?.into_any(),
            };
            self.push(items, kind, &function, &value, true)
        })
    }

    /// Returns a stand-in for a value that plain pickle refuses with this error, or that names
    /// objects which no worker can find.
    fn by_value<'py>(&self, value: &Bound<'py, PyAny>, error: Option<PyErr>) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        self.values.bind(py).call_method1("by_value", (value, error.map(|error| error.into_value(py))))
    }

    /// Returns whether a pickle names something of the main module that no worker can find there.
    fn names_unknown(&self, py: Python<'_>, pickle: &[u8]) -> PyResult<bool> {
        if memchr::memmem::find(pickle, b"__main__").is_none() {
            return Ok(false);
        }
        self.values.bind(py).call_method1("names_unknown", (PyBytes::new(py, pickle),))?.is_truthy()
    }

    /// The function, as the items of a job name it.
    fn function(&self, function: &Bound<'_, PyAny>) -> PyResult<Arc<Function>> {
        if let Some(kept) = self.globals.get(function)? {
            return Ok(kept);
        }
        let mut pickle = Vec::new();
        let stand_in = match codec::dumps(function, &mut pickle, &mut Vec::new()) {
            Ok(()) if self.names_unknown(function.py(), &pickle)? => Some(self.by_value(function, None)?),
            Ok(()) => None,
            Err(error) => Some(self.by_value(function, Some(error))?),
        };
        if let Some(stand_in) = stand_in {
            pickle.clear();
            codec::dumps(&stand_in, &mut pickle, &mut Vec::new())?;
        }
        let pickled = Arc::new(Function::pickled(pickle)?);
        self.globals.keep(function, &pickled)?;
        Ok(pickled)
    }
}

/// A part of a list, or of a range: of that no more than a part is ever there as a list.
fn slice<'py>(items: &Bound<'py, PyAny>, from: usize, to: usize) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = items.cast_exact::<PyList>() {
        return Ok(list.get_slice(from, to));
    }
    // By Python's own call: `PySlice::new` of PyO3 0.30 keeps the two numbers for ever.
    let part = items.get_item(items.py().get_type::<PySlice>().call1((from, to))?)?;
    Ok(items.py().get_type::<PyList>().call1((part,))?.cast_into()?)
}

impl Drop for Pool {
    fn drop(&mut self) {
        let engine = self.engine.take();
        // The pool's thread may be in a callback and want the interpreter.
        Python::attach(|py| py.detach(|| drop(engine)));
    }
}

fn terms(asked: Asked, chunk: Option<usize>) -> PyResult<Terms> {
    let timeout = match asked.timeout {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
            let text = format!("a task's timeout is a number of seconds, not {seconds}");
            return Err(PyValueError::new_err(text));
        }
        // More than a duration can say is no limit, as infinity is.
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => None,
    };
    Ok(Terms { chunk, timeout, retries: asked.retries, fail_fast: asked.fail_fast })
}

/// The name of a function, for messages.
fn name_of(function: &Bound<'_, PyAny>) -> String {
    let name = function.getattr("__qualname__").and_then(|name| name.extract::<String>());
    name.or_else(|_| function.repr().map(|text| text.to_string())).unwrap_or_else(|_| "a function".into())
}
