//! Calls with terms of their own: chunk size, time limit, retries, an end at the first error. Used in the parent, from any thread.

use std::time::Duration;

use procession_core::pool::Terms;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AsyncResult, Imap, ImapUnordered, Pool, TupleFn};
use crate::{Result, task};

/// A [`Pool`] with terms for what is called through it; made by [`Pool::chunk_size`], [`Pool::timeout`],
/// [`Pool::retries`] and [`Pool::fail_fast`], which also go together.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// # use std::time::Duration;
/// # let pool = procession::Context::fork().pool(2)?;
/// let doubled = pool.timeout(Duration::from_secs(5)).retries(2).chunk_size(8).map(|x: i32| x * 2, 0..100)?;
/// # assert_eq!(doubled.len(), 100);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "terms do nothing until something is called with them"]
pub struct Call<'a> {
    pub(super) pool: &'a Pool,
    pub(super) terms: Terms,
}

impl<'a> Call<'a> {
    /// See [`Pool::chunk_size`].
    pub fn chunk_size(mut self, tasks: usize) -> Call<'a> {
        self.terms.chunk = Some(tasks);
        self
    }

    /// See [`Pool::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Call<'a> {
        self.terms.timeout = Some(timeout);
        self
    }

    /// See [`Pool::retries`].
    pub fn retries(mut self, retries: u32) -> Call<'a> {
        self.terms.retries = retries;
        self
    }

    /// See [`Pool::fail_fast`].
    pub fn fail_fast(mut self) -> Call<'a> {
        self.terms.fail_fast = true;
        self
    }

    /// As [`Pool::apply`].
    ///
    /// # Errors
    ///
    /// As [`Pool::apply`].
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> Result<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.apply_async(function, argument)?.get()
    }

    /// As [`Pool::apply_async`].
    ///
    /// # Errors
    ///
    /// As [`Pool::apply_async`].
    pub fn apply_async<F, A, R>(&self, function: F, argument: A) -> Result<AsyncResult<R>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.pool.submit_one(function, argument, self.terms)
    }

    /// As [`Pool::map`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map`], and [`Error::is_invalid`](crate::Error::is_invalid) for a chunk size of 0.
    pub fn map<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<R>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.map_async(function, items)?.get()
    }

    /// As [`Pool::map_async`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map_async`], and [`Error::is_invalid`](crate::Error::is_invalid) for a chunk size of 0.
    pub fn map_async<F, A, R>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<AsyncResult<Vec<R>>>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.pool.submit::<F, A, R>(task::pool_entry(function), items, self.terms)
    }

    /// As [`Pool::starmap`].
    ///
    /// # Errors
    ///
    /// As [`map`](Call::map).
    pub fn starmap<F, A>(&self, function: F, items: impl IntoIterator<Item = A>) -> Result<Vec<F::Output>>
    where
        F: TupleFn<A>,
        A: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.starmap_async(function, items)?.get()
    }

    /// As [`Pool::starmap_async`].
    ///
    /// # Errors
    ///
    /// As [`map_async`](Call::map_async).
    pub fn starmap_async<F, A>(
        &self,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<F::Output>>>
    where
        F: TupleFn<A>,
        A: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.pool.submit::<F, A, F::Output>(task::tuple_entry(function), items, self.terms)
    }

    /// As [`Pool::imap`]; here the chunk size is 1 unless it is said.
    pub fn imap<F, A, R, I>(&self, function: F, items: I) -> Imap<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'static>,
    {
        Imap::new(*self, function, items.into_iter())
    }

    /// As [`Pool::imap_unordered`]; here the chunk size is 1 unless it is said.
    pub fn imap_unordered<F, A, R, I>(&self, function: F, items: I) -> ImapUnordered<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'static>,
    {
        ImapUnordered(self.imap(function, items))
    }
}
