//! Lazy maps: iterators that pull their items as their results are taken, so that an endless
//! generator needs constant memory. Used in the parent: items are pulled by the thread that calls
//! `imap` or iterates, and by one that joins a closed pool. The engine's [`Feed`] says how far
//! ahead: `buffersize` items, or [`AHEAD`] chunks for each worker.
//!
//! The iterable is the user's code. It runs under the iterator's own lock and no other, and a
//! thread that waits for that lock detaches.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

use procession_core::Error;
use procession_core::pool::{Ahead, ChunkEntry, Encoded, Feed, Feeder, Order, Source, Submitted, Terms, Window};
use pyo3::exceptions::{PyException, PyRuntimeError, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::item::Kind;
use super::result::{is_of_task, value_of};
use super::{Pool, worker};
use crate::error::{self, OrRaise};
use crate::wait::{attached, attached_for_engine, blocking, deadline};

/// Chunks on their way for each worker: those it works on, and those that wait for it or for
/// whoever iterates.
const AHEAD: usize = 64;

/// The results of `imap` and `imap_unordered`.
#[pyclass(frozen, weakref, module = "procession.pool", name = "IMapIterator")]
pub(crate) struct IMapIterator {
    /// The pool's Python half, which must live as long. `None` once the collector has broken a
    /// cycle that goes through it.
    owner: Mutex<Option<Py<PyAny>>>,
    /// The same of the function.
    function: Mutex<Option<Py<PyAny>>>,
    chunksize: usize,
    gives: Arc<Gives>,
    fail_fast: bool,
    /// True if results come in the order of the items.
    is_ordered: bool,
    /// The number of results that there will be, if that is known.
    expected: Option<usize>,
    /// The number of results taken so far.
    taken: AtomicUsize,
    /// To be called at the end.
    at_end: Told,
    state: Mutex<State>,
    /// The thread that has the lock of `state`: the iterable runs under it, and may ask for what
    /// waits for itself.
    holder: Mutex<Option<ThreadId>>,
    told: Arc<Told>,
}

/// The order and form in which results are given.
#[derive(Debug)]
pub(super) enum Gives {
    /// As they are; an exception is raised.
    Values,
    /// An exception takes the place of its result.
    Errors,
    /// As a pair: the index of the item in another call of the user's, and the result or the
    /// exception.
    Numbered {
        /// The method of that call.
        call: &'static str,
        /// The index there of each item.
        items: Vec<usize>,
    },
}

impl Gives {
    /// Returns the method and the index by which the user knows an item of this map.
    fn place_of(&self, item: usize, is_ordered: bool) -> (&'static str, usize) {
        match self {
            Gives::Numbered { call, items } => (call, items.get(item).copied().unwrap_or(item)),
            _ => (if is_ordered { "imap" } else { "imap_unordered" }, item),
        }
    }
}

impl FromPyObject<'_, '_> for Gives {
    type Error = PyErr;

    fn extract(asked: pyo3::Borrowed<'_, '_, PyAny>) -> PyResult<Gives> {
        let unknown = |what: &str| PyValueError::new_err(format!("a lazy map cannot give {what}"));
        if let Ok((call, items)) = asked.extract::<(String, Vec<usize>)>() {
            let call = ["map", "starmap"].into_iter().find(|known| *known == call).ok_or_else(|| unknown(&call))?;
            return Ok(Gives::Numbered { call, items });
        }
        match asked.extract::<String>()?.as_str() {
            "values" => Ok(Gives::Values),
            "errors" => Ok(Gives::Errors),
            other => Err(unknown(other)),
        }
    }
}

/// The callback to call once a result is there.
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
        attached_for_engine(|py| self.call(py));
    }
}

/// The state, and who has it.
struct Locked<'a> {
    holder: &'a Mutex<Option<ThreadId>>,
    state: MutexGuard<'a, State>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct State {
    feed: Feed<Arguments>,
    ahead: Ahead<Arguments>,
    /// Results that are decoded and not taken.
    ready: VecDeque<Py<PyAny>>,
}

/// The items of a lazy map, and what they are pickled with.
struct Arguments {
    iterator: Py<PyAny>,
    function: Py<PyAny>,
    pool: Py<Pool>,
    chunksize: usize,
    /// An item may be run again.
    is_kept: bool,
    gives: Arc<Gives>,
    is_ordered: bool,
    /// The number of items pulled so far.
    pulled: usize,
}

impl Source for Arguments {
    type Error = PyErr;

    fn next(&mut self, feeder: &Feeder) -> PyResult<Option<Encoded<PyErr>>> {
        attached(|py| self.encode_next(py, feeder))
    }

    fn run<R: Send>(act: impl FnOnce() -> R + Send, is_done: impl FnOnce(&R) -> bool) -> PyResult<R> {
        attached(|py| blocking(py, act, is_done))
    }

    fn refused(error: Error) -> PyErr {
        attached(|py| error::raised(py, &error))
    }
}

impl Arguments {
    fn encode_next(&mut self, py: Python<'_>, feeder: &Feeder) -> PyResult<Option<Encoded<PyErr>>> {
        let items = self.iterator.bind(py).try_iter()?.take(self.chunksize).collect::<PyResult<Vec<_>>>()?;
        if items.is_empty() {
            return Ok(None);
        }
        let first = self.pulled;
        self.pulled += items.len();
        let pool = self.pool.get();
        let pickled = pool.function(self.function.bind(py))?;
        let encoded = feeder.items(1, |encoded| {
            if self.chunksize == 1 {
                match pool.push(encoded, Kind::Call, &pickled, PyTuple::new(py, items)?.as_any(), self.is_kept) {
                    Err(error) if !matches!(*self.gives, Gives::Values) => pool.push_error(encoded, Kind::Call, error),
                    pushed => pushed,
                }
            } else {
                pool.push(encoded, Kind::Map, &pickled, PyList::new(py, items)?.as_any(), self.is_kept)
            }
        });
        match encoded {
            Ok(encoded) => Ok(Some(Encoded::Items(encoded))),
            // The items after it go on.
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let (call, index) = self.gives.place_of(first, self.is_ordered);
                Ok(Some(Encoded::Failed(error::located(py, error, call, index, None))))
            }
            Err(error) => Err(error),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.iterator)?;
        visit.call(&self.function)?;
        visit.call(&self.pool)
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
        gives: Gives,
        expected: Option<usize>,
    ) -> PyResult<IMapIterator> {
        let py = owner.py();
        if chunksize == 0 || most_ahead == Some(0) {
            return Err(PyValueError::new_err("chunksize and buffersize must be 1 or more"));
        }
        // An error must not end the chunk that it is in.
        let chunksize = if matches!(gives, Gives::Values) { chunksize } else { 1 };
        let gives = Arc::new(gives);
        let engine = pool.get().engine();
        let feeder = engine.feeder().or_raise(py)?;
        let most = most_ahead.map_or(AHEAD * engine.size(), |items| items.div_ceil(chunksize));
        let arguments = Arguments {
            iterator: iterator.unbind(),
            function: function.clone().unbind(),
            pool: pool.clone().unbind(),
            chunksize,
            is_kept: terms.retries > 0,
            gives: gives.clone(),
            is_ordered,
            pulled: 0,
        };
        // In bursts: workers that are told of each item by itself sleep in between.
        let window = Window { most, refill_at: most / 2 };
        let mut feed = Feed::new(arguments, feeder, ChunkEntry::of(worker::entry), terms, window);
        feed.pull(0);
        let ahead = Ahead::new(if is_ordered { Order::OfItems } else { Order::AsReady });
        Ok(IMapIterator {
            owner: Mutex::new(Some(owner.clone().unbind())),
            function: Mutex::new(Some(function.clone().unbind())),
            chunksize,
            gives,
            fail_fast: terms.fail_fast,
            is_ordered,
            expected,
            taken: AtomicUsize::new(0),
            at_end: Told::default(),
            state: Mutex::new(State { feed, ahead, ready: VecDeque::new() }),
            holder: Mutex::new(None),
            told: Arc::default(),
        })
    }

    /// # Errors
    ///
    /// `RuntimeError` if this thread has the lock already: the iterable asks.
    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<Locked<'a>> {
        let holder = || self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if *holder() == Some(thread::current().id()) {
            return Err(PyRuntimeError::new_err(
                "the iterable of this lazy map asks for the map's own results, which wait for its items: take results \
                 outside of the iterable",
            ));
        }
        let state = self.state.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        *holder() = Some(thread::current().id());
        Ok(Locked { holder: &self.holder, state })
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let mut ended = None;
        let taken = self.take_next(py, timeout, &mut ended);
        // Here, under no lock: its drop may run code.
        drop(ended);
        match &taken {
            Ok(Some(_)) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
            }
            Ok(None) => self.at_end.call(py),
            Err(_) => {}
        }
        taken
    }

    /// `ended` gets the source of items that an error has ended.
    fn take_next(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        ended: &mut Option<Arguments>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let deadline = deadline(timeout)?;
        let mut guard = self.lock(py)?;
        let state = &mut *guard;
        loop {
            if let Some(value) = state.ready.pop_front() {
                return Ok(Some(value));
            }
            state.ahead.refill(&mut state.feed);
            if state.ahead.is_empty() {
                // Behind the results of what came before.
                return state.feed.take_error().map_or(Ok(None), Err);
            }
            let is_first_error = |error: &PyErr| self.fail_fast && error.is_instance_of::<PyException>(py);
            let next = state.ahead.take(deadline).inspect_err(|error| {
                if is_first_error(error) {
                    *ended = state.feed.end();
                }
            });
            if next.as_ref().is_err_and(is_first_error) {
                state.ahead.abandon();
            }
            let Some(chunk) = next? else {
                return Err(error::raised(py, &Error::Timeout { what: "a result was there" }));
            };
            let decoded = self.decode(py, &chunk, &mut state.ready);
            if decoded.as_ref().is_err_and(is_first_error) {
                state.ahead.take_over(&mut state.feed);
                *ended = state.feed.end();
                state.ahead.abandon();
            }
            decoded.map_err(|error| seen(py, error))?;
        }
    }

    fn decode(&self, py: Python<'_>, chunk: &Submitted, ready: &mut VecDeque<Py<PyAny>>) -> PyResult<()> {
        let mut result = Ok(());
        // Each chunk before it was whole.
        let first = chunk.first * self.chunksize;
        let (call, first) = self.gives.place_of(first, self.is_ordered);
        let visited = chunk.handle.visit(|results| {
            results.for_each(|(_, tag, payload)| {
                let mut value = value_of(py, tag, payload, &self.function, call, || first);
                if !matches!(*self.gives, Gives::Values) {
                    value = value.or_else(|error| match is_of_task(py, tag, &error) {
                        true => Ok(error.into_value(py).into_bound(py).into_any()),
                        false => Err(error),
                    });
                }
                if let Gives::Numbered { .. } = *self.gives {
                    value = value.and_then(|value| Ok((first, value).into_pyobject(py)?.into_any()));
                }
                result = value.and_then(|value| {
                    if self.chunksize == 1 {
                        ready.push_back(value.unbind());
                        return Ok(());
                    }
                    let values = value.cast_into::<PyList>()?;
                    ready.extend(values.iter().map(Bound::unbind));
                    Ok(())
                });
            })
        });
        visited.unwrap_or(Ok(())).or_raise(py)?;
        result
    }
}

/// A task's error, as iteration raises it: `StopIteration` would end the iteration, and results
/// would vanish.
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

    /// Returns the next result; raises `TimeoutError` after `timeout` seconds, `StopIteration` at
    /// the end, or what its task raised.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        self.take(py, timeout)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for held in [&self.owner, &self.function] {
            if let Ok(held) = held.try_lock() {
                visit.call(&*held)?;
            }
        }
        // A thread that has the lock is at work with the state: then it is not garbage.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        state.feed.source().map_or(Ok(()), |arguments| arguments.traverse(&visit))?;
        state.ready.iter().try_for_each(|value| visit.call(value))
    }

    fn __clear__(&self) {
        let (arguments, ready) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.feed.end(), std::mem::take(&mut state.ready))
        };
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let function = self.function.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Here, under no lock: they may run code when they go.
        drop((arguments, ready, owner, function));
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next result, in asyncio or trio.
    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(slf.py().import("procession._waiting")?.call_method1("next_of", (slf,))?.unbind())
    }

    /// Has `callback()` called, in some thread, once the next result is there or may be. The last
    /// one is called.
    fn _when_next(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let mut guard = self.lock(py)?;
        let before = self.told.callback().replace(callback);
        let state = &mut *guard;
        let is_there = !state.ready.is_empty() || {
            state.ahead.refill(&mut state.feed);
            state.ahead.awaken(&Waker::from(self.told.clone()))?
        };
        drop(guard);
        drop(before);
        if is_there {
            self.told.call(py);
        }
        Ok(())
    }

    /// Returns the number of results still to be taken; `NotImplemented` if nobody knows.
    fn __length_hint__(&self, py: Python<'_>) -> Py<PyAny> {
        match self.expected {
            Some(expected) => match expected.saturating_sub(self.taken()).into_pyobject(py) {
                Ok(left) => left.into_any().unbind(),
            },
            None => py.NotImplemented(),
        }
    }

    /// Returns the number of results taken so far.
    fn _taken(&self) -> usize {
        self.taken()
    }

    /// Ends the map: what has not begun does not begin, and results that were not taken are
    /// dropped.
    fn _abandon(&self, py: Python<'_>) -> PyResult<()> {
        let mut guard = self.lock(py)?;
        let state = &mut *guard;
        state.ahead.take_over(&mut state.feed);
        state.ahead.abandon();
        let dropped = (state.feed.end(), std::mem::take(&mut state.ready));
        drop(guard);
        drop(dropped);
        Ok(())
    }

    /// Has `callback()` called when there are no more results, by the thread that finds so.
    fn _at_end(&self, callback: Py<PyAny>) {
        let before = self.at_end.callback().replace(callback);
        drop(before);
    }

    /// The pool.
    fn _pool(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    /// Submits all that is left, of a pool that is closed.
    fn _pull_all(&self, py: Python<'_>) -> PyResult<()> {
        self.lock(py)?.feed.pull(0);
        Ok(())
    }
}
