//! Arrays in shared memory. Used in any process that has one, from any thread.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytemuck::{Pod, bytes_of, bytes_of_mut, cast_slice, cast_slice_mut};
use procession_core::{Elements, handle, shared_memory as engine};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;

/// An array of plain values that any number of processes have in their memory at once.
///
/// It travels to a child as (part of) the argument of a process, of a pool's task or initializer,
/// or over a connection; under fork a closure may just capture it. Clones are the same array. It
/// has no name, and is gone with its last user.
///
/// ```
/// use procession::{Context, SharedArray};
///
/// # fn main() -> procession::Result<()> {
/// let squares = SharedArray::<f64>::new(100)?;
/// let work = |squares: SharedArray<f64>| (0..100).for_each(|i| squares.set(i, (i * i) as f64));
/// # let ctx = Context::fork();
/// ctx.process(work, squares.clone()).start()?.join()?;
/// assert_eq!(squares.get(9), 81.0);
/// # Ok(()) }
/// ```
///
/// # Others at the same time
///
/// An element of 1, 2, 4 or 8 bytes is read and written in one: what [`get`](SharedArray::get)
/// gives was [`set`](SharedArray::set) by somebody, and what that process had written before, to
/// whatever memory it shares, is seen too. Of a larger element, and of several, some parts may be
/// of before and some of after. There is no lock inside, unlike in `multiprocessing.Array`: have
/// one beside it where elements belong together. A process that is killed leaves what it has set.
pub struct SharedArray<T> {
    elements: Arc<Elements>,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod> SharedArray<T> {
    /// A new one of `len` elements, all of whose bytes are zero.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::<f64>::new(3)?;
    /// assert_eq!(array.to_vec(), [0.0, 0.0, 0.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// For a `len` of 0 ([`Error::is_invalid`](crate::Error::is_invalid)); if the system refuses.
    pub fn new(len: usize) -> Result<SharedArray<T>> {
        const { assert!(size_of::<T>() > 0, "elements of no bytes need no memory") };
        Ok(SharedArray::of(engine::new_elements(len, size_of::<T>())?))
    }

    /// A new one of these elements.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::from_slice(&[1, 2, 3])?;
    /// assert_eq!(array.get(2), 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](SharedArray::new).
    pub fn from_slice(elements: &[T]) -> Result<SharedArray<T>> {
        let array = SharedArray::new(elements.len())?;
        array.write(0, elements);
        Ok(array)
    }

    /// Returns the number of elements, which is at least one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::SharedArray::<u8>::new(1000)?.len(), 1000);
    /// # Ok(()) }
    /// ```
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    #[inline]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// The element at `index`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::from_slice(&[1, 2, 3])?;
    /// assert_eq!(array.get(0), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none, as a slice does.
    #[inline]
    #[track_caller]
    pub fn get(&self, index: usize) -> T {
        let mut value = T::zeroed();
        self.elements.load(index, bytes_of_mut(&mut value));
        value
    }

    /// Sets the element at `index`.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::<u64>::new(3)?;
    /// array.set(1, 7);
    /// assert_eq!(array.to_vec(), [0, 7, 0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get`](SharedArray::get).
    #[inline]
    #[track_caller]
    pub fn set(&self, index: usize, value: T) {
        self.elements.store(index, bytes_of(&value));
    }

    /// Makes of the element at `index` what `change` makes of it, and gives what it was. Nobody's
    /// change in between is lost; `change` may run several times.
    ///
    /// For elements of 1, 2, 4 or 8 bytes; others do not compile:
    ///
    /// ```compile_fail,E0080
    /// let points = procession::SharedArray::<[f64; 2]>::new(10)?;
    /// points.update(3, |[x, y]| [x + 1.0, y]);
    /// # Ok::<(), procession::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get`](SharedArray::get).
    #[inline]
    #[track_caller]
    pub fn update(&self, index: usize, mut change: impl FnMut(T) -> T) -> T {
        const { assert!(matches!(size_of::<T>(), 1 | 2 | 4 | 8), "only 1, 2, 4 or 8 bytes are changed in one") };
        let mut value = self.get(index);
        loop {
            let changed = change(value);
            if self.elements.compare_exchange(index, bytes_of_mut(&mut value), bytes_of(&changed)) {
                return value;
            }
        }
    }

    /// Copies the elements from `start` on out, as many as `out` has room for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::from_slice(&[1, 2, 3, 4])?;
    /// let mut middle = [0; 2];
    /// array.read(1, &mut middle);
    /// assert_eq!(middle, [2, 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If there are not as many.
    #[track_caller]
    pub fn read(&self, start: usize, out: &mut [T]) {
        self.elements.load(start, cast_slice_mut(out));
    }

    /// Copies `elements` to those from `start` on.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::<u64>::new(4)?;
    /// array.write(1, &[2, 3]);
    /// assert_eq!(array.to_vec(), [0, 2, 3, 0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`read`](SharedArray::read).
    #[track_caller]
    pub fn write(&self, start: usize, elements: &[T]) {
        self.elements.store(start, cast_slice(elements));
    }

    /// Copies as many elements as it has into it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::<u64>::new(2)?;
    /// array.copy_from_slice(&[1, 2]);
    /// assert_eq!(array.to_vec(), [1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// If `elements` are not as many, as a slice does.
    #[track_caller]
    pub fn copy_from_slice(&self, elements: &[T]) {
        assert_eq!(elements.len(), self.len(), "the elements and the array are of one length");
        self.write(0, elements);
    }

    /// Sets every element.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::new(2)?;
    /// array.fill(0.5);
    /// assert_eq!(array.to_vec(), [0.5, 0.5]);
    /// # Ok(()) }
    /// ```
    pub fn fill(&self, value: T) {
        (0..self.len()).for_each(|index| self.set(index, value));
    }

    /// A copy of all elements.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let array = procession::SharedArray::from_slice(&[1u8, 2])?;
    /// assert_eq!(array.to_vec(), [1, 2]);
    /// # Ok(()) }
    /// ```
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::zeroed(); self.len()];
        self.read(0, &mut elements);
        elements
    }

    fn of(elements: Elements) -> SharedArray<T> {
        SharedArray { elements: Arc::new(elements), element: PhantomData }
    }
}

impl<T: Integer> SharedArray<T> {
    /// Adds to the element at `index`, wrapping around, and gives what it was. Nobody's addition is
    /// lost.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let histogram = procession::SharedArray::<u64>::new(10)?;
    /// assert_eq!(histogram.fetch_add(3, 1), 0); // by any number of processes at once
    /// assert_eq!(histogram.get(3), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get`](SharedArray::get).
    #[inline]
    #[track_caller]
    pub fn fetch_add(&self, index: usize, value: T) -> T {
        let mut value = value;
        self.elements.fetch_add(index, bytes_of_mut(&mut value));
        value
    }

    /// Subtracts from the element at `index`, as [`fetch_add`](SharedArray::fetch_add) adds.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let stock = procession::SharedArray::from_slice(&[5u32])?;
    /// assert_eq!(stock.fetch_sub(0, 2), 5);
    /// assert_eq!(stock.get(0), 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`get`](SharedArray::get).
    #[inline]
    #[track_caller]
    pub fn fetch_sub(&self, index: usize, value: T) -> T {
        self.fetch_add(index, value.negated())
    }
}

impl<T> Clone for SharedArray<T> {
    /// The same array.
    fn clone(&self) -> Self {
        SharedArray { elements: self.elements.clone(), element: PhantomData }
    }
}

impl<T> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedArray").field("len", &self.elements.len()).finish_non_exhaustive()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T: Pod> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.elements.as_fd(), "shared array").map_err(S::Error::custom)?;
        serializer.serialize_u32(index)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "shared array").map_err(D::Error::custom)?;
        engine::attach_elements(fd, size_of::<T>()).map(SharedArray::of).map_err(|error| {
            handle::refuse(&error.to_string());
            D::Error::custom(error)
        })
    }
}

/// The integers of up to 8 bytes, which are added to in one.
pub trait Integer: Pod + sealed::Sealed {
    #[doc(hidden)]
    fn negated(self) -> Self;
}

mod sealed {
    /// Nobody else's types are these.
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty)*) => { $(
        impl sealed::Sealed for $integer {}

        impl Integer for $integer {
            fn negated(self) -> Self {
                self.wrapping_neg()
            }
        }
    )* };
}

integers! { i8 u8 i16 u16 i32 u32 i64 u64 isize usize }
