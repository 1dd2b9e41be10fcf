//! Values that are put into shared memory once and handed to many. Used in the process that shares
//! and in those that are given the handle, from any thread.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use procession_core::shared_memory::Constant;
use procession_core::{Identity, PerProcess, handle};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result, message};

/// Puts a value into shared memory, once, to be handed to any number of processes: a large table
/// that every worker needs.
///
/// The value itself is kept here, where the handle is used like a reference to it. Elsewhere it is
/// made from the shared bytes when the handle arrives, at most once at a time in each process,
/// however many handles arrive there. The bytes have no name; they are gone with the last handle
/// anywhere.
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
    let shared = Shared(Arc::new(Inner { constant: Constant::new(&bytes)?, value }));
    known().insert(key::<T>(&shared.0.constant), shared.weak());
    Ok(shared)
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
        constant.and_then(Shared::decode).map_err(|why| {
            handle::refuse(&why);
            D::Error::custom(why)
        })
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Shared<T> {
    /// The value that this process has of it, or else a new one.
    fn decode(constant: Constant) -> Result<Shared<T>, String> {
        // One at a time, so that two that arrive together are decoded once.
        let _decoding = DECODING.get().lock().unwrap_or_else(PoisonError::into_inner);
        let key = key::<T>(&constant);
        if let Some(inner) = known().get(&key).and_then(Weak::upgrade).and_then(|any| any.downcast().ok()) {
            return Ok(Shared(inner));
        }
        let bytes = constant.read().map_err(|error| error.to_string())?;
        // The handles that came along are not the value's: it was encoded where none could be
        // given.
        let value: T = handle::receiving(Vec::new(), || message::decode(&bytes))?;
        let shared = Shared(Arc::new(Inner { constant, value }));
        let mut known = known();
        known.retain(|_, value| value.strong_count() > 0);
        known.insert(key, shared.weak());
        Ok(shared)
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    fn weak(&self) -> Weak<dyn Any + Send + Sync> {
        let any: Arc<dyn Any + Send + Sync> = self.0.clone();
        Arc::downgrade(&any)
    }
}

/// What tells values apart: the bytes, and the type that they are read as.
type Key = (Identity, TypeId);

type Known = HashMap<Key, Weak<dyn Any + Send + Sync>>;

/// The values that this process has. They keep their handle, so that no other has the same
/// identity.
static KNOWN: PerProcess<Mutex<Known>> = PerProcess::new(Mutex::default);

static DECODING: PerProcess<Mutex<()>> = PerProcess::new(Mutex::default);

fn known() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.get().lock().unwrap_or_else(PoisonError::into_inner)
}

fn key<T: 'static>(constant: &Constant) -> Key {
    (constant.identity(), TypeId::of::<T>())
}
