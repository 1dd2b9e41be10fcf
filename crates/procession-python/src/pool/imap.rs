//! Lazy maps: iterators that pull their items as their results are taken, so that an endless generator runs in constant memory.
//! Items are pulled in the thread that iterates, and by `join` in the thread that joins, once the pool is closed:
//!
//! | | who pulls items | how far ahead |
//! |---|---|---|
//! | the pool is open | `imap` itself, then `next` | `buffersize` items, or [`AHEAD`] for each worker |
//! | the pool is closed | the following `next`, or `join` | to the end |
//! | the iterator is gone | nobody: what is not pulled is dropped too | |
//!
//! The iterable is the user's code. It runs under the iterator's own lock and no other, and who waits for that detaches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use procession_core::pool::ChunkEntry;
use procession_core::pool::{Feeder, Handle, Terms};
use pyo3::exceptions::{PyException, PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::item::Kind;
use super::result::value_of;
use super::{Pool, worker};
use crate::error::{self, OrRaise};
use crate::wait::{attached, blocking, deadline, interruptible};

/// Items on their way for each worker: those it works on, and those that wait for it or for who iterates.
const AHEAD: usize = 64;
/// The most items on their way when the pool is closed and all are pulled: the ring is not to hold them all at once.
const MOST_ON_THEIR_WAY: usize = 4096;

/// The results of `imap` and `imap_unordered`.
#[pyclass(frozen, weakref, module = "procession.pool", name = "IMapIterator")]
pub(crate) struct IMapIterator {
    pool: Py<Pool>,
    /// The pool's Python half, which is to live as long. `None` once the collector has broken a cycle that goes through it.
    owner: Mutex<Option<Py<PyAny>>>,
    /// The same of the function.
    function: Mutex<Option<Py<PyAny>>>,
    chunksize: usize,
    is_ordered: bool,
    most_ahead: usize,
    terms: Terms,
    state: Mutex<State>,
    told: Arc<Told>,
}

/// Who is to be told that a result is there.
#[derive(Default)]
struct Told(Mutex<Option<Py<PyAny>>>);

impl Told {
    fn callback(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls it, once.
    fn call(&self, py: Python<'_>) {
        let callback = self.callback().take();
        if let Some(callback) = callback
            && let Err(error) = callback.call0(py)
        {
            error.write_unraisable(py, Some(callback.bind(py)));
        }
    }
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        attached(|py| self.call(py));
    }
}

struct State {
    /// `None` at the end.
    tap: Option<(Py<PyAny>, Feeder)>,
    submitted: VecDeque<Chunk>,
    /// What ended the items early; said once, behind the results of what came before.
    error: Option<PyErr>,
    /// Results that are decoded and not taken.
    ready: VecDeque<Py<PyAny>>,
}

/// Items that go to a worker at once.
enum Chunk {
    Submitted(Handle),
    /// They do not pickle, for this reason.
    Failed(PyErr),
}

impl Chunk {
    fn handle(&self) -> Option<&Handle> {
        match self {
            Chunk::Submitted(handle) => Some(handle),
            Chunk::Failed(_) => None,
        }
    }

    fn is_complete(&self) -> bool {
        self.handle().is_none_or(Handle::is_complete)
    }
}

impl IMapIterator {
    #[allow(clippy::too_many_arguments, reason = "they are those of a Python call")]
    pub(super) fn new(
        pool: &Bound<'_, Pool>,
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        iterator: Bound<'_, PyAny>,
        chunksize: usize,
        is_ordered: bool,
        most_ahead: Option<usize>,
        terms: Terms,
    ) -> PyResult<IMapIterator> {
        let py = owner.py();
        if chunksize == 0 || most_ahead == Some(0) {
            return Err(PyValueError::new_err("chunksize and buffersize must be 1 or more"));
        }
        let feeder = pool.get().engine().feeder().or_raise(py)?;
        let ahead = most_ahead.unwrap_or(AHEAD * pool.get().engine().size() * chunksize);
        let state = State {
            tap: Some((iterator.unbind(), feeder)),
            submitted: VecDeque::new(),
            error: None,
            ready: VecDeque::new(),
        };
        let this = IMapIterator {
            pool: pool.clone().unbind(),
            owner: Mutex::new(Some(owner.clone().unbind())),
            function: Mutex::new(Some(function.clone().unbind())),
            chunksize,
            is_ordered,
            most_ahead: ahead.div_ceil(chunksize),
            terms,
            state: Mutex::new(state),
            told: Arc::default(),
        };
        this.pull(py, &mut this.lock(py));
        Ok(this)
    }

    fn lock<'a>(&'a self, py: Python<'_>) -> std::sync::MutexGuard<'a, State> {
        self.state.lock_py_attached(py).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Submits chunks until enough are on their way, or the items are at their end.
    fn pull(&self, py: Python<'_>, state: &mut State) {
        // Taken out, so that it is gone where its iterator raises.
        let Some((iterator, feeder)) = state.tap.take() else { return };
        while state.submitted.len() < self.most_ahead || feeder.is_closed() {
            match self.submit_next(py, iterator.bind(py), &feeder) {
                Ok(Some(chunk)) => state.submitted.push_back(chunk),
                Ok(None) => return,
                Err(error) => {
                    state.error = Some(error);
                    return;
                }
            }
            if let Some(early) = state.submitted.len().checked_sub(MOST_ON_THEIR_WAY)
                && let Chunk::Submitted(handle) = &state.submitted[early]
                && let Err(error) = blocking(py, || handle.wait(None), |_| true).and_then(|waited| waited.or_raise(py))
            {
                state.error = Some(error);
                return;
            }
        }
        state.tap = Some((iterator, feeder));
    }

    fn submit_next(&self, py: Python<'_>, iterator: &Bound<'_, PyAny>, feeder: &Feeder) -> PyResult<Option<Chunk>> {
        let chunk = PyList::empty(py);
        let mut broken = None;
        for item in iterator.try_iter()?.take(self.chunksize) {
            match item {
                Ok(item) => chunk.append(item)?,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        let pool = self.pool.get();
        let function = self.function.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|f| f.clone_ref(py));
        let Some(function) = function else { return Ok(None) };
        let pickled = pool.function(function.bind(py))?;
        let encoded = feeder.items(1, |items| {
            if self.chunksize == 1 {
                let args = PyTuple::new(py, [chunk.get_item(0)?])?;
                pool.push(items, Kind::Call, &pickled, args.as_any(), self.terms.retries > 0)
            } else {
                pool.push(items, Kind::Map, &pickled, chunk.as_any(), self.terms.retries > 0)
            }
        });
        let items = match encoded {
            Ok(items) => items,
            // The items after it go on.
            Err(error) if error.is_instance_of::<PyException>(py) => return Ok(Some(Chunk::Failed(error))),
            Err(error) => return Err(error),
        };
        let entry = ChunkEntry::of(worker::entry);
        Ok(Some(Chunk::Submitted(interruptible(py, || feeder.submit(entry, items, self.terms))?.or_raise(py)?)))
    }

    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let deadline = deadline(timeout)?;
        let mut state = self.lock(py);
        loop {
            if let Some(value) = state.ready.pop_front() {
                return Ok(Some(value));
            }
            // In bursts: workers that are told of each item by itself sleep in between.
            if state.submitted.len() <= self.most_ahead / 2 {
                self.pull(py, &mut state);
            }
            if state.submitted.is_empty() {
                return state.error.take().map_or(Ok(None), Err);
            }
            let at = {
                let chunks = state.submitted.iter().take(if self.is_ordered { 1 } else { usize::MAX });
                match chunks.clone().position(Chunk::is_complete) {
                    Some(at) => at,
                    None => {
                        // None of them has failed, or it would be complete.
                        let handles: Vec<&Handle> = chunks.filter_map(Chunk::handle).collect();
                        let wait = || Handle::wait_any(&handles, deadline);
                        let waited = blocking(py, wait, |waited| matches!(waited, Ok(true)))?.or_raise(py)?;
                        if !waited {
                            return Err(error::raised(
                                py,
                                &procession_core::Error::Timeout { what: "a result was there" },
                            ));
                        }
                        handles.iter().position(|handle| handle.is_complete()).unwrap_or(0)
                    }
                }
            };
            match state.submitted.remove(at) {
                Some(Chunk::Submitted(handle)) => {
                    self.decode(py, &handle, &mut state).map_err(|error| seen(py, error))?
                }
                Some(Chunk::Failed(error)) => return Err(error),
                None => {}
            }
        }
    }

    fn decode(&self, py: Python<'_>, handle: &Handle, state: &mut State) -> PyResult<()> {
        let mut result = Ok(());
        let visited = handle.visit(|results| {
            results.for_each(|(_, tag, payload)| {
                let value = value_of(py, tag, payload, &self.function);
                result = value.and_then(|value| {
                    if self.chunksize == 1 {
                        state.ready.push_back(value.unbind());
                        return Ok(());
                    }
                    let values = value.cast_into::<PyList>()?;
                    state.ready.extend(values.iter().map(Bound::unbind));
                    Ok(())
                });
            })
        });
        visited.unwrap_or(Ok(())).or_raise(py)?;
        result
    }
}

/// A task's error, as iteration raises it: `StopIteration` would end the iteration, and results would vanish.
fn seen(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let raised = PyRuntimeError::new_err("a task raised StopIteration");
    raised.set_cause(py, Some(error));
    raised
}

#[pymethods]
impl IMapIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.take(py, None)
    }

    /// The next result; raises `TimeoutError` after `timeout` seconds, `StopIteration` at the end, or what its task raised.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.take(py, timeout)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.pool)?;
        for held in [&self.owner, &self.function] {
            if let Ok(held) = held.try_lock() {
                visit.call(&*held)?;
            }
        }
        // Whoever has the lock is at work with it: then it is not garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        if let Some((iterator, _)) = &state.tap {
            visit.call(iterator)?;
        }
        state.ready.iter().try_for_each(|value| visit.call(value))
    }

    fn __clear__(&self) {
        let (tap, ready) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.tap.take(), std::mem::take(&mut state.ready))
        };
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let function = self.function.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Here, under no lock: they may run code when they go.
        drop((tap, ready, owner, function));
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next result, in asyncio or trio.
    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(slf.py().import("procession._waiting")?.call_method1("next_of", (slf,))?.unbind())
    }

    /// Has `callback()` called, in some thread, once the next result is there or may be. The last one is called.
    fn _when_next(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let state = self.lock(py);
        let before = self.told.callback().replace(callback);
        let waker = Waker::from(self.told.clone());
        let chunks = state.submitted.iter().take(if self.is_ordered { 1 } else { usize::MAX });
        let handles = chunks.map(Chunk::handle).collect::<Vec<_>>();
        // What has failed is there, and so is the end.
        let mut is_there = handles.is_empty() || !state.ready.is_empty() || handles.iter().any(Option::is_none);
        for handle in handles.into_iter().flatten() {
            is_there |= py.detach(|| handle.awaken(&waker)).or_raise(py)?;
        }
        drop(state);
        drop(before);
        if is_there {
            self.told.call(py);
        }
        Ok(())
    }

    /// The pool.
    fn _pool(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    /// Submits all that is left, of a pool that is closed.
    fn _pull_all(&self, py: Python<'_>) {
        self.pull(py, &mut self.lock(py));
    }
}
