//! Calls with a state: what a closure would capture. Used in the parent, from any thread; the
//! functions run in the workers.

use procession_core::pool::Order;

use super::call::Call;
use super::imap::{Imap, ImapUnordered};
use super::pool::Pool;
use super::result::AsyncResult;
use crate::argument::Argument;
use crate::function::{StateFn, StateTupleFn};
use crate::message::Message;
use crate::{Result, task};

/// # Calls with a state
///
/// A function that runs in another process captures nothing. Data that it would capture is given to
/// it as a *state*: any message, encoded once for the call, decoded once in each worker that takes
/// part, and shared by the call's tasks there, which get a `&S`. It may hold handles (a
/// [`Queue`](crate::Queue), a lock). Each of these methods is the one without `_with`, with a state
/// in front; terms ([`timeout`](Pool::timeout), [`retries`](Pool::retries) and so on) hold alike.
///
/// A worker keeps the state until it has taken part in several other calls with states, or has had
/// no task for some seconds; then, and in a replacement of a lost worker, it is decoded anew.
/// Decoding it counts towards no task's time limit; a call that is cancelled ends it. A state that
/// does not decode is the error of each task ([`Error::is_decode`](crate::Error::is_decode)).
impl Pool {
    /// Runs a task for each item, with a state that they share, and waits for the results, in the
    /// items' order.
    ///
    /// The state is given as it is or by reference (see [`Argument`]).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let table = vec![10, 20, 30];
    /// let looked_up = pool.map_with(&table, |table, index: usize| table[index], [2, 0, 1])?;
    /// assert_eq!(looked_up, [30, 10, 20]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map); at once for a state that does not encode
    /// ([`Error::is_encode`](crate::Error::is_encode)).
    pub fn map_with<F, S, A, R>(
        &self,
        state: impl Argument<S>,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<Vec<R>>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        self.map_async_with(state, function, items)?.get()
    }

    /// As [`map_with`](Pool::map_with), but returns each task's own result, as
    /// [`map_each`](Pool::map_each) does.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let shares = pool.map_each_with(12, |whole, parts: u32| whole / parts, [3, 0])?;
    /// assert!(shares[0].as_ref().is_ok_and(|share| *share == 4));
    /// assert!(shares[1].as_ref().is_err_and(|error| error.is_panic()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_each`](Pool::map_each) and [`map_with`](Pool::map_with).
    pub fn map_each_with<F, S, A, R>(
        &self,
        state: impl Argument<S>,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<Vec<Result<R>>>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        self.map_async_with(state, function, items)?.get_each()
    }

    /// Submits a task for each item, with a state that they share.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let greeted = pool.map_async_with("hello", |greeting: &String, name: String| format!("{greeting} {name}"), ["a", "b"])?;
    /// assert_eq!(greeted.get()?, ["hello a", "hello b"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_async`](Pool::map_async) and [`map_with`](Pool::map_with).
    pub fn map_async_with<F, S, A, R>(
        &self,
        state: impl Argument<S>,
        function: F,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<AsyncResult<Vec<R>>>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        self.submit_all::<A, R>(&self.call_with(state, function)?, items)
    }

    /// Runs one task with a state and waits for its result.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let table = vec!["zero", "one"].into_iter().map(String::from).collect::<Vec<_>>();
    /// assert_eq!(pool.apply_with(&table, |table, index: usize| table[index].len(), 1)?, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply`](Pool::apply) and [`map_with`](Pool::map_with).
    pub fn apply_with<F, S, A, R>(&self, state: impl Argument<S>, function: F, argument: A) -> Result<R>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        self.apply_async_with(state, function, argument)?.get()
    }

    /// Submits one task with a state.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let scaled = pool.apply_async_with(10, |factor, x: i32| x * factor, 4)?;
    /// assert_eq!(scaled.get()?, 40);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`apply_async`](Pool::apply_async) and [`map_with`](Pool::map_with).
    pub fn apply_async_with<F, S, A, R>(
        &self,
        state: impl Argument<S>,
        function: F,
        argument: A,
    ) -> Result<AsyncResult<R>>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        self.submit_one::<A, R>(&self.call_with(state, function)?, argument)
    }

    /// Runs a task for each item, lazily, with a state that they share. See [`imap`](Pool::imap).
    /// A state that does not encode is the first result's error, and the only one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let multiples = pool.imap_with(7, |factor, x: u64| x * factor, 0..).take(3);
    /// assert_eq!(multiples.collect::<procession::Result<Vec<_>>>()?, [0, 7, 14]);
    /// # Ok(()) }
    /// ```
    pub fn imap_with<F, S, A, R, I>(&self, state: impl Argument<S>, function: F, items: I) -> Imap<R>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        self.submit_lazily::<A, R, I>(Order::OfItems, self.call_with(state, function), items)
    }

    /// As [`imap_with`](Pool::imap_with), but the results come as they are ready.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let sum: u64 = pool.imap_unordered_with(7, |factor, x: u64| x * factor, 0..10).flatten().sum();
    /// assert_eq!(sum, 45 * 7);
    /// # Ok(()) }
    /// ```
    pub fn imap_unordered_with<F, S, A, R, I>(&self, state: impl Argument<S>, function: F, items: I) -> ImapUnordered<R>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
        I: IntoIterator<Item: Argument<A>, IntoIter: Send + 'static>,
    {
        ImapUnordered(self.submit_lazily::<A, R, I>(Order::AsReady, self.call_with(state, function), items))
    }

    /// As [`map_with`](Pool::map_with), for a function of the state and several arguments, two to
    /// eight, over tuples of the arguments.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let inside = |limit: &u32, a: u32, b: u32| a + b < *limit;
    /// assert_eq!(pool.starmap_with(10, inside, [(1, 2), (7, 8)])?, [true, false]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_with`](Pool::map_with).
    pub fn starmap_with<F, S, A>(
        &self,
        state: impl Argument<S>,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<F::Output>>
    where
        F: StateTupleFn<S, A>,
        S: Message,
        A: Message,
        F::Output: Message,
    {
        self.starmap_async_with(state, function, items)?.get()
    }

    /// As [`map_async_with`](Pool::map_async_with), for a function of the state and several
    /// arguments over tuples of the arguments.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let sums = pool.starmap_async_with(100, |base: &u32, a: u32, b: u32| base + a + b, [(1, 2), (7, 8)])?;
    /// assert_eq!(sums.get()?, [103, 115]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_async_with`](Pool::map_async_with).
    pub fn starmap_async_with<F, S, A>(
        &self,
        state: impl Argument<S>,
        function: F,
        items: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<F::Output>>>
    where
        F: StateTupleFn<S, A>,
        S: Message,
        A: Message,
        F::Output: Message,
    {
        let call = Call::of::<F>(task::state_tuple_entry(function));
        let call = call.with_state::<S>(&self.shared.engine, &state)?;
        self.submit_all::<A, F::Output>(&call, items)
    }

    fn call_with<F, S, A, R>(&self, state: impl Argument<S>, function: F) -> Result<Call>
    where
        F: StateFn<S, A, R>,
        S: Message,
        A: Message,
        R: Message,
    {
        Call::of::<F>(task::state_entry(function)).with_state::<S>(&self.shared.engine, &state)
    }
}
