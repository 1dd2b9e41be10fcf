//! Worker processes as their parent holds them: a handle, and the terms of what is called through
//! it. Used in the parent, from any thread.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use procession_core::Stateless;
use procession_core::pool::{self as engine, Order, Stats, Terms};

use super::call::Call;
use super::imap::{Feeds, Imap, ImapUnordered};
use super::result::AsyncResult;
#[cfg(doc)]
use crate::Error;
use crate::argument::Argument;
use crate::function::{TaskFn, TupleFn};
use crate::message::Message;
use crate::{Result, task};

/// Worker processes that run tasks.
///
/// A task is a function (a `fn`, or a closure that captures nothing) over one argument. Data that
/// it would capture is given to it as a state ([`map_with`](Pool::map_with) and its like). Any
/// number of threads may use a pool at once. A clone is a handle of the same workers. When the last
/// handle is dropped the pool is terminated; [`close`](Pool::close) and [`join`](Pool::join) let it
/// finish first.
///
/// A handle has *terms* for what is called through it: [`chunk_size`](Pool::chunk_size),
/// [`timeout`](Pool::timeout), [`retries`](Pool::retries) and [`fail_fast`](Pool::fail_fast) return
/// another handle with that term, and go together.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let pool = procession::Pool::new(2)?;
/// let lengths = pool.map(|word: String| word.len(), ["a", "bb", "ccc"].map(String::from))?;
/// assert_eq!(lengths, [1, 2, 3]);
///
/// let careful = pool.timeout(std::time::Duration::from_secs(5)).retries(2).chunk_size(8);
/// let doubled = careful.map(|x: i32| x * 2, 0..100)?;
/// # assert_eq!(doubled.len(), 100);
/// # Ok(()) }
/// ```
///
/// **Differences from `multiprocessing.Pool`:** a worker that dies costs the task it ran, not the
/// pool; the number of workers is always said
/// ([`available_parallelism`](crate::available_parallelism) is a good one); `map` of an iterator
/// takes all of it before the first task runs, as there.
#[derive(Clone)]
pub struct Pool {
    pub(super) shared: Arc<Shared>,
    pub(super) terms: Terms,
}

/// The part that all handles of a pool share.
pub(super) struct Shared {
    pub(super) engine: engine::Pool,
    pub(super) feeds: Feeds,
}

impl Pool {
    pub(super) fn over(engine: engine::Pool) -> Pool {
        Pool { shared: Arc::new(Shared { engine, feeds: Feeds::default() }), terms: Terms::default() }
    }

    /// Runs one task and waits for its result.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let area = pool.apply(|(width, height): (f64, f64)| width * height, (2.0, 3.0))?;
    /// assert_eq!(area, 6.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The task's panic, a lost worker, what does not encode or decode; a pool that takes no more
    /// tasks ([`Error::is_closed`]) or cannot ([`Error::is_broken`], [`Error::is_inherited`]).
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> Result<R>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
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
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        self.submit_one::<A, R>(&Call::of::<F>(task::pool_entry(function)), argument)
    }

    /// Runs a function of no argument as one task, and waits for its result.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// assert!(pool.worker_pids().contains(&pool.call(std::process::id)?));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply).
    pub fn call<F, R>(&self, function: F) -> Result<R>
    where
        F: Fn() -> R + Copy + 'static,
        R: Message,
    {
        self.call_async(function)?.get()
    }

    /// Submits a function of no argument as one task.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// assert_eq!(pool.call_async(|| "done".to_owned())?.get()?, "done");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async).
    pub fn call_async<F, R>(&self, function: F) -> Result<AsyncResult<R>>
    where
        F: Fn() -> R + Copy + 'static,
        R: Message,
    {
        let _: Stateless<F> = Stateless::of(function);
        let call = |()| Stateless::<F>::conjure()();
        self.submit_one::<(), R>(&Call::of::<F>(task::pool_entry(call)), ())
    }

    /// Runs a task for each item and waits for the results, in the items' order.
    ///
    /// The pool chooses how many tasks travel together: many at first, single ones at the end.
    /// Choose the number yourself with [`chunk_size`](Pool::chunk_size). All arguments are encoded
    /// before the first task runs. For items that do not fit into memory at once, use
    /// [`imap`](Pool::imap), which takes no more than it has room for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let lengths = pool.map(|word: String| word.len(), ["one".to_owned(), "three".to_owned()])?;
    /// assert_eq!(lengths, [3, 5]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply); of several failed tasks, the first's. The others have run all the
    /// same.
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item: Argument<A>>) -> Result<Vec<R>>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        self.map_async(function, items)?.get()
    }

    /// Runs a task for each item and returns each task's own result: its value, or why it has none.
    /// A task that panics, or whose worker is lost, costs no other task its result.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let each = pool.map_each(|x: i32| if x == 2 { std::process::abort() } else { x * x }, 0..5)?;
    /// assert_eq!(each.iter().filter(|result| result.is_ok()).count(), 4);
    /// assert!(each[2].as_ref().is_err_and(|error| error.is_worker_lost()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the call as a whole: an item that does not encode, a pool that takes no more
    /// tasks ([`Error::is_closed`]) or cannot ([`Error::is_broken`], [`Error::is_inherited`]).
    pub fn map_each<F, A, R>(&self, function: F, items: impl IntoIterator<Item: Argument<A>>) -> Result<Vec<Result<R>>>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        self.map_async(function, items)?.get_each()
    }

    /// Submits a task for each item.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let squares = pool.map_async(|x: u64| x * x, 0..1000)?;
    /// // ... something else meanwhile ...
    /// assert_eq!(squares.get()?.len(), 1000);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map), as far as it is known at once; [`Error::is_invalid`] for a chunk size
    /// of 0. An item that does not encode fails the call, and none runs.
    pub fn map_async<F, A, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        self.submit_all::<A, R>(&Call::of::<F>(task::pool_entry(function)), items)
    }

    /// Runs a task for each item, lazily: the iterator gives the results in the items' order, and
    /// pulls items as they are taken, a bounded number ahead. An endless iterator of items runs in
    /// constant memory.
    ///
    /// The items must own what they need, since the pool may pull them too. Each travels alone,
    /// unless a [`chunk_size`](Pool::chunk_size) is said. A task that fails gives its error in its
    /// place, and the iteration goes on.
    ///
    /// Once the pool is [closed](Pool::close) there is no bound any more: the next step of the
    /// iteration, or else [`join`](Pool::join), pulls all items that are left, so that every task
    /// runs though nobody takes its result. (With an endless iterator that does not return until
    /// the pool is terminated, as in `multiprocessing`.) Dropping the iterator drops the items that
    /// it has not pulled; tasks that have been submitted run.
    ///
    /// **Difference from `multiprocessing`:** items are pulled by the thread that iterates or
    /// joins, and so not while neither is going on.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let squares = pool.imap(|x: u64| x * x, 0..).take(4).collect::<procession::Result<Vec<_>>>()?;
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok(()) }
    /// ```
    pub fn imap<F, A, R, I>(&self, function: F, items: I) -> Imap<R>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        self.submit_lazily::<A, R, I>(Order::OfItems, Ok(Call::of::<F>(task::pool_entry(function))), items)
    }

    /// As [`imap`](Pool::imap), but the results come as they are ready.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let mut sum = 0;
    /// for square in pool.imap_unordered(|x: u64| x * x, 0..4) {
    ///     sum += square?; // whichever is ready
    /// }
    /// assert_eq!(sum, 14);
    /// # Ok(()) }
    /// ```
    pub fn imap_unordered<F, A, R, I>(&self, function: F, items: I) -> ImapUnordered<R>
    where
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        let call = Call::of::<F>(task::pool_entry(function));
        ImapUnordered(self.submit_lazily::<A, R, I>(Order::AsReady, Ok(call), items))
    }

    /// As [`map`](Pool::map), for a function of several arguments, two to eight, over tuples of
    /// them.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let words = pool.starmap(|times: usize, word: String| word.repeat(times), [(2, "ha".into()), (1, "ho".into())])?;
    /// assert_eq!(words, ["haha", "ho"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn starmap<F, A>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<F::Output>>
    where
        F: TupleFn<A>,
        A: Message,
        F::Output: Message,
    {
        self.starmap_async(function, items)?.get()
    }

    /// As [`map_async`](Pool::map_async), for a function of several arguments over tuples of them.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let sums = pool.starmap_async(|x: u64, y: u64| x + y, [(1, 2), (3, 4)])?;
    /// assert_eq!(sums.get()?, [3, 7]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_async`](Pool::map_async).
    pub fn starmap_async<F, A>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<F::Output>>>
    where
        F: TupleFn<A>,
        A: Message,
        F::Output: Message,
    {
        self.submit_all::<A, F::Output>(&Call::of::<F>(task::tuple_entry(function)), items)
    }

    /// This pool with an explicit number of tasks that travel together; the last chunk may have
    /// fewer.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let doubled: Vec<i32> = pool.chunk_size(16).map(|x: i32| x * 2, 0..100)?;
    /// # assert_eq!(doubled.len(), 100);
    /// # Ok(()) }
    /// ```
    #[must_use = "it is another handle of the pool"]
    pub fn chunk_size(&self, tasks: usize) -> Pool {
        let terms = Terms { chunk: Some(tasks), ..self.terms };
        Pool { shared: self.shared.clone(), terms }
    }

    /// This pool with a limit on how long each task may run, from its beginning in a worker. The
    /// worker of one that runs longer is ended and replaced, and the task's error is
    /// [`Error::is_task_timeout`]. Kept to within some 20 ms.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use std::{thread::sleep, time::Duration};
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let hour = |()| sleep(Duration::from_secs(3600));
    /// let error = pool.timeout(Duration::from_millis(50)).apply(hour, ()).unwrap_err();
    /// assert!(error.is_task_timeout());
    /// # Ok(()) }
    /// ```
    #[must_use = "it is another handle of the pool"]
    pub fn timeout(&self, timeout: Duration) -> Pool {
        let terms = Terms { timeout: Some(timeout), ..self.terms };
        Pool { shared: self.shared.clone(), terms }
    }

    /// This pool with so many further attempts for a task whose worker is lost. Without, such a
    /// task fails at once: it may have done half of its work. For tasks that may be run twice.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// # let attempts = procession::SharedValue::new(0u32)?;
    /// // Native code that dies now and then.
    /// let crash_at_first = |attempts: procession::SharedValue<u32>| if attempts.fetch_add(1) == 0 { std::process::abort() };
    /// pool.retries(1).apply(crash_at_first, attempts.clone())?;
    /// assert_eq!(attempts.get(), 2);
    /// # Ok(()) }
    /// ```
    #[must_use = "it is another handle of the pool"]
    pub fn retries(&self, retries: u32) -> Pool {
        let terms = Terms { retries, ..self.terms };
        Pool { shared: self.shared.clone(), terms }
    }

    /// This pool with an end of a call at its first error, the first in time:
    /// [`get`](AsyncResult::get) gives it at once, and tasks that have not begun never do. Those
    /// that run already are let finish, and their results dropped.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let checked = |x: u64| assert!(x != 3, "three");
    /// let error = pool.fail_fast().map(checked, 0..1_000_000).unwrap_err();
    /// assert_eq!(error.panic_message(), Some("three"));
    /// # Ok(()) }
    /// ```
    #[must_use = "it is another handle of the pool"]
    pub fn fail_fast(&self) -> Pool {
        let terms = Terms { fail_fast: true, ..self.terms };
        Pool { shared: self.shared.clone(), terms }
    }

    /// Keeps so many workers from now on, whatever they are doing: of more, the new ones start now;
    /// of fewer, those that are too many end after the task that they run, and what they had taken
    /// and not begun runs elsewhere.
    ///
    /// A pool can grow to four times its first size, or to 64 workers if that is more.
    ///
    /// # Errors
    ///
    /// For 0 workers or more than there is room for ([`Error::is_invalid`]); what
    /// [`new`](Pool::new) says, and then the pool keeps as many as before; a pool that is closed or
    /// broken.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool(1)?;
    /// pool.resize(3)?;
    /// assert_eq!((pool.workers(), pool.worker_pids().len()), (3, 3));
    /// # Ok(()) }
    /// ```
    pub fn resize(&self, workers: usize) -> Result<()> {
        Ok(self.shared.engine.resize(workers)?)
    }

    /// Returns a snapshot of the pool: its workers and the task that each runs, and how its tasks
    /// fared. Workers do nothing for it.
    ///
    /// # Errors
    ///
    /// [`Error::is_inherited`] in a process forked from the pool's.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let pool = procession::Context::fork().pool(2)?;
    /// pool.map(|x: u64| x, 0..100)?;
    /// let stats = pool.stats()?;
    /// assert_eq!((stats.workers.len(), stats.done, stats.queued), (2, 100, 0));
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.shared.engine.stats()?)
    }

    /// Takes no more tasks. The workers end once those that were taken are finished.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let result = pool.apply_async(|x: u64| x, 1)?;
    /// pool.close();
    /// assert_eq!(result.get()?, 1, "it was submitted before");
    /// assert!(pool.apply(|x: u64| x, 1).unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    pub fn close(&self) {
        self.shared.engine.close();
    }

    /// Kills the workers; tasks that are not finished give [`Error::is_closed`], and their
    /// callbacks are not called. Returns when the workers are gone.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let result = pool.apply_async(|()| std::thread::sleep(std::time::Duration::MAX), ())?;
    /// pool.terminate();
    /// assert!(result.get().unwrap_err().is_closed());
    /// # Ok(()) }
    /// ```
    pub fn terminate(&self) {
        self.shared.engine.terminate();
    }

    /// Waits until every task is finished, those of lazy maps too, and every worker has ended.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let results = pool.map_async(|x: u64| x, 0..100)?;
    /// pool.close();
    /// pool.join()?; // all tasks are done, and the workers have ended
    /// assert!(results.ready());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Before [`close`](Pool::close) or [`terminate`](Pool::terminate), and in a callback
    /// ([`Error::is_invalid`]).
    pub fn join(&self) -> Result<()> {
        if self.shared.engine.is_closed() {
            self.shared.feeds.pull_all();
        }
        Ok(self.shared.engine.join()?)
    }

    /// Returns the number of workers that the pool keeps.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let ctx = procession::Context::fork();
    /// assert_eq!(ctx.pool(3)?.workers(), 3);
    /// # Ok(()) }
    /// ```
    pub fn workers(&self) -> usize {
        self.shared.engine.size()
    }

    /// The process ids of the workers that are alive now.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let pid = pool.apply(|()| std::process::id(), ())?;
    /// assert_eq!(pool.worker_pids(), [pid]);
    /// # Ok(()) }
    /// ```
    pub fn worker_pids(&self) -> Vec<u32> {
        self.shared.engine.worker_pids()
    }

    /// Submits one task.
    pub(super) fn submit_one<A, R>(&self, call: &Call, argument: impl Argument<A>) -> Result<AsyncResult<R>>
    where
        A: Message,
        R: Message,
    {
        let items = call.items(&self.shared.engine, 0, iter::once(argument))?;
        Ok(AsyncResult::one(self.shared.engine.submit(call.entry, items, self.terms)?, call.function))
    }

    /// Submits a task for each item.
    pub(super) fn submit_all<A, R>(
        &self,
        call: &Call,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        A: Message,
        R: Message,
    {
        let items = call.items(&self.shared.engine, 0, items.into_iter())?;
        Ok(AsyncResult::many(self.shared.engine.submit(call.entry, items, self.terms)?, call.function, 0))
    }

    /// Submits tasks as their results are taken.
    pub(super) fn submit_lazily<A, R, I>(&self, order: Order, call: Result<Call>, items: I) -> Imap<R>
    where
        A: Message,
        R: Message,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        Imap::new(&self.shared.engine, &self.shared.feeds, self.terms, order, call, items.into_iter())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.engine.fmt(f)
    }
}
