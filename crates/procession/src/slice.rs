//! Large plain data in arguments and results. Used wherever a task is submitted, run, or its result
//! read.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::{NoUninit, Pod};
use procession_core::Held;
use procession_core::pool::blocks::{self, Place};
use serde_core::de::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that cross to a worker and back without being copied more than once: see [`Slice`].
pub type Bytes = Slice<u8>;

/// Plain data, read-only and cheap to clone, that crosses to a pool's worker and back in shared
/// memory.
///
/// In the argument or result of a pool's task 16 KiB and more are copied once, by who sends them,
/// into memory that the pool has used before. The receiver reads them there, in place, and lets go
/// of the memory with the last clone. A shorter slice, or one that travels elsewhere (to a
/// [`Process`](crate::Process), through a [`Queue`](crate::Queue)), is copied like a vector, at the
/// speed of a copy and not element by element.
///
/// ```
/// use procession::{Bytes, Slice};
///
/// # fn main() -> procession::Result<()> {
/// # let pool = procession::Context::fork().pool(2)?;
/// let sum = |samples: Slice<f64>| samples.iter().sum::<f64>();
/// assert_eq!(pool.apply(sum, vec![0.5; 1_000_000].into())?, 500_000.0);
/// let image: Bytes = pool.apply(|size: usize| Bytes::from(vec![7; size]), 8 << 20)?;
/// assert_eq!((image.len(), image[1000]), (8 << 20, 7));
/// # Ok(()) }
/// ```
///
/// A process that forks while it has one keeps its memory until the pool ends, since the child may
/// read it too.
pub struct Slice<T: Pod>(Data<T>);

enum Data<T: Pod> {
    Own(Arc<Vec<T>>),
    /// A whole number of elements, at their alignment.
    Block(Arc<Held>),
}

/// On its way: the area and the block where the elements went, or the elements' bytes.
type Wire<B> = (Option<(u32, u64)>, B);

/// Bytes, and not a sequence of `u8`.
struct Inline<'a>(&'a [u8]);

impl Serialize for Inline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<T: Pod> Deref for Slice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Data::Own(elements) => elements,
            Data::Block(held) => bytemuck::cast_slice(held),
        }
    }
}

impl<T: Pod> From<Vec<T>> for Slice<T> {
    fn from(elements: Vec<T>) -> Slice<T> {
        Slice(Data::Own(Arc::new(elements)))
    }
}

impl<T: Pod> From<&[T]> for Slice<T> {
    fn from(elements: &[T]) -> Slice<T> {
        elements.to_vec().into()
    }
}

impl<T: Pod> Clone for Slice<T> {
    /// The same elements.
    fn clone(&self) -> Self {
        Slice(match &self.0 {
            Data::Own(elements) => Data::Own(elements.clone()),
            Data::Block(held) => Data::Block(held.clone()),
        })
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Pod + PartialEq> PartialEq for Slice<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod> Serialize for Slice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = bytes_of(self);
        let wire: Wire<Inline<'_>> = match blocks::put_buffer(bytes) {
            Some(Place { area, block }) => (Some((area, block)), Inline(&[])),
            None => (None, Inline(bytes)),
        };
        wire.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Slice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let broken = || D::Error::custom(format!("no whole number of elements of {} bytes", size_of::<T>()));
        match Wire::<&[u8]>::deserialize(deserializer)? {
            (None, bytes) if bytes.len().is_multiple_of(size_of::<T>()) => {
                Ok(Slice(Data::Own(Arc::new(bytemuck::allocation::pod_collect_to_vec(bytes)))))
            }
            (Some((area, block)), _) => {
                let held = blocks::take_buffer(Place { area, block }).map_err(|why| {
                    let why = why.to_string();
                    procession_core::handle::refuse(&why);
                    D::Error::custom(why)
                })?;
                bytemuck::try_cast_slice::<u8, T>(&held).map_err(|_| broken())?;
                Ok(Slice(Data::Block(held)))
            }
            (None, _) => Err(broken()),
        }
    }
}

fn bytes_of<T: NoUninit>(elements: &[T]) -> &[u8] {
    bytemuck::cast_slice(elements)
}
