//! The common part of locks and semaphores: `SemLock`, the base of `Lock`, `RLock`, `Semaphore` and
//! `BoundedSemaphore`.
//!
//! A lock is bound to the process that acquired it, so that its death is noticed, and may be
//! released by any: the engine's `BinarySemaphore`. Which thread of this process acquired it, and
//! how often, is kept here, per object, as the standard library keeps it; a forked child, in which
//! neither thread nor process are the same, owns nothing by it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use procession_core::Errno;
use procession_core::sync::{BinarySemaphore, Refused, Semaphore, attach_number, made};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::{Later, handle, process_of, raised, this_process, this_thread, told};
use crate::error::refused;
use crate::wait::{blocking, deadline};

import_exception!(procession._errors, OwnerDiedError);

/// A lock that its owner may acquire again. The standard library's number.
const RECURSIVE_MUTEX: u8 = 0;
/// As many permits as it has. The standard library's number.
const SEMAPHORE: u8 = 1;
/// A lock. To the standard library that is a semaphore of one permit.
const LOCK: u8 = 2;

/// A lock or a semaphore that processes share.
#[pyclass(subclass, frozen, module = "procession._engine")]
pub(crate) struct SemLock {
    made: Later<Made>,
}

struct Made {
    kind: Kind,
    maxvalue: u32,
    /// The thread that acquired last, by this object.
    holder: AtomicU64,
    /// The number of acquisitions by this object that are not released. It is too high for a lock
    /// that another process released.
    holds: AtomicI64,
}

enum Kind {
    Lock(BinarySemaphore),
    RLock(BinarySemaphore),
    Semaphore(Semaphore),
}

/// The pid of the owner that died with the lock that was acquired; as a rule none.
type Died = Option<u32>;

#[pymethods]
impl SemLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> SemLock {
        SemLock { made: Later::new() }
    }

    /// Makes what this is an object of. Called once.
    fn _make(&self, kind: u8, value: i32, maxvalue: i32) -> PyResult<()> {
        // The C library's answer to a semaphore that cannot be.
        let invalid = || refused(&Errno::INVAL.into(), "Invalid argument".into());
        let (value, most) = (u32::try_from(value).map_err(|_| invalid())?, u32::try_from(maxvalue).unwrap_or(0));
        let kind = match kind {
            LOCK => Kind::Lock(made(BinarySemaphore::create(), "Lock").map_err(raised)?),
            RECURSIVE_MUTEX => Kind::RLock(made(BinarySemaphore::create(), "RLock").map_err(raised)?),
            SEMAPHORE if value > most => return Err(invalid()),
            SEMAPHORE => Kind::Semaphore(made(Semaphore::create(value, most), "Semaphore").map_err(raised)?),
            _ => return Err(PyValueError::new_err("unrecognized kind")),
        };
        self.made.make(Made::of(kind, most))
    }

    /// Makes this an object of what another object has as its `handle`. The fd stays the caller's.
    /// Called once.
    fn _attach(&self, kind: u8, maxvalue: u32, fd: i32, offset: u64) -> PyResult<()> {
        let kind = match kind {
            LOCK => Kind::Lock(attach_number(fd, offset, "Lock").map_err(raised)?),
            RECURSIVE_MUTEX => Kind::RLock(attach_number(fd, offset, "RLock").map_err(raised)?),
            SEMAPHORE => Kind::Semaphore(attach_number(fd, offset, "Semaphore").map_err(raised)?),
            _ => return Err(PyValueError::new_err("unrecognized kind")),
        };
        self.made.make(Made::of(kind, maxvalue))
    }

    /// Acquires it and returns True; False if that is not possible at once and not to be waited
    /// for, or for no longer than `timeout` seconds.
    ///
    /// Raises OwnerDiedError if the process that had a lock ended without releasing it; the lock is
    /// then free.
    #[pyo3(signature = (block = Truth(true), timeout = None))]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        let made = self.made.get()?;
        if made.acquire_free() {
            return Ok(true);
        }
        let block = block.0 && timeout.is_none_or(|timeout| timeout > 0.0);
        let acquired = if block { made.wait(py, timeout)? } else { made.acquire_now() };
        acquired.map_or(Ok(false), |died| made.judge(died).map(|()| true))
    }

    /// Releases it, once.
    #[inline]
    fn release(&self) -> PyResult<()> {
        self.made.get()?.release()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.made.get()?.acquire_free() {
            return Ok(true);
        }
        self.acquire(py, Truth(true), None)
    }

    #[pyo3(signature = (_type = None, _value = None, _traceback = None, /))]
    fn __exit__(
        &self,
        _type: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Returns the number of acquisitions by this object that are not released.
    fn _count(&self) -> PyResult<i64> {
        Ok(self.made.get()?.count())
    }

    /// Returns whether this thread acquired it last, and it is not released.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.made.get()?.is_mine())
    }

    /// Returns the number of permits; 1 for a lock that is free.
    fn _get_value(&self) -> PyResult<u32> {
        Ok(self.made.get()?.value())
    }

    /// Returns whether an acquisition would have to wait.
    fn _is_zero(&self) -> PyResult<bool> {
        Ok(self.made.get()?.value() == 0)
    }

    /// The fd of the memory it is in, which stays this object's, and where it is there: what
    /// `_attach` takes.
    #[getter]
    fn handle(&self) -> PyResult<(i32, u64)> {
        Ok(match &self.made.get()?.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => handle(lock),
            Kind::Semaphore(semaphore) => handle(semaphore),
        })
    }

    /// RECURSIVE_MUTEX or SEMAPHORE.
    #[getter]
    fn kind(&self) -> PyResult<u8> {
        Ok(if matches!(self.made.get()?.kind, Kind::RLock(_)) { RECURSIVE_MUTEX } else { SEMAPHORE })
    }

    /// The most permits that it may have.
    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        Ok(self.made.get()?.maxvalue)
    }

    /// None: it has no name in the system.
    #[getter]
    fn name(&self) -> Option<&str> {
        None
    }
}

impl SemLock {
    /// For a condition: releases what this thread holds.
    pub(super) fn release_once(&self) -> PyResult<()> {
        self.release()
    }
}

impl Made {
    fn of(kind: Kind, maxvalue: u32) -> Made {
        Made { kind, maxvalue, holder: AtomicU64::new(0), holds: AtomicI64::new(0) }
    }

    /// Acquires what is free, or is this thread's own and may be acquired again.
    #[inline]
    fn acquire_free(&self) -> bool {
        let free = match &self.kind {
            Kind::Lock(lock) => lock.try_acquire_free(),
            Kind::RLock(lock) => {
                if self.is_held_here() {
                    self.holds.store(self.holds.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    return true;
                }
                lock.try_acquire_free()
            }
            Kind::Semaphore(semaphore) => semaphore.try_acquire(),
        };
        if free {
            self.note();
        }
        free
    }

    /// Acquires it if no living process has it.
    #[cold]
    fn acquire_now(&self) -> Option<Died> {
        let acquired = match &self.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => lock.try_acquire().map(|died| died.map(|died| died.pid())),
            Kind::Semaphore(semaphore) => semaphore.try_acquire().then_some(None),
        };
        acquired.inspect(|_| self.note())
    }

    #[cold]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Died>> {
        let deadline = deadline(timeout)?;
        let wait = || match &self.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => lock.acquire(deadline).map(|died| died.map(|died| died.pid())),
            Kind::Semaphore(semaphore) => semaphore.acquire(deadline).map(|()| None),
        };
        // If a signal's handler raises now, it is as if nothing had been acquired.
        let undo = |acquired: &Result<Died, Refused>| {
            if acquired.is_ok() {
                self.give_back();
            }
            false
        };
        match blocking(py, wait, undo)? {
            Ok(died) => {
                self.note();
                Ok(Some(died))
            }
            Err(Refused::TimedOut) => Ok(None),
            Err(reason) => Err(told("lock")(reason)),
        }
    }

    /// Raises, with the lock free again, if its owner had died.
    #[inline]
    fn judge(&self, died: Died) -> PyResult<()> {
        let Some(pid) = died else { return Ok(()) };
        self.release()?;
        let text = format!(
            "the process {pid} ended while it had this lock: what the lock guards may be half-changed. The lock is free again"
        );
        Err(OwnerDiedError::new_err((text, pid)))
    }

    #[inline]
    fn release(&self) -> PyResult<()> {
        match &self.kind {
            Kind::RLock(_) => {
                if !self.is_held_here() {
                    return Err(PyAssertionError::new_err("attempt to release recursive lock not owned by thread"));
                }
                let holds = self.holds.load(Ordering::Relaxed) - 1;
                self.holds.store(holds, Ordering::Relaxed);
                if holds > 0 {
                    return Ok(());
                }
            }
            _ => self.holds.store(self.holds.load(Ordering::Relaxed) - 1, Ordering::Relaxed),
        }
        if self.give_back() {
            return Ok(());
        }
        self.holds.store(self.holds.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Err(PyValueError::new_err("semaphore or lock released too many times"))
    }

    /// `false`: there is nothing to give back.
    #[inline]
    fn give_back(&self) -> bool {
        match &self.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => lock.release().is_ok(),
            Kind::Semaphore(semaphore) => semaphore.release(1).is_ok(),
        }
    }

    /// It is acquired once more, by this thread.
    #[inline]
    fn note(&self) {
        let me = this_thread();
        let before = match &self.kind {
            // Of what another process released, or this one was forked with, nothing is left.
            Kind::Semaphore(_) if process_of(self.holder.load(Ordering::Relaxed)) == process_of(me) => {
                self.holds.load(Ordering::Relaxed)
            }
            _ => 0,
        };
        self.holder.store(me, Ordering::Relaxed);
        self.holds.store(before + 1, Ordering::Relaxed);
    }

    /// Returns whether this thread acquired last, by this object, and has not released.
    #[inline]
    fn is_held_here(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == this_thread() && self.holds.load(Ordering::Relaxed) > 0
    }

    fn is_mine(&self) -> bool {
        self.count() > 0 && self.holder.load(Ordering::Relaxed) == this_thread()
    }

    fn count(&self) -> i64 {
        let is_here = process_of(self.holder.load(Ordering::Relaxed)) == this_process();
        let is_owned = match &self.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => lock.owner().is_some_and(|owner| owner.pid() == this_process()),
            Kind::Semaphore(_) => true,
        };
        if is_here && is_owned { self.holds.load(Ordering::Relaxed) } else { 0 }
    }

    fn value(&self) -> u32 {
        match &self.kind {
            Kind::Lock(lock) | Kind::RLock(lock) => u32::from(lock.owner().is_none()),
            Kind::Semaphore(semaphore) => semaphore.value(),
        }
    }
}

/// The truth value of a Python object.
struct Truth(bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Truth> {
        value.is_truthy().map(Truth)
    }
}
