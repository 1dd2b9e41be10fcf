//! Pools of processes. Used in the parent, from any thread; the functions run in the workers.

mod result;

use std::any::type_name;

use procession_core::pool::{self as engine, frame::Items};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::{StartMethod, start_method};
use crate::{Error, Result, message, task};

pub use result::AsyncResult;

/// A fixed number of worker processes that run tasks.
///
/// A task is a function (a `fn`, or a closure that captures nothing) over one argument. Any number of threads may use a
/// pool at once. Dropping it terminates it; [`close`](Pool::close) and [`join`](Pool::join) let it finish first.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// procession::init();
/// # let _ = procession::set_start_method(procession::StartMethod::Fork);
/// let pool = procession::Pool::new(2)?;
/// let lengths = pool.map(|word: String| word.len(), ["a", "bb", "ccc"].map(String::from))?;
/// assert_eq!(lengths, [1, 2, 3]);
/// # Ok(()) }
/// ```
///
/// **Differences from `multiprocessing.Pool`:** a worker that dies costs the task it ran, not the pool; the number of
/// workers is always said ([`available_parallelism`](crate::available_parallelism) is a good one); `map` of an iterator
/// takes all of it before the first task runs, as there.
#[derive(Debug)]
pub struct Pool {
    engine: engine::Pool,
}

impl Pool {
    /// Starts a pool by the [default](crate::start_method) start method.
    ///
    /// # Errors
    ///
    /// For 0 workers or more than 1024 ([`Error::is_invalid`]); `spawn` or `forkserver` without `init()`
    /// ([`Error::is_not_initialized`]); fork with other threads alive ([`Error::is_other_threads`]).
    pub fn new(workers: usize) -> Result<Pool> {
        Pool::start(start_method(), workers)
    }

    pub(crate) fn start(method: StartMethod, workers: usize) -> Result<Pool> {
        Ok(Pool { engine: engine::Pool::new(workers, method.engine().starter())? })
    }

    /// Runs one task and waits for its result.
    ///
    /// # Errors
    ///
    /// The task's panic, a lost worker, what does not encode or decode; a pool that takes no more tasks
    /// ([`Error::is_closed`]) or cannot ([`Error::is_broken`], [`Error::is_inherited`]).
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> Result<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.apply_async(function, argument)?.get()
    }

    /// Submits one task.
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply), as far as it is known at once.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let one = pool.apply_async(|x: u32| x + 1, 1)?;
    /// let two = pool.apply_async(|x: u32| x + 2, 2)?;
    /// assert_eq!(one.get()? + two.get()?, 6);
    /// # Ok(()) }
    /// ```
    pub fn apply_async<F, A, R>(&self, function: F, argument: A) -> Result<AsyncResult<R>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let mut items = Items::with_capacity(1);
        push::<F, A>(&mut items, &argument)?;
        let handle = self.engine.submit(task::pool_entry(function), &items, None)?;
        Ok(AsyncResult::one(handle, type_name::<F>()))
    }

    /// Runs a task for each item and waits for the results, in the items' order.
    ///
    /// How many tasks travel together is chosen: many at first, single ones at the end. Say it yourself with
    /// [`chunk_size`](Pool::chunk_size).
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply); of several failed tasks, the first's. The others have run all the same.
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_async(function, items)?.get()
    }

    /// Submits a task for each item.
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map), as far as it is known at once. An item that does not encode fails the call, and none runs.
    pub fn map_async<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<AsyncResult<Vec<R>>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.submit(function, items, None)
    }

    /// This pool with an explicit number of tasks that travel together; the last chunk may have fewer.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let doubled: Vec<i32> = pool.chunk_size(16).map(|x: i32| x * 2, 0..100)?;
    /// # assert_eq!(doubled.len(), 100);
    /// # Ok(()) }
    /// ```
    pub fn chunk_size(&self, tasks: usize) -> Chunked<'_> {
        Chunked { pool: self, tasks }
    }

    /// Takes no more tasks. The workers end once those that were taken are finished.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Kills the workers; tasks that are not finished give [`Error::is_closed`]. Returns when the workers are gone.
    pub fn terminate(&self) {
        self.engine.terminate();
    }

    /// Waits until every task is finished and every worker has ended.
    ///
    /// # Errors
    ///
    /// Before [`close`](Pool::close) or [`terminate`](Pool::terminate) ([`Error::is_invalid`]).
    pub fn join(&self) -> Result<()> {
        Ok(self.engine.join()?)
    }

    /// How many workers it keeps.
    pub fn workers(&self) -> usize {
        self.engine.size()
    }

    /// The process ids of the workers that are alive now.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.engine.worker_pids()
    }

    fn submit<F, A, R>(
        &self,
        function: F,
        arguments: impl IntoIterator<Item = A>,
        chunk: Option<usize>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let arguments = arguments.into_iter();
        let mut items = Items::with_capacity(arguments.size_hint().0);
        for argument in arguments {
            push::<F, A>(&mut items, &argument)?;
        }
        let handle = self.engine.submit(task::pool_entry(function), &items, chunk)?;
        Ok(AsyncResult::many(handle, type_name::<F>()))
    }
}

/// A [`Pool`] with an explicit chunk size: see [`Pool::chunk_size`].
#[derive(Clone, Copy, Debug)]
pub struct Chunked<'a> {
    pool: &'a Pool,
    tasks: usize,
}

impl Chunked<'_> {
    /// As [`Pool::map`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map`], and [`Error::is_invalid`] for a chunk size of 0.
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.map_async(function, items)?.get()
    }

    /// As [`Pool::map_async`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map_async`], and [`Error::is_invalid`] for a chunk size of 0.
    pub fn map_async<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<AsyncResult<Vec<R>>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.pool.submit(function, items, Some(self.tasks))
    }
}

fn push<F, A: Serialize>(items: &mut Items, argument: &A) -> Result<()> {
    let failed = |why: String| Error::unencodable_argument(type_name::<F>(), why);
    items.push(
        |out| message::encode(argument, out).map_err(|error| failed(error.to_string())),
        || failed("it is larger than 4 GiB, or there are more than 2^32 of them".into()),
    )
}
