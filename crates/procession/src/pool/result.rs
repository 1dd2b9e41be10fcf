//! Results to come. Used in the parent, from any thread: the thread that asks takes results off the
//! workers' streams itself, and decodes its own.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use procession_core::outcome::tag;
use procession_core::pool::{Handle, Results};
use serde::de::DeserializeOwned;

use crate::error::Whose;
use crate::{Error, Message, Result, message, task};

/// The result of [`Pool::apply_async`](crate::Pool::apply_async) or
/// [`Pool::map_async`](crate::Pool::map_async).
///
/// It can be asked again and again; each `get` decodes anew. Dropping it lets the tasks run and
/// their results go. It is also a future.
pub struct AsyncResult<T> {
    handle: Handle,
    tasks: Tasks,
    read: fn(&Handle, Tasks, Wait) -> Result<T>,
}

/// Which tasks a result is of, as errors name them.
#[derive(Clone, Copy)]
struct Tasks {
    function: &'static str,
    /// The index of the first in the user's call: a lazy map's chunks are jobs of their own.
    first: usize,
}

/// How to read a result.
#[derive(Clone, Copy)]
enum Wait {
    /// Wait for it, and for its callbacks.
    Until(Option<Instant>),
    /// It is there. A callback that waited would wait for itself.
    No,
}

impl<T> AsyncResult<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// As [`Pool::apply`](crate::Pool::apply); of several failed tasks, the first's.
    pub fn get(&self) -> Result<T> {
        (self.read)(&self.handle, self.tasks, Wait::Until(None))
    }

    /// Waits for the result, for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`] when it is not there then; it is still to come. Otherwise as
    /// [`get`](AsyncResult::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T> {
        (self.read)(&self.handle, self.tasks, Wait::Until(Instant::now().checked_add(timeout)))
    }

    /// Waits until the result is there, whatever it is.
    ///
    /// # Errors
    ///
    /// [`Error::is_inherited`] in a process forked from the one that submitted.
    pub fn wait(&self) -> Result<()> {
        self.handle.wait(None)?;
        Ok(())
    }

    /// As [`wait`](AsyncResult::wait), for no longer than `timeout`; `false` when the result is not
    /// there then.
    ///
    /// # Errors
    ///
    /// As [`wait`](AsyncResult::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        Ok(self.handle.wait(Instant::now().checked_add(timeout))?)
    }

    /// Has `callback` called with the result once it is there, be it a value or an error; at once
    /// if it is already. Several are called in the order in which they were given. If
    /// [`terminate`](crate::Pool::terminate) gives the call up, they are dropped and not called.
    ///
    /// It runs in the pool's own thread, which also replaces workers and enforces time limits: let
    /// it be brief, and hand longer work to a thread of yours. It may use the pool, and end it.
    /// [`get`](AsyncResult::get) and its like wait until it has returned; a panic of it becomes the
    /// error that they give ([`Error::is_panic`]), and harms nothing else. While it runs, a fork is
    /// refused ([`Error::is_other_threads`]) as beside any thread of the program's: a pool under
    /// fork replaces no worker meanwhile, and is broken ([`Error::is_broken`]) if the callback
    /// waits for a result when none is left.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let result = pool.apply_async(|x: u64| x * 2, 21)?;
    /// result.on_complete(move |result| tell.send(result.clone()).unwrap())?;
    /// assert_eq!(told.recv().unwrap()?, 42);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](AsyncResult::wait).
    pub fn on_complete(self, callback: impl FnOnce(&Result<T>) + Send + 'static) -> Result<AsyncResult<T>>
    where
        T: 'static,
    {
        let (read, tasks) = (self.read, self.tasks);
        self.handle.on_complete(Box::new(move |handle| {
            task::run_callback(|| {
                let result = read(handle, tasks, Wait::No);
                callback(&result);
            })
        }))?;
        Ok(self)
    }

    /// Gives the tasks up: those that have not begun never do, and a worker that runs one is ended
    /// and replaced. [`get`](AsyncResult::get) then says [`Error::is_cancelled`]. `false`: the
    /// result was there already, and stays.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # use std::{thread::sleep, time::Duration};
    /// # let pool = procession::Context::fork().pool(1)?;
    /// let result = pool.apply_async(|s: u64| sleep(Duration::from_secs(s)), 3600)?;
    /// assert!(result.cancel()?);
    /// assert!(result.get().unwrap_err().is_cancelled());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](AsyncResult::wait).
    pub fn cancel(&self) -> Result<bool> {
        Ok(self.handle.cancel()?)
    }

    /// The id of its job, as [`Pool::stats`](crate::Pool::stats) names what runs. No other job of
    /// the pool has it.
    pub fn id(&self) -> u64 {
        self.handle.id()
    }

    /// Whether the result is there.
    pub fn ready(&self) -> bool {
        self.handle.is_finished()
    }

    /// Whether every task returned a value; `None` while the result is not there, where
    /// `multiprocessing` raises.
    pub fn successful(&self) -> Option<bool> {
        if !self.ready() {
            return None;
        }
        let mut all = true;
        let ended = self.handle.visit(|mut results| all &= results.all(|(_, outcome, _)| outcome == tag::VALUE))?;
        Some(all && ended.is_ok())
    }
}

/// Awaits the result, in any runtime: nobody blocks meanwhile. Errors as with
/// [`get`](AsyncResult::get).
impl<T> Future for AsyncResult<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match self.handle.awaken(context.waker()) {
            Ok(true) => Poll::Ready((self.read)(&self.handle, self.tasks, Wait::No)),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl<R: DeserializeOwned + 'static> AsyncResult<R> {
    pub(super) fn one(handle: Handle, function: &'static str) -> AsyncResult<R> {
        AsyncResult { handle, tasks: Tasks { function, first: 0 }, read: read_one::<R> }
    }
}

impl<R: DeserializeOwned + 'static> AsyncResult<Vec<R>> {
    /// `first` is the index of the first task in the user's call.
    pub(super) fn many(handle: Handle, function: &'static str, first: usize) -> AsyncResult<Vec<R>> {
        AsyncResult { handle, tasks: Tasks { function, first }, read: read_many::<R> }
    }
}

impl<R: Message> AsyncResult<Vec<R>> {
    /// Waits for the results and returns each task's own: its value, or why it has none. So a lost
    /// worker costs one task's result, and not those of the others.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let halves = pool.map_async(|x: u32| if x % 2 == 0 { x / 2 } else { panic!("odd") }, 0..4)?;
    /// let each = halves.get_each()?;
    /// assert!(each[1].as_ref().is_err_and(|error| error.index() == Some(1)));
    /// assert_eq!(each.into_iter().flatten().collect::<Vec<_>>(), [0, 1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What ended the call as a whole: [`Error::is_cancelled`], [`Error::is_closed`],
    /// [`Error::is_broken`], [`Error::is_inherited`]. With [`fail_fast`](crate::Pool::fail_fast)
    /// the only result is the first that failed.
    pub fn get_each(&self) -> Result<Vec<Result<R>>> {
        let mut each = Vec::with_capacity(self.handle.len());
        gather(&self.handle, Wait::Until(None), |results| each.extend(results.map(|one| read(self.tasks, one))))?;
        Ok(each)
    }
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("function", &self.tasks.function).field("handle", &self.handle).finish()
    }
}

fn read_one<R: DeserializeOwned + 'static>(handle: &Handle, tasks: Tasks, wait: Wait) -> Result<R> {
    let mut result = None;
    gather(handle, wait, |mut results| result = results.next().map(|one| read(tasks, one)))?;
    result.unwrap_or_else(late)
}

fn read_many<R: DeserializeOwned + 'static>(handle: &Handle, tasks: Tasks, wait: Wait) -> Result<Vec<R>> {
    let mut all = Ok(Vec::with_capacity(handle.len()));
    gather(handle, wait, |results| {
        if let Ok(values) = &mut all {
            let mut failed = None;
            values.extend(results.map_while(|one| read(tasks, one).map_err(|error| failed = Some(error)).ok()));
            if let Some(error) = failed {
                all = Err(error);
            }
        }
    })?;
    all
}

fn gather(handle: &Handle, wait: Wait, mut visitor: impl FnMut(Results<'_>)) -> Result<()> {
    let ended = match wait {
        Wait::Until(deadline) => handle.gather(deadline, |results| {
            visitor(results);
            true
        })?,
        Wait::No => handle.visit(visitor),
    };
    ended.map_or_else(late, |ended| Ok(ended?))
}

fn late<T>() -> Result<T> {
    Err(Error::timeout("the result was ready"))
}

#[inline]
fn read<R: DeserializeOwned + 'static>(tasks: Tasks, (index, outcome, payload): (usize, u32, &[u8])) -> Result<R> {
    let whose = || Whose::task(tasks.function, tasks.first + index);
    if outcome != tag::VALUE {
        return Err(Error::from_outcome(whose(), outcome, payload));
    }
    message::decode(payload).map_err(|why| Error::undecodable(whose(), "result", why))
}
