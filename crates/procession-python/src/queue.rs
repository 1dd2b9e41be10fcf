//! Queues of objects. What `procession.queues` is written on; used in any process that has a queue, from any thread.
//!
//! An item is one byte that says what it is, and behind it its bytes. What Python has everywhere (`None`, `True`, numbers,
//! strings, bytes) needs no pickle: the object that comes out is the same as if it had been pickled. Everything else is a pickle,
//! made before the queue is locked and read after.
//!
//! Both ways are tried first with the interpreter attached, by a call that waits for nobody: most need no wait. Who must
//! wait detaches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use procession_core::{Error, descriptor};
use procession_core::queue::{Queue as Engine, Tried};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use crate::pickle::{self, Pickled};
use crate::wait::{blocking, deadline};

/// The longest item that is copied with the interpreter attached: about 20 us.
const QUICK: usize = 256 * 1024;

const PICKLE: u8 = 0;
const NONE: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INT: u8 = 4;
const FLOAT: u8 = 5;
const STR: u8 = 6;
const BYTES: u8 = 7;

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
    fn new(bound: u64, is_joinable: bool) -> PyResult<Queue> {
        let engine = if is_joinable { Engine::joinable(bound) } else { Engine::new(bound) };
        Ok(Queue::of(engine.map_err(raised)?))
    }

    /// The queue that a file descriptor stands for, which stays the caller's.
    #[staticmethod]
    fn attach(number: i32) -> PyResult<Queue> {
        Ok(Queue::of(Engine::attach(descriptor::duplicate(number)?).map_err(raised)?))
    }

    /// Its file descriptor, for other processes to attach.
    fn fileno(&self) -> i32 {
        use std::os::fd::{AsFd, AsRawFd};
        self.engine.as_fd().as_raw_fd()
    }

    /// A file descriptor of this process that is readable while there are items.
    fn readable(&self) -> PyResult<i32> {
        use std::os::fd::{AsFd, AsRawFd};
        // The engine keeps it for as long as the queue.
        Ok(self.engine.readable().map_err(raised)?.as_fd().as_raw_fd())
    }

    /// Appends an item. One that does not pickle goes to `on_error` with its exception, if there is one.
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
        let number;
        let pickled;
        let parts: &[&[u8]] = if item.is_none() {
            &[&[NONE]]
        } else if let Ok(item) = item.cast_exact::<PyBool>() {
            &[if item.is_true() { &[TRUE] } else { &[FALSE] }]
        } else if let Some(value) = small(item) {
            number = value.to_le_bytes();
            &[&[INT], &number]
        } else if let Ok(item) = item.cast_exact::<PyFloat>() {
            number = item.value().to_bits().to_le_bytes();
            &[&[FLOAT], &number]
        } else if let Ok(item) = item.cast_exact::<PyBytes>() {
            &[&[BYTES], item.as_bytes()]
        } else if let Some(item) = text(item) {
            &[&[STR], item.as_bytes()]
        } else {
            match (Pickled::new(item, &[PICKLE]), on_error) {
                (Ok(bytes), _) => {
                    pickled = bytes;
                    &[pickled.as_bytes()]
                }
                (Err(error), Some(hook)) if error.is_instance_of::<PyException>(py) => {
                    hook.call1((error, item))?;
                    return Ok(());
                }
                (Err(error), _) => return Err(error),
            }
        };
        self.put_parts(py, parts, term)
    }

    /// Appends an item that is pickled already.
    fn put_bytes(&self, pickle: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = pickle.py();
        self.is_used.store(true, Ordering::Relaxed);
        if let Ok(pickle) = pickle.cast_exact::<PyBytes>() {
            return self.put_parts(py, &[&[PICKLE], pickle.as_bytes()], Term::Never);
        }
        let pickle = PyBuffer::<u8>::get(pickle)?.to_vec(py)?;
        self.put_parts(py, &[&[PICKLE], &pickle], Term::Never)
    }

    /// Takes the oldest item.
    #[pyo3(signature = (block, timeout=None))]
    fn get<'py>(&self, block: &Bound<'py, PyAny>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.take(block.py(), Term::of(block, timeout)?)?.object(block.py())
    }

    /// Takes the oldest item, and gives its pickle.
    fn get_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match self.take(py, Term::Never)? {
            Item::Bytes { kind: PICKLE, bytes } => Ok(bytes.into_bound(py)),
            item => Ok(PyBytes::new(py, Pickled::new(&item.object(py)?, &[])?.as_bytes())),
        }
    }

    /// Whether there is an item, or comes one until then.
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
    fn task_done(&self) -> PyResult<()> {
        self.engine.done().map_err(|error| match error {
            Error::Invalid(_) => PyValueError::new_err("task_done() called too many times"),
            error => raised(error),
        })
    }

    /// Waits until every item is done.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, || self.engine.join(None), Result::is_ok)?.map_err(raised)
    }

    /// Items in it.
    fn __len__(&self) -> usize {
        usize::try_from(self.engine.len()).unwrap_or(usize::MAX)
    }

    /// Whether it holds as many as it may.
    fn is_full(&self) -> bool {
        let bound = self.engine.bound();
        bound > 0 && self.engine.len() >= bound
    }

    /// Whether this process, or one it was forked from, has put anything.
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
            match self.engine.try_put(parts).map_err(raised)? {
                Tried::Done(()) => return Ok(()),
                Tried::NotNow if matches!(term, Term::Now) => return Err(full(py)),
                Tried::NotNow | Tried::Busy => {}
            }
        }
        let deadline = term.deadline();
        match blocking(py, || self.engine.put_parts(parts, deadline), Result::is_ok)? {
            Err(Error::Timeout { .. }) => Err(full(py)),
            put => put.map_err(raised),
        }
    }

    fn take(&self, py: Python<'_>, term: Term) -> PyResult<Item> {
        loop {
            let mut error = None;
            // Attached, under the queue's lock: makes bytes and numbers, which runs nobody's code.
            let read = |parts: [&[u8]; 2]| Item::read(py, parts).map_err(|failed| error = Some(failed)).ok();
            let tried = self.engine.try_get(read).map_err(raised)?;
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
            Err(error) => Err(raised(error)),
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

/// How long a call may wait.
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

/// What was taken, in this process's own memory.
enum Item {
    Plain { kind: u8, number: [u8; 8] },
    Bytes { kind: u8, bytes: Py<PyBytes> },
    Text(Py<PyString>),
}

impl Item {
    fn read(py: Python<'_>, [first, second]: [&[u8]; 2]) -> PyResult<Item> {
        let senseless = || PyRuntimeError::new_err("an item in the queue makes no sense: its memory was overwritten");
        // The first part is empty only if all is.
        let (&kind, first) = first.split_first().ok_or_else(senseless)?;
        let len = first.len() + second.len();
        let copy = |into: &mut [u8]| {
            into[..first.len()].copy_from_slice(first);
            into[first.len()..].copy_from_slice(second);
        };
        match kind {
            NONE | FALSE | TRUE if len == 0 => Ok(Item::Plain { kind, number: [0; 8] }),
            INT | FLOAT if len == 8 => {
                let mut number = [0; 8];
                copy(&mut number);
                Ok(Item::Plain { kind, number })
            }
            STR if second.is_empty() => {
                Ok(Item::Text(PyString::new(py, std::str::from_utf8(first).map_err(|_| senseless())?).unbind()))
            }
            PICKLE | BYTES if second.is_empty() => Ok(Item::Bytes { kind, bytes: PyBytes::new(py, first).unbind() }),
            PICKLE | BYTES | STR => {
                let bytes = PyBytes::new_with(py, len, |into| {
                    copy(into);
                    Ok(())
                })?;
                Ok(Item::Bytes { kind, bytes: bytes.unbind() })
            }
            _ => Err(senseless()),
        }
    }

    /// The object. Runs the code of its class, and so under no lock.
    fn object(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Item::Plain { kind: INT, number } => i64::from_le_bytes(number).into_pyobject(py)?.into_any(),
            Item::Plain { kind: FLOAT, number } => PyFloat::new(py, f64::from_le_bytes(number)).into_any(),
            Item::Plain { kind: NONE, .. } => py.None().into_bound(py),
            Item::Plain { kind, .. } => PyBool::new(py, kind == TRUE).to_owned().into_any(),
            Item::Text(text) => text.into_bound(py).into_any(),
            Item::Bytes { kind: BYTES, bytes } => bytes.into_bound(py).into_any(),
            Item::Bytes { kind: STR, bytes } => PyString::from_bytes(py, bytes.as_bytes(py))?.into_any(),
            Item::Bytes { bytes, .. } => pickle::loads(bytes.bind(py))?,
        })
    }
}

/// The value of an integer that is no subclass's and fits.
fn small(item: &Bound<'_, PyAny>) -> Option<i64> {
    item.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// The text of a string that is no subclass's and is Unicode.
fn text<'a>(item: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    item.cast_exact::<PyString>().ok()?.to_str().ok()
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

/// The engine's error as Python's.
fn raised(error: Error) -> PyErr {
    match error {
        Error::Os { ref source, .. } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
        Error::Invalid(why) => PyValueError::new_err(why),
        error => PyRuntimeError::new_err(error.to_string()),
    }
}
