//! Functions on their way to a worker. Pickled in the parent for each call, since their pickle
//! changes with what they hold; unpickled in the worker for each task, so that each task has its
//! own. A plain global, which crosses as the names of its module and of itself, is the exception:
//! it is found and not made, so its pickle and what it names are kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_core::{handle, memfd};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyString};

use super::title;
use crate::codec;
use crate::error::OrOsError;

/// A pickled function that is longer crosses once for each job, beside its items.
const MAX_INLINE: usize = 4096;

/// A function, as the items of one job name it.
#[derive(Debug)]
pub(crate) enum Function {
    /// Its pickle, in each item.
    Small(Vec<u8>),
    /// Its number in this process, and a memfd with its pickle.
    Big(u64, OwnedFd),
}

impl Function {
    pub(crate) fn pickled(pickle: Vec<u8>) -> PyResult<Function> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        if pickle.len() <= MAX_INLINE {
            return Ok(Function::Small(pickle));
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let file = memfd::from_bytes("procession-function", &pickle).or_os_error()?;
        Ok(Function::Big(number, file))
    }
}

/// Pickles of plain globals: most calls are of one of a few.
#[derive(Debug, Default)]
pub(crate) struct Globals(Mutex<HashMap<usize, Global>>);

#[derive(Debug)]
struct Global {
    /// Kept, so that no other function comes to have its address.
    function: Py<PyAny>,
    /// The namespace of its module, which names it; another function may take its name.
    module: Py<PyDict>,
    name: Py<PyString>,
    pickled: Arc<Function>,
}

impl Globals {
    const MAX_KEPT: usize = 64;

    /// The pickle of a function that is kept and still has its name.
    pub(crate) fn get(&self, function: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Function>>> {
        let py = function.py();
        let found = self
            .kept()
            .get(&function.as_ptr().addr())
            .map(|global| (global.module.clone_ref(py), global.name.clone_ref(py), global.pickled.clone()));
        let Some((module, name, pickled)) = found else { return Ok(None) };
        let named = module.bind(py).get_item(name)?;
        Ok(named.is_some_and(|named| named.is(function)).then_some(pickled))
    }

    /// Keeps the pickle of a function, if it is a plain global at the top of its module.
    pub(crate) fn keep(&self, function: &Bound<'_, PyAny>, pickled: &Arc<Function>) -> PyResult<()> {
        let py = function.py();
        let Function::Small(pickle) = &**pickled else { return Ok(()) };
        if !function.is_exact_instance_of::<PyFunction>() || !is_plain_global(pickle) {
            return Ok(());
        }
        let name = function.getattr(intern!(py, "__qualname__"))?.cast_into::<PyString>()?;
        let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
        let module = modules.get_item(function.getattr(intern!(py, "__module__"))?)?;
        let module = module.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
        if !module.get_item(&name)?.is_some_and(|named| named.is(function)) {
            return Ok(());
        }
        let global = Global {
            function: function.clone().unbind(),
            module: module.unbind(),
            name: name.unbind(),
            pickled: pickled.clone(),
        };
        let mut kept = self.kept();
        let all = if kept.len() >= Self::MAX_KEPT { std::mem::take(&mut *kept) } else { HashMap::new() };
        let replaced = kept.insert(global.function.as_ptr().addr(), global);
        drop(kept);
        // Here, under no lock: what they hold may run code when it goes.
        drop((all, replaced));
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<usize, Global>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a pickle is nothing but the name of a module and a name in it.
fn is_plain_global(pickle: &[u8]) -> bool {
    const PROTO: u8 = 0x80;
    const FRAME: u8 = 0x95;
    const SHORT_BINUNICODE: u8 = 0x8c;
    const MEMOIZE: u8 = 0x94;
    const STACK_GLOBAL: u8 = 0x93;
    const STOP: u8 = b'.';
    let mut rest = pickle;
    let mut texts = 0;
    loop {
        let Some((opcode, tail)) = rest.split_first() else { return false };
        let (skipped, is_text) = match *opcode {
            PROTO => (1, false),
            FRAME => (8, false),
            SHORT_BINUNICODE => (1 + tail.first().map_or(0, |len| usize::from(*len)), true),
            MEMOIZE => (0, false),
            STACK_GLOBAL => {
                return texts == 2 && matches!(tail, [STOP] | [MEMOIZE, STOP]);
            }
            _ => return false,
        };
        let Some(tail) = tail.get(skipped..) else { return false };
        texts += usize::from(is_text);
        rest = tail;
    }
}

/// A function as an item names it, in the worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FunctionIn<'a> {
    Small(&'a [u8]),
    Big {
        number: u64,
        index: u32,
    },
    /// A big one that came from another machine; empty if it is the last again.
    Carried {
        number: u64,
        pickle: &'a [u8],
    },
}

/// The functions that a worker keeps: plain globals by their pickles, and the last big pickle,
/// whose job may have more items.
#[derive(Default)]
struct Kept {
    last: Option<(Vec<u8>, Py<PyAny>)>,
    globals: HashMap<Vec<u8>, Py<PyAny>>,
    big: Option<(u64, Vec<u8>)>,
}

const MAX_GLOBALS: usize = 256;

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Worker: the function of an item.
pub(crate) fn load<'py>(py: Python<'py>, function: FunctionIn<'_>) -> PyResult<Bound<'py, PyAny>> {
    match function {
        FunctionIn::Small(pickle) => {
            // The big pickle of another job is not kept any longer.
            KEPT.with_borrow_mut(|kept| kept.big = None);
            load_small(py, pickle)
        }
        FunctionIn::Big { number, index } => load_big(py, number, || receive_big(index)),
        FunctionIn::Carried { number, pickle } => load_big(py, number, || match pickle {
            [] => Err(PyValueError::new_err("a function is missing on its way to a worker")),
            pickle => Ok(pickle.to_vec()),
        }),
    }
}

/// In a worker: the pickle of a big function.
pub(super) fn receive_big(index: u32) -> PyResult<Vec<u8>> {
    let file = handle::receive_fd(index, "function").map_err(PyValueError::new_err)?;
    memfd::read_all(file.as_fd()).or_os_error()
}

fn load_small<'py>(py: Python<'py>, pickle: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let kept = KEPT.with_borrow(|kept| match &kept.last {
        Some((last, function)) if last == pickle => Some(function.clone_ref(py)),
        _ => kept.globals.get(pickle).map(|function| function.clone_ref(py)),
    });
    let is_kept = kept.is_some();
    let function = match kept {
        Some(function) => function.into_bound(py),
        None => codec::loads(py, PyBytes::new(py, pickle).as_any(), Vec::new())?,
    };
    if is_kept || is_plain_global(pickle) {
        // The drop of an object may run code, so it is not done in the borrow.
        let (is_other, dropped) = KEPT.with_borrow_mut(|kept| kept.keep_global(pickle, &function));
        drop(dropped);
        if is_other {
            title::show(&function);
        }
    } else {
        let last = KEPT.with_borrow_mut(|kept| kept.last.take());
        drop(last);
        title::show(&function);
    }
    Ok(function)
}

fn load_big<'py>(
    py: Python<'py>,
    number: u64,
    receive: impl FnOnce() -> PyResult<Vec<u8>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kept = KEPT.with_borrow(|kept| match &kept.big {
        Some((kept, pickle)) if *kept == number => Some(PyBytes::new(py, pickle)),
        _ => None,
    });
    if let Some(pickle) = kept {
        return codec::loads(py, pickle.as_any(), Vec::new());
    }
    let pickle = receive()?;
    let bytes = PyBytes::new(py, &pickle);
    let last = KEPT.with_borrow_mut(|kept| {
        kept.big = Some((number, pickle));
        kept.last.take()
    });
    drop(last);
    let function = codec::loads(py, bytes.as_any(), Vec::new())?;
    title::show(&function);
    Ok(function)
}

impl Kept {
    /// Keeps a plain global. Returns whether it is another than the last, and what is to be
    /// dropped.
    fn keep_global(&mut self, pickle: &[u8], function: &Bound<'_, PyAny>) -> (bool, Option<Kept>) {
        if self.last.as_ref().is_some_and(|(last, _)| last == pickle) {
            return (false, None);
        }
        let dropped = (self.globals.len() >= MAX_GLOBALS).then(|| std::mem::take(self));
        self.globals.entry(pickle.to_vec()).or_insert_with(|| function.clone().unbind());
        let last = self.last.replace((pickle.to_vec(), function.clone().unbind()));
        // The map has it too, so this is not the end of it.
        let py = function.py();
        drop(last.map(|(_, before)| before.into_bound(py)));
        (true, dropped)
    }
}
