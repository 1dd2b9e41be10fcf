//! Queues of objects, the base of `procession.queues`. Used in any process that has a queue, from
//! any thread.
//!
//! [`item`] says what an object is in a queue. It is made that before the queue is locked, and an
//! object again after.
//!
//! Both ways are tried first with the interpreter attached, by a call that waits for nobody: most
//! need no wait. A call that must wait detaches it.

mod item;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use procession_core::queue::{Queue as Engine, Tried};
use procession_core::{Error, descriptor};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::buffer::Bytes;
use crate::error::{OrOsError, OrRaise, raised};
use crate::wait::{blocking, deadline};
use item::Item;

/// The longest item that is copied with the interpreter attached: about 20 us.
const QUICK: usize = 256 * 1024;

/// A queue of objects between processes. `procession.queues` has what users see of it.
#[pyclass(frozen, module = "procession._engine")]
pub(crate) struct Queue {
    engine: Engine,
    /// Something was put, here or by the process that this one was forked from.
    is_used: AtomicBool,
}

#[pymethods]
impl Queue {
    #[new]
    fn new(py: Python<'_>, bound: u64, is_joinable: bool) -> PyResult<Queue> {
        let engine = if is_joinable { Engine::joinable(bound) } else { Engine::new(bound) };
        Ok(Queue::of(engine.or_raise(py)?))
    }

    /// The queue that a file descriptor stands for, which stays the caller's.
    #[staticmethod]
    fn attach(py: Python<'_>, number: i32) -> PyResult<Queue> {
        Ok(Queue::of(Engine::attach(descriptor::duplicate(number).or_os_error()?).or_raise(py)?))
    }

    /// Its file descriptor, for other processes to attach.
    fn fileno(&self) -> i32 {
        self.engine.as_fd().as_raw_fd()
    }

    /// A file descriptor of this process that is readable while there are items.
    fn readable(&self, py: Python<'_>) -> PyResult<i32> {
        // The engine keeps it for as long as the queue.
        Ok(self.engine.readable().or_raise(py)?.as_fd().as_raw_fd())
    }

    /// Appends an item. One that does not pickle goes to `on_error` with its exception, if there is
    /// one.
    #[pyo3(signature = (item, block, timeout=None, on_error=None))]
    fn put(
        &self,
        item: &Bound<'_, PyAny>,
        block: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        on_error: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = item.py();
        let term = Term::of(block, timeout)?;
        if matches!(term, Term::Now) && self.is_full() {
            return Err(full(py));
        }
        self.is_used.store(true, Ordering::Relaxed);
        match item::with_parts(item, |parts| self.put_parts(py, parts, term)) {
            Ok(put) => put,
            Err(error) => match on_error {
                Some(hook) if error.is_instance_of::<PyException>(py) => hook.call1((error, item)).map(drop),
                _ => Err(error),
            },
        }
    }

    /// Appends an item that is pickled already.
    fn put_bytes(&self, pickle: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = pickle.py();
        self.is_used.store(true, Ordering::Relaxed);
        self.put_parts(py, &[&[item::PICKLE], Bytes::of(pickle)?.as_slice()], Term::Never)
    }

    /// Takes the oldest item.
    #[pyo3(signature = (block, timeout=None))]
    fn get<'py>(&self, block: &Bound<'py, PyAny>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.take(block.py(), Term::of(block, timeout)?)?.object(block.py())
    }

    /// Takes the oldest item, and gives its pickle.
    fn get_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match self.take(py, Term::Never)? {
            Item::Bytes { kind: item::PICKLE, bytes } => Ok(bytes.into_bound(py)),
            item => {
                static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
                let dumps = DUMPS.get_or_try_init(py, || {
                    py.import("procession.reduction")?.getattr("ForkingPickler")?.getattr("dumps").map(Bound::unbind)
                })?;
                Ok(PyBytes::new(py, Bytes::of(&dumps.bind(py).call1((item.object(py)?, 5))?)?.as_slice()))
            }
        }
    }

    /// Waits until there is an item, for no longer than `timeout`. Returns whether there is one.
    #[pyo3(signature = (timeout))]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if !self.engine.is_empty() {
            return Ok(true);
        }
        let term = Term::Until(deadline(timeout)?);
        let has_come = self.wait(py, term)?;
        if has_come {
            // It is for the next that asks, here or elsewhere.
            self.engine.pass_on();
        }
        Ok(has_come)
    }

    /// Says that an item that was taken is done.
    fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        self.engine.done().map_err(|error| match error {
            Error::Invalid(_) => PyValueError::new_err("task_done() called too many times"),
            error => raised(py, &error),
        })
    }

    /// Waits until every item is done.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.engine.join(None), Result::is_ok)?.or_raise(py)
    }

    /// Items in it.
    fn __len__(&self) -> usize {
        usize::try_from(self.engine.len()).unwrap_or(usize::MAX)
    }

    /// Returns whether the queue holds as many items as it may.
    fn is_full(&self) -> bool {
        let bound = self.engine.bound();
        bound > 0 && self.engine.len() >= bound
    }

    /// Returns whether this process, or one it was forked from, has put anything.
    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn of(engine: Engine) -> Queue {
        Queue { engine, is_used: AtomicBool::new(false) }
    }

    fn put_parts(&self, py: Python<'_>, parts: &[&[u8]], term: Term) -> PyResult<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len <= QUICK {
            match self.engine.try_put(parts).or_raise(py)? {
                Tried::Done(()) => return Ok(()),
                Tried::NotNow if matches!(term, Term::Now) => return Err(full(py)),
                Tried::NotNow | Tried::Busy => {}
            }
        }
        let deadline = term.deadline();
        match blocking(py, || self.engine.put_parts(parts, deadline), Result::is_ok)? {
            Err(Error::Timeout { .. }) => Err(full(py)),
            put => put.or_raise(py),
        }
    }

    fn take(&self, py: Python<'_>, term: Term) -> PyResult<Item> {
        loop {
            let mut error = None;
            // Attached, under the queue's lock: makes bytes and numbers, which runs nobody's code.
            let read = |parts: [&[u8]; 2]| Item::read(py, parts).map_err(|failed| error = Some(failed)).ok();
            let tried = self.engine.try_get(read).or_raise(py)?;
            if let Some(error) = error {
                return Err(error);
            }
            match tried {
                Tried::Done(item) => return Ok(item),
                Tried::NotNow => {
                    if matches!(term, Term::Now) || !self.wait(py, term)? {
                        return Err(empty(py));
                    }
                }
                Tried::Busy => return self.take_in_turn(py, term),
            }
        }
    }

    /// Others are at it: waits for the lock, detached.
    fn take_in_turn(&self, py: Python<'_>, term: Term) -> PyResult<Item> {
        let deadline = term.deadline();
        let take = || {
            let mut bytes = Vec::new();
            self.engine.get(&mut bytes, deadline).map(|()| bytes)
        };
        match blocking(py, take, Result::is_ok)? {
            Ok(bytes) => Item::read(py, [&bytes, &[]]),
            Err(Error::Timeout { .. }) => Err(empty(py)),
            Err(error) => Err(raised(py, &error)),
        }
    }

    fn wait(&self, py: Python<'_>, term: Term) -> PyResult<bool> {
        let deadline = term.deadline();
        let waited = blocking(py, || self.engine.wait(deadline), |_| false);
        if waited.is_err() {
            // A wake may have been spent on this thread, which takes nothing.
            self.engine.pass_on();
        }
        waited
    }
}

/// The time for which a call may wait.
#[derive(Clone, Copy)]
enum Term {
    Now,
    Until(Option<Instant>),
    Never,
}

impl Term {
    fn of(block: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Term> {
        if !block.is_truthy()? {
            return Ok(Term::Now);
        }
        Ok(if timeout.is_none() { Term::Never } else { Term::Until(deadline(timeout)?) })
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Term::Now => Some(Instant::now()),
            Term::Until(deadline) => deadline,
            Term::Never => None,
        }
    }
}

fn full(py: Python<'_>) -> PyErr {
    static FULL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    exception(FULL.import(py, "queue", "Full"))
}

fn empty(py: Python<'_>) -> PyErr {
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    exception(EMPTY.import(py, "queue", "Empty"))
}

fn exception(class: PyResult<&Bound<'_, PyAny>>) -> PyErr {
    class.and_then(|class| class.call0()).map_or_else(|error| error, PyErr::from_value)
}
