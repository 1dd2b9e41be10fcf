//! Iterators that run in a pool. Used in the parent, from any thread.

use super::imap::{Imap, ImapUnordered};
use super::pool::Pool;
use crate::argument::Argument;
use crate::failure::TaskError;
use crate::function::TaskFn;
use crate::message::Message;

/// Adds to every iterator, and to everything that becomes one, a `map` that runs in a pool: lazily,
/// a bounded number of items ahead, as [`Pool::imap`] does. The results collect into a `Vec`, or by
/// `collect::<procession::Result<Vec<_>>>()` into one without errors.
///
/// ```
/// use procession::MapIn;
///
/// # fn main() -> procession::Result<()> {
/// # let pool = procession::Context::fork().pool(2)?;
/// let lengths = ["some", "of", "the", "words"]
///     .into_iter()
///     .filter(|word| word.len() > 2)
///     .map_in(&pool, |word: String| word.len())
///     .collect::<procession::Result<Vec<_>>>()?;
/// assert_eq!(lengths, [4, 3, 5]);
/// # Ok(()) }
/// ```
pub trait MapIn: IntoIterator + Sized {
    /// Runs `function` over each item in the pool's workers; the results come in the items' order.
    ///
    /// ```
    /// # use procession::MapIn;
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let squares = (0..).map_in(&pool.chunk_size(8), |x: u64| x * x).take(3);
    /// assert_eq!(squares.collect::<procession::Result<Vec<_>>>()?, [0, 1, 4]);
    /// # Ok(()) }
    /// ```
    fn map_in<F, A, R>(self, pool: &Pool, function: F) -> Imap<R>
    where
        Self: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        pool.imap(function, self)
    }

    /// As [`map_in`](MapIn::map_in), but the results come as they are ready.
    ///
    /// ```
    /// # use procession::MapIn;
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let sum: u64 = (0..10).map_in_unordered(&pool, |x: u64| x * x).flatten().sum();
    /// assert_eq!(sum, 285);
    /// # Ok(()) }
    /// ```
    fn map_in_unordered<F, A, R>(self, pool: &Pool, function: F) -> ImapUnordered<R>
    where
        Self: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
        F: TaskFn<A, R>,
        A: Message,
        R: Message,
    {
        pool.imap_unordered(function, self)
    }

    /// As [`map_in`](MapIn::map_in), for a function that returns an error of its own. See
    /// [`Pool::try_map`].
    ///
    /// ```
    /// # use procession::MapIn;
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let numbers = ["1", "2"].try_map_in(&pool, |text: String| text.parse::<u32>());
    /// assert_eq!(numbers.collect::<procession::Result<Vec<_>>>()?, [1, 2]);
    /// # Ok(()) }
    /// ```
    fn try_map_in<F, A, R, E, K>(self, pool: &Pool, function: F) -> Imap<R>
    where
        Self: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
        F: TaskFn<A, Result<R, E>>,
        A: Message,
        R: Message,
        E: TaskError<K>,
    {
        pool.try_imap(function, self)
    }
}

impl<I: IntoIterator> MapIn for I {}
