//! Values that are put into shared memory once and handed to many. Used in the process that shares
//! and in those that are given the handle, from any thread.

use std::fmt;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;

use procession_core::handle;
use procession_core::shared_memory::Constant;
use serde_core::de::{DeserializeOwned, Error as _};
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result, arrival, message};

/// Puts a value into shared memory, once, to be handed to any number of processes: a large table
/// that every worker needs.
///
/// The value itself is kept here, where the handle is used like a reference to it. Elsewhere it is
/// made from the shared bytes when the handle arrives, at most once at a time in each process,
/// however many handles arrive there. A pool's worker keeps it for its next tasks, until it has run
/// some without it or has had none for some seconds. The bytes have no name; they are gone with the
/// last handle anywhere. Of plain values, a [`SharedSlice`](crate::SharedSlice) is made nowhere
/// else, but read in place.
///
/// ```
/// use procession::{Context, Shared};
///
/// # fn main() -> procession::Result<()> {
/// let words = procession::share(vec!["some".to_owned(), "words".to_owned()])?;
/// let count = |words: Shared<Vec<String>>| words.len();
/// # let ctx = Context::fork();
/// for _ in 0..3 {
///     assert_eq!(ctx.process(count, words.clone()).start()?.join()?, 2);
/// }
/// assert_eq!(words[1], "words");
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// A value that does not encode ([`Error::is_encode`]); if the system refuses.
pub fn share<T>(value: T) -> Result<Shared<T>>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let mut bytes = Vec::new();
    message::encode_alone(&value, &mut bytes).map_err(|why| Error::unencodable("value", "share", why))?;
    let constant = Constant::new(&bytes)?;
    let identity = constant.identity();
    let inner = Arc::new(Inner { constant, value });
    arrival::remember(identity, &inner);
    Ok(Shared(inner))
}

/// A value that is shared: see [`share`]. Clones are the same value.
///
/// It travels to a child as (part of) the argument of a process, of a pool's task or initializer,
/// or over a connection.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    constant: Constant,
    value: T,
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Shared<T> {
    /// The same value.
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0.value).finish()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.0.constant.as_fd(), "shared value").map_err(S::Error::custom)?;
        serializer.serialize_u32(index)
    }
}

impl<'de, T: DeserializeOwned + Send + Sync + 'static> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "shared value").map_err(D::Error::custom)?;
        let constant = Constant::attach(fd).map_err(|error| error.to_string());
        let inner = constant.and_then(|constant| arrival::get_or_make(constant, Inner::decode));
        inner.map(Shared).map_err(|why| {
            handle::refuse(&why);
            D::Error::custom(why)
        })
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Inner<T> {
    fn decode(constant: Constant) -> Result<Inner<T>, String> {
        let bytes = constant.bytes().map_err(|error| error.to_string())?;
        // The handles that came along are not the value's: it was encoded where none could be
        // given.
        let value = handle::receiving(Vec::new(), || message::decode(&bytes))?;
        Ok(Inner { constant, value })
    }
}
