//! Plain data that is put into shared memory once and read in place by many. Used in the process
//! that shares and in those that are given the handle, from any thread.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytemuck::Pod;
use procession_core::handle;
use procession_core::shared_memory::{Constant, ConstantBytes};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Result, arrival};

/// A slice of plain values in shared memory, which nobody can change: a large read-only table. It
/// is copied once, when it is made. Every process that is given it reads it where it is, as a
/// `&[T]`, and all have it in RAM together.
///
/// It travels to a child as (part of) the argument of a process, of a pool's task or initializer,
/// of a [state](crate::Pool::map_with), or over a connection; under fork a closure may just capture
/// it. Clones are the same slice. It has no name, and is gone with its last user.
///
/// ```
/// use procession::{Context, SharedSlice};
///
/// # fn main() -> procession::Result<()> {
/// let squares = SharedSlice::from_elements((0..1000_u64).map(|x| x * x))?;
/// let sum = |(squares, from): (SharedSlice<u64>, usize)| squares[from..from + 10].iter().sum::<u64>();
/// # let pool = Context::fork().pool(2)?;
/// let sums = pool.map(sum, [0, 500].map(|from| (squares.clone(), from)))?;
/// assert_eq!(sums[0], squares[..10].iter().sum::<u64>());
/// # Ok(()) }
/// ```
///
/// # Which one
///
/// | | holds | who may change it | a copy for |
/// |---|---|---|---|
/// | `SharedSlice` | plain values | nobody | nobody: it is read in place |
/// | [`SharedArray`](crate::SharedArray) | plain values | everybody, element by element | nobody, but there is no `&[T]` |
/// | [`Slice`](crate::Slice) | plain values | nobody | each message that holds it, unless it is short |
/// | [`share`](crate::share) | any message | nobody | each process, which decodes it |
///
/// The memory is sealed, so that no process can write it, not even by mistake in native code.
pub struct SharedSlice<T>(Arc<Inner<T>>);

struct Inner<T> {
    constant: Constant,
    /// A whole number of elements, from the beginning of a page.
    bytes: ConstantBytes,
    element: PhantomData<fn() -> T>,
}

impl<T: Pod> SharedSlice<T> {
    /// Shares a copy of these elements.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let shared = procession::SharedSlice::from_slice(&[0.5, 1.5])?;
    /// assert_eq!(*shared, [0.5, 1.5]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses: no fd left, or no memory.
    pub fn from_slice(elements: &[T]) -> Result<SharedSlice<T>> {
        const { assert!(size_of::<T>() > 0, "elements of no bytes need no memory") };
        let constant = Constant::new(bytemuck::cast_slice(elements))?;
        let identity = constant.identity();
        let inner = Arc::new(Inner { bytes: constant.bytes()?, constant, element: PhantomData });
        arrival::remember(identity, &inner);
        Ok(SharedSlice(inner))
    }

    /// Shares what an iterator gives.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let shared = procession::SharedSlice::from_elements(vec![1_u8, 2, 3])?;
    /// assert_eq!(shared.iter().sum::<u8>(), 6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`from_slice`](SharedSlice::from_slice).
    pub fn from_elements(elements: impl IntoIterator<Item = T>) -> Result<SharedSlice<T>> {
        SharedSlice::from_slice(&elements.into_iter().collect::<Vec<_>>())
    }

    fn attach(constant: Constant) -> Result<Inner<T>, String> {
        let bytes = constant.bytes().map_err(|error| error.to_string())?;
        bytemuck::try_cast_slice::<u8, T>(&bytes)
            .map_err(|_| format!("{} bytes are no whole number of elements of {}", bytes.len(), size_of::<T>()))?;
        Ok(Inner { constant, bytes, element: PhantomData })
    }
}

impl<T: Pod> Deref for SharedSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.0.bytes)
    }
}

impl<T> Clone for SharedSlice<T> {
    /// The same slice.
    fn clone(&self) -> Self {
        SharedSlice(self.0.clone())
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Pod + PartialEq> PartialEq for SharedSlice<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T: Pod> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.0.constant.as_fd(), "shared slice").map_err(S::Error::custom)?;
        (index, size_of::<T>() as u32).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, size) = <(u32, u32)>::deserialize(deserializer)?;
        if size as usize != size_of::<T>() {
            return Err(D::Error::custom(format!(
                "a shared slice of elements of {size} bytes, not {}",
                size_of::<T>()
            )));
        }
        let fd = handle::receive_fd(index, "shared slice").map_err(D::Error::custom)?;
        let constant = Constant::attach(fd).map_err(|error| error.to_string());
        let inner = constant.and_then(|constant| arrival::get_or_make(constant, SharedSlice::attach));
        inner.map(SharedSlice).map_err(|why| {
            handle::refuse(&why);
            D::Error::custom(why)
        })
    }
}
