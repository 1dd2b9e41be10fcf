//! Calls that give one value for all items, or none. The workers combine the values of the items
//! that they have, and the thread that called combines what they send. Used in the parent, from any
//! thread.

use std::marker::PhantomData;

use procession_core::pool::{Items, Terms, explicit_chunks, guided_chunks};
use serde_core::ser::{Serialize, SerializeSeq, Serializer};

use super::call::Call;
use super::pool::Pool;
use super::result::fold_batches;
use crate::argument::Argument;
use crate::function::TaskFn;
use crate::message::{self, Message};
use crate::{Error, Result, codec, task};

/// # Calls with one result
impl Pool {
    /// Runs a task for each item, for what it does and not for a result, and waits until all are
    /// done.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// # let dir = std::env::temp_dir().join(format!("procession-for-each-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir).unwrap();
    /// let files = ["a", "b"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    /// pool.for_each(|file: String| std::fs::write(file, "written").unwrap(), &files)?;
    /// assert!(files.iter().all(|file| std::fs::exists(file).unwrap()));
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn for_each<F, A>(&self, function: F, items: impl IntoIterator<Item: Argument<A>>) -> Result<()>
    where
        F: TaskFn<A, ()>,
        A: Message,
    {
        self.map_async(function, items)?.get().map(drop)
    }

    /// Combines all items to one: `None` if there are none. See [`map_reduce`](Pool::map_reduce).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// assert_eq!(pool.reduce(u64::max, [3, 9, 4])?, Some(9));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map_reduce`](Pool::map_reduce).
    pub fn reduce<G, A>(&self, reduce: G, items: impl IntoIterator<Item: Argument<A>>) -> Result<Option<A>>
    where
        G: Fn(A, A) -> A + Copy + 'static,
        A: Message,
    {
        self.map_reduce(|item: A| item, reduce, items)
    }

    /// Runs `map` over each item and combines the values to one by `reduce`: `None` if there are no
    /// items.
    ///
    /// Items travel in chunks. A worker combines the values of a chunk, in the items' order, and
    /// sends one value; the thread that calls combines these, in order too. So `reduce` must be
    /// associative: `reduce(a, reduce(b, c))` and `reduce(reduce(a, b), c)` are one value. It need
    /// not be commutative. Sums of floats are not quite associative; their last digits depend on
    /// where chunks end.
    ///
    /// With a [`timeout`](Pool::timeout) or [`retries`](Pool::retries) each item is a task of its
    /// own, as these hold for each task.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// # let pool = procession::Context::fork().pool(2)?;
    /// let words = ["processes", "share", "nothing"];
    /// let letters = pool.map_reduce(|word: String| word.len(), |a, b| a + b, words)?;
    /// assert_eq!(letters, Some(21));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map). A lost worker's error has the index of the first item of the chunk
    /// that it was at.
    ///
    /// # Panics
    ///
    /// If `reduce` does in the thread that calls.
    pub fn map_reduce<F, G, A, R>(
        &self,
        map: F,
        reduce: G,
        items: impl IntoIterator<Item: Argument<A>>,
    ) -> Result<Option<R>>
    where
        F: TaskFn<A, R>,
        G: Fn(R, R) -> R + Copy + 'static,
        A: Message,
        R: Message,
    {
        let arguments: Vec<_> = items.into_iter().collect();
        let sizes = self.batches(arguments.len())?;
        let call = Call::of::<F>(task::reduce_entry(map, reduce));
        let mut firsts = Vec::with_capacity(sizes.len());
        let encode = |items: &mut Items| {
            let mut rest = &arguments[..];
            for size in &sizes {
                let (batch, behind) = rest.split_at(*size as usize);
                let first = arguments.len() - rest.len();
                push_batch(items, call.function, first, batch)?;
                firsts.push(first);
                rest = behind;
            }
            Ok::<_, Error>(())
        };
        let items = self.shared.engine.items(sizes.len(), encode)?;
        let terms = Terms { chunk: Some(1), ..self.terms };
        fold_batches(&self.shared.engine.submit(call.entry, items, terms)?, call.function, &firsts, reduce)
    }

    /// The numbers of items that travel together.
    fn batches(&self, items: usize) -> Result<Vec<u32>> {
        match self.terms {
            Terms { chunk: Some(0), .. } => Err(Error::invalid("a chunk needs at least one task, not 0")),
            Terms { timeout: Some(_), .. } | Terms { retries: 1.., .. } => Ok(vec![1; items]),
            Terms { chunk: Some(size), .. } => Ok(explicit_chunks(items, size)),
            Terms { chunk: None, .. } => Ok(guided_chunks(items, self.workers())),
        }
    }
}

/// Appends the arguments of a batch as one item. `first` is the index of the first of them.
fn push_batch<A: Message, B: Argument<A>>(
    items: &mut Items,
    function: &'static str,
    first: usize,
    batch: &[B],
) -> Result<()> {
    let failed = |index: usize, why| Error::unencodable_argument(function, index, why);
    let encode = |out: &mut Vec<u8>| {
        let encoded = codec::to_bytes(&Batch::<A, B>(batch, PhantomData), out);
        encoded.map_err(|error| {
            let each = batch.iter().map(|argument| argument.encode(&mut Vec::new()).err());
            let first_bad = each.enumerate().find_map(|(offset, why)| Some((first + offset, why?)));
            let (index, why) = first_bad.unwrap_or_else(|| (first, message::reason::<Vec<A>>(&error)));
            failed(index, why)
        })
    };
    items.push_batch(batch.len() as u32, encode, || failed(first, "its chunk is larger than 4 GiB".into()))
}

/// Arguments one behind the other. They read back as a `Vec<A>`.
struct Batch<'a, A, B>(&'a [B], PhantomData<fn() -> A>);

impl<A, B: Argument<A>> Serialize for Batch<'_, A, B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut elements = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|argument| elements.serialize_element(argument.form()))?;
        elements.end()
    }
}
