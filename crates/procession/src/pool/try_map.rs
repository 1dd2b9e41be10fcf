//! Calls of functions that return an error of their own. Used in the parent, from any thread; the
//! functions run in the workers.

use procession_core::pool::Order;

use super::call::Call;
use super::imap::Imap;
use super::pool::Pool;
use super::result::AsyncResult;
use crate::argument::Argument;
use crate::failure::TaskError;
use crate::function::TaskFn;
use crate::message::Message;
use crate::{Result, task};

/// # Calls of functions that return a `Result`
///
/// An error that a function returns seldom travels, as `io::Error` and `anyhow::Error` do not. Each
/// of these methods is the one without `try_`, for a function that returns `Result<R, E>`: an `Ok`
/// is the task's result, and an `Err` its error, as text with the texts of its sources
/// ([`Error::is_task_error`](crate::Error::is_task_error)). [`TaskError`] says which types may be
/// `E`. A function whose error is a [`Message`] goes to [`map`](Pool::map), too, which then returns
/// each task's `Result` as it is.
impl Pool {
    /// Runs a task for each item and waits for the results, in the items' order.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let length = |path: String| std::fs::metadata(path).map(|file| file.len());
    /// assert_eq!(pool.try_map(length, ["/proc/self/stat"])?, [0]);
    /// let error = pool.try_map(length, ["/proc/self/stat", "/nowhere"]).unwrap_err();
    /// assert!(error.is_task_error() && error.index() == Some(1));
    /// assert_eq!(error.task_error(), Some("No such file or directory (os error 2)"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map); of several failed tasks, the first's. With
    /// [`fail_fast`](Pool::fail_fast) the call ends at the first `Err`.
    pub fn try_map<F, A, R, E, K>(&self, function: F, items: impl IntoIterator<Item: Argument<A>>) -> Result<Vec<R>>
    where
        F: TaskFn<A, std::result::Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
    {
        self.try_map_async(function, items)?.get()
    }

    /// As [`try_map`](Pool::try_map), but returns each task's own result, as
    /// [`map_each`](Pool::map_each) does.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let each = pool.try_map_each(|text: String| text.parse::<u32>(), ["1", "two", "3"])?;
    /// assert_eq!(each.into_iter().flatten().collect::<Vec<_>>(), [1, 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_each`](Pool::map_each).
    pub fn try_map_each<F, A, R, E, K>(
        &self,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<Vec<Result<R>>>
    where
        F: TaskFn<A, std::result::Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
    {
        self.try_map_async(function, items)?.get_each()
    }

    /// Submits a task for each item.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let numbers = pool.try_map_async(|text: String| text.parse::<u32>(), ["1", "2"])?;
    /// assert_eq!(numbers.get()?, [1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_async`](Pool::map_async).
    pub fn try_map_async<F, A, R, E, K>(
        &self,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: TaskFn<A, std::result::Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
    {
        self.submit_all::<A, R>(&Call::of::<F>(task::fallible_entry(function)), items)
    }

    /// Runs one task and waits for its result.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let error = pool.try_apply(|path: String| std::fs::read(path), "/nowhere".into()).unwrap_err();
    /// assert!(error.is_task_error());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply).
    pub fn try_apply<F, A, R, E, K>(&self, function: F, argument: A) -> Result<R>
    where
        F: TaskFn<A, std::result::Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
    {
        self.submit_one::<A, R>(&Call::of::<F>(task::fallible_entry(function)), argument)?.get()
    }

    /// Runs a task for each item, lazily. See [`imap`](Pool::imap).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let numbers = pool.try_imap(|text: String| text.parse::<u32>(), ["1", "two", "3"]);
    /// assert_eq!(numbers.filter_map(Result::ok).collect::<Vec<_>>(), [1, 3]);
    /// # Ok(()) }
    /// ```
    pub fn try_imap<F, A, R, E, K, I>(&self, function: F, items: I) -> Imap<R>
    where
        F: TaskFn<A, std::result::Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        let call = Call::of::<F>(task::fallible_entry(function));
        self.submit_lazily::<A, R, I>(Order::OfItems, Ok(call), items)
    }
}
