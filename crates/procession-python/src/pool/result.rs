//! The result of a call, as its caller holds it. Results are decoded in the thread that asks for
//! them first, or in the pool's thread when a callback wants them.

use std::sync::{Arc, Mutex, PoisonError};

use procession_core::outcome::{Loss, tag};
use procession_core::pool::{Handle, Results};
use pyo3::exceptions::{PyBaseException, PyException, PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyGenericAlias, PyList, PyType};
use pyo3::{PyClassInitializer, PyTraverseError, PyVisit};

use super::{item, name_of};
use crate::error::{self, OrRaise};
use crate::wait::{attached, attached_for_engine, blocking, deadline, in_callback};

/// A call's result: what `apply_async` returns.
#[pyclass(frozen, subclass, module = "procession.pool", name = "ApplyResult")]
pub(crate) struct ApplyResult {
    shared: Arc<Shared>,
}

/// A map's result: what `map_async` and `starmap_async` return.
#[pyclass(frozen, extends = ApplyResult, module = "procession.pool", name = "MapResult")]
pub(crate) struct MapResult;

struct Shared {
    /// `None`: it failed before it was submitted.
    handle: Option<Handle>,
    decoded: Mutex<Option<Decoded>>,
    /// For messages. `None` once the collector has broken a cycle that goes through it.
    function: Mutex<Option<Py<PyAny>>>,
    /// The pool, which is to live as long as somebody waits for this.
    owner: Mutex<Option<Py<PyAny>>>,
    form: Form,
}

/// The form of a call, and of its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The name of the method, for messages.
    pub(super) call: &'static str,
    /// The index in the user's call of the first item.
    pub(super) first: usize,
    /// True if the result is a list.
    pub(super) is_many: bool,
    /// True if an exception of a task takes the place of its result.
    pub(super) returns_errors: bool,
}

impl Form {
    /// Of one call of the function.
    pub(super) fn apply() -> Form {
        Form { call: "apply", first: 0, is_many: false, returns_errors: false }
    }

    /// Of many, by the method of this name.
    pub(super) fn many(call: &'static str) -> Form {
        Form { call, first: 0, is_many: true, returns_errors: false }
    }
}

/// The returned value, or the raised exception.
type Decoded = Result<Py<PyAny>, Py<PyBaseException>>;

impl ApplyResult {
    pub(super) fn new(
        owner: &Bound<'_, PyAny>,
        function: &Bound<'_, PyAny>,
        handle: Handle,
        form: Form,
    ) -> ApplyResult {
        let owner = Mutex::new(Some(owner.clone().unbind()));
        let function = Mutex::new(Some(function.clone().unbind()));
        let shared = Shared { handle: Some(handle), decoded: Mutex::new(None), function, owner, form };
        ApplyResult { shared: Arc::new(shared) }
    }

    /// Of a call that could not be submitted.
    pub(super) fn failed(function: &Bound<'_, PyAny>, error: PyErr, form: Form) -> ApplyResult {
        let decoded = Mutex::new(Some(Err(error.into_value(function.py()))));
        let function = Mutex::new(Some(function.clone().unbind()));
        let shared = Shared { handle: None, decoded, function, owner: Mutex::new(None), form };
        ApplyResult { shared: Arc::new(shared) }
    }
}

impl ApplyResult {
    /// The result as an object, or, if the caller `waits`, its value.
    pub(super) fn handed_out(self, py: Python<'_>, waits: bool) -> PyResult<Py<PyAny>> {
        if !waits {
            if self.shared.form.is_many {
                return Ok(Py::new(py, PyClassInitializer::from(self).add_subclass(MapResult))?.into_any());
            }
            return Ok(Py::new(py, self)?.into_any());
        }
        self.get(py, None).inspect_err(|_| {
            // Over already unless the wait was interrupted. Refused only if the pool is beyond use,
            // which is told elsewhere.
            let _ = self.shared.handle.as_ref().map(|handle| py.detach(|| handle.cancel()));
        })
    }
}

#[pymethods]
impl ApplyResult {
    /// Returns the result when it is there; raises `TimeoutError` after `timeout` seconds, or what
    /// the call raised.
    #[pyo3(signature = (timeout = None))]
    fn get(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        // A caller that asks again and again would decode the result's beginning as often.
        if timeout.is_none() && self.shared.form.is_many {
            self.shared.gather(py)?;
        }
        if !self.wait_for(py, timeout)? {
            return Err(error::raised(py, &procession_core::Error::Timeout { what: "the result was there" }));
        }
        self.shared.result(py)
    }

    /// Waits until the result is there, or `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.wait_for(py, timeout).map(drop)
    }

    /// Returns whether the result is there.
    fn ready(&self, py: Python<'_>) -> bool {
        match &self.shared.handle {
            None => true,
            Some(handle) => py.detach(|| handle.is_finished()),
        }
    }

    /// Returns whether the call did not raise; raises `ValueError` while the result is not there.
    fn successful(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        if !slf.get().ready(py) {
            return Err(pyo3::exceptions::PyValueError::new_err(format!("{} not ready", slf.repr()?)));
        }
        Ok(slf.get().shared.result(py).is_ok())
    }

    /// Gives the call up: what has not begun does not begin, what runs is ended with its worker.
    /// Returns whether there was anything to give up. `get` then raises `CancelledError`.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.shared.handle {
            None => Ok(false),
            Some(handle) => py.detach(|| handle.cancel()).or_raise(py),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A callback that is to come holds it too, and is no object that the collector sees.
        if Arc::strong_count(&self.shared) > 1 {
            return Ok(());
        }
        // A thread that has a lock is at work with the result: then it is not garbage.
        if let Ok(decoded) = self.shared.decoded.try_lock() {
            match decoded.as_ref() {
                Some(Ok(value)) => visit.call(value)?,
                Some(Err(error)) => visit.call(error)?,
                None => {}
            }
        }
        for held in [&self.shared.function, &self.shared.owner] {
            if let Ok(held) = held.try_lock() {
                visit.call(&*held)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let decoded = self.shared.decoded.lock().unwrap_or_else(PoisonError::into_inner).take();
        let function = self.shared.function.lock().unwrap_or_else(PoisonError::into_inner).take();
        let owner = self.shared.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Here, under no lock: they may run code when they go.
        drop((decoded, function, owner));
    }

    /// `AsyncResult[int]`, in an annotation.
    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(cls.py(), cls, item)
    }

    /// Awaits the result, in asyncio or trio.
    fn __await__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(slf.py().import("procession._waiting")?.call_method1("awaiting", (slf,))?.unbind())
    }

    /// Has `callback()` called in the pool's thread once the result is there, which the call then
    /// need not be decoded for.
    fn _when_finished(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let call = move |py: Python<'_>| {
            if let Err(error) = callback.call0(py) {
                error.write_unraisable(py, Some(callback.bind(py)));
            }
        };
        let Some(handle) = &self.shared.handle else {
            call(py);
            return Ok(());
        };
        let callback = move |_: &Handle| {
            in_callback(|| attached_for_engine(call));
            None
        };
        // Attached, as in `_call_back`.
        handle.on_complete(Box::new(callback)).or_raise(py)
    }

    /// Waits until the result is there, or `timeout` seconds; whether it is. Callbacks may not have
    /// run yet.
    #[pyo3(signature = (timeout = None))]
    fn _wait_finished(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let Some(handle) = &self.shared.handle else { return Ok(true) };
        let deadline = deadline(timeout)?;
        blocking(py, || handle.wait_finished(deadline), |waited| matches!(waited, Ok(true)))?.or_raise(py)
    }

    /// Returns whether the result is there. Callbacks may not have run yet.
    fn _is_finished(&self, py: Python<'_>) -> bool {
        self.shared.handle.as_ref().is_none_or(|handle| py.detach(|| handle.has_results()))
    }

    /// The pool, until the result has been asked for.
    fn _pool(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let owner = self.shared.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    /// Returns the number of calls that have no result yet, as far as results have been taken.
    fn _remaining(&self) -> u64 {
        self.shared.handle.as_ref().map_or(0, Handle::remaining_calls)
    }

    /// Returns whether a worker is at the call now.
    fn _is_running(&self) -> bool {
        self.shared.handle.as_ref().is_some_and(Handle::is_running)
    }

    /// The result, which is there.
    fn _value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.shared.result(py)
    }

    /// Gives up a call that has not begun; whether it was given up.
    fn _withdraw(&self, py: Python<'_>) -> PyResult<bool> {
        match &self.shared.handle {
            None => Ok(false),
            Some(handle) => py.detach(|| handle.withdraw()).or_raise(py),
        }
    }

    /// Has the callbacks called in the pool's thread once the result is there. An exception of a
    /// callback becomes the result.
    #[pyo3(signature = (callback = None, error_callback = None))]
    fn _call_back(
        &self,
        py: Python<'_>,
        callback: Option<Py<PyAny>>,
        error_callback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let shared = self.shared.clone();
        let call = move |py: Python<'_>| {
            let called = match (shared.result(py), &callback, &error_callback) {
                (Ok(value), Some(callback), _) => callback.call1(py, (value,)).map(drop),
                (Err(error), _, Some(callback)) => callback.call1(py, (error.value(py),)).map(drop),
                _ => Ok(()),
            };
            called.map_err(|error| shared.set(py, Err(error)))
        };
        match &self.shared.handle {
            None => {
                let _ = call(py);
                Ok(())
            }
            Some(handle) => {
                let callback = move |_: &Handle| {
                    in_callback(|| attached_for_engine(&call)).and_then(|called| called.err().map(|()| Vec::new()))
                };
                // Attached: it waits for nothing, and who detaches waits for its turn behind the
                // pool's thread.
                handle.on_complete(Box::new(callback)).or_raise(py)
            }
        }
    }
}

impl ApplyResult {
    fn wait_for(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let Some(handle) = &self.shared.handle else { return Ok(true) };
        let deadline = deadline(timeout)?;
        let wait = || handle.wait(deadline);
        blocking(py, wait, |waited| matches!(waited, Ok(true)))?.or_raise(py)
    }
}

impl Shared {
    /// The result, which is there.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(known) = self.known(py) {
            return known;
        }
        let decoded = self.decode(py);
        self.keep(py, decoded);
        self.known(py).unwrap_or_else(|| Ok(py.None()))
    }

    /// Waits for a map's result, and decodes what is there meanwhile.
    fn gather(&self, py: Python<'_>) -> PyResult<()> {
        let Some(handle) = self.handle.as_ref().filter(|handle| !handle.is_complete()) else { return Ok(()) };
        let (mut gathered, mut interrupt) = (Gathered::default(), None);
        let visitor = |mut results: Results<'_>| {
            attached(|py| {
                results.all(|(task, tag, payload)| {
                    // An exception of a signal's handler ends the wait. It must not be taken for
                    // one that a task has raised, which is told when all tasks are finished.
                    interrupt = py.check_signals().err();
                    if (tag != tag::VALUE && !self.form.returns_errors) || interrupt.is_some() {
                        return false;
                    }
                    gathered.add(py, self, handle, (task, tag, payload));
                    interrupt = gathered.error.take_if(|error| !error.is_instance_of::<PyException>(py));
                    interrupt.is_none()
                })
            })
        };
        let gather = || handle.gather(None, visitor);
        let ended = blocking(py, gather, |ended| matches!(ended, Ok(Some(_))))?.or_raise(py)?;
        if let Some(error) = interrupt {
            return Err(error);
        }
        if let Some(ended) = ended {
            let decoded = ended.or_raise(py).and_then(|()| self.whole(py, gathered));
            self.keep(py, decoded);
        }
        Ok(())
    }

    /// Somebody else may have been quicker while this thread ran the user's code: one result for
    /// all. Nothing more is to be waited for.
    fn keep(&self, py: Python<'_>, decoded: PyResult<Py<PyAny>>) {
        if self.known(py).is_none() {
            self.set(py, decoded);
        }
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(owner);
    }

    fn known(&self, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        match decoded.as_ref()? {
            Ok(value) => Some(Ok(value.clone_ref(py))),
            Err(error) => Some(Err(PyErr::from_value(error.bind(py).clone().into_any()))),
        }
    }

    fn set(&self, py: Python<'_>, result: PyResult<Py<PyAny>>) {
        let result = result.map_err(|error| error.into_value(py));
        let old = self.decoded.lock().unwrap_or_else(PoisonError::into_inner).replace(result);
        // Not under the lock: it may run code when it goes.
        drop(old);
    }

    fn decode(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Some(handle) = &self.handle else { return Ok(py.None()) };
        let mut gathered = Gathered::default();
        let visited = handle.visit(|results| results.for_each(|result| gathered.add(py, self, handle, result)));
        visited.unwrap_or(Ok(())).or_raise(py)?;
        self.whole(py, gathered)
    }

    fn whole(&self, py: Python<'_>, gathered: Gathered) -> PyResult<Py<PyAny>> {
        match (gathered.error, self.form.is_many) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(gathered.list.unwrap_or_else(|| PyList::empty(py).unbind().into_any())),
            (None, false) => Ok(gathered.list.unwrap_or_else(|| py.None())),
        }
    }
}

/// The results that the visits of a job have brought.
#[derive(Default)]
struct Gathered {
    /// The value; of a map the list of all so far.
    list: Option<Py<PyAny>>,
    error: Option<PyErr>,
}

impl Gathered {
    fn add(&mut self, py: Python<'_>, shared: &Shared, handle: &Handle, result: (usize, u32, &[u8])) {
        if self.error.is_some() {
            return;
        }
        let (task, tag, payload) = result;
        let form = &shared.form;
        let first = || form.first + handle.first_call(task);
        let value = match value_of(py, tag, payload, &shared.function, form.call, first) {
            Ok(value) => value,
            Err(error) if form.returns_errors && is_of_task(py, tag, &error) => {
                // Each task is one call here.
                match PyList::new(py, [error.into_value(py)]) {
                    Ok(one) => one.into_any(),
                    Err(error) => {
                        self.error = Some(error);
                        return;
                    }
                }
            }
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        match &self.list {
            // A map's results come as a list for each chunk.
            Some(list) if form.is_many => {
                let list = list.bind(py).cast::<PyList>();
                let extended = list.map_err(PyErr::from).and_then(|list| list.call_method1("extend", (value,)));
                self.error = extended.err();
            }
            _ => self.list = Some(value.unbind()),
        }
    }
}

/// Returns whether this is the error of a task, and not what a signal's handler raised while its
/// value was decoded.
pub(super) fn is_of_task(py: Python<'_>, tag: u32, error: &PyErr) -> bool {
    tag != tag::VALUE || error.is_instance_of::<PyException>(py)
}

/// The value of one result, or what its task raised. `first` is the index of the task's first call
/// in the user's, whose method is `call`.
pub(super) fn value_of<'py>(
    py: Python<'py>,
    tag: u32,
    payload: &[u8],
    function: &Mutex<Option<Py<PyAny>>>,
    call: &str,
    first: impl Fn() -> usize,
) -> PyResult<Bound<'py, PyAny>> {
    let name = || {
        let function = function.lock().unwrap_or_else(PoisonError::into_inner);
        let function = function.as_ref().map(|function| function.bind(py).clone());
        function.map_or_else(|| "a function".to_owned(), |function| name_of(&function))
    };
    if tag == tag::VALUE {
        let value = item::read_value(py, payload);
        let is_error = |error: &PyErr| error.is_instance_of::<PyException>(py);
        return value.map_err(|error| match is_error(&error) {
            true => {
                // Its traceback has the code of the value's class alone.
                let note = format!("while the result of {} was unpickled", name());
                let _ = error.value(py).call_method1("add_note", (note,));
                error::located(py, error, call, first(), None)
            }
            false => error,
        });
    }
    let text = || String::from_utf8_lossy(payload);
    Err(match tag {
        tag::LOST | tag::TIMED_OUT => match Loss::decode(payload) {
            Some(loss) => {
                let (index, name) = (first() + loss.call as usize, name());
                let error = error::lost(py, &loss, &name, tag == tag::TIMED_OUT);
                error::located(py, error, call, index, Some(&name))
            }
            None => PyRuntimeError::new_err("a worker's report of a loss makes no sense"),
        },
        tag::PANIC => error::of_task(py, payload, call, first()),
        tag::NO_MEMORY => {
            let error = PyMemoryError::new_err(format!("a worker cannot take the arguments of {}: {}", name(), text()));
            error::located(py, error, call, first(), None)
        }
        _ => error::located(py, PyRuntimeError::new_err(text().into_owned()), call, first(), None),
    })
}
