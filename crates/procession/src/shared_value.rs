//! Single values in shared memory. Used in any process that has one, from any thread.

use std::fmt;

use bytemuck::Pod;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::shared_array::{Integer, SharedArray};

/// One plain value that any number of processes have in their memory at once: a counter, a flag, a
/// progress.
///
/// It travels, and others reach it at the same time, as a [`SharedArray`] of one element does: a
/// value of 1, 2, 4 or 8 bytes is read, written and changed in one. Clones are the same value.
///
/// ```
/// use procession::{Context, SharedValue};
///
/// # fn main() -> procession::Result<()> {
/// let done = SharedValue::new(0u64)?;
/// let work = |done: SharedValue<u64>| (0..1000).for_each(|_| drop(done.fetch_add(1)));
/// # let ctx = Context::fork();
/// let mut workers = [ctx.process(work, done.clone()).start()?, ctx.process(work, done.clone()).start()?];
/// workers.iter_mut().try_for_each(|worker| worker.join())?;
/// assert_eq!(done.get(), 2000);
/// # Ok(()) }
/// ```
///
/// **Differences from `multiprocessing.Value`:** there is no lock inside; `fetch_add` and
/// [`update`](SharedValue::update) need none.
pub struct SharedValue<T>(SharedArray<T>);

impl<T: Pod> SharedValue<T> {
    /// A new one with this value.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let value = procession::SharedValue::new(0.5)?;
    /// assert_eq!(value.get(), 0.5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new(value: T) -> Result<SharedValue<T>> {
        SharedArray::from_slice(&[value]).map(SharedValue)
    }

    /// The value.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::SharedValue::new(7u64)?.get(), 7);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn get(&self) -> T {
        self.0.get(0)
    }

    /// Sets the value.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let value = procession::SharedValue::new(0u64)?;
    /// value.set(7);
    /// assert_eq!(value.get(), 7);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn set(&self, value: T) {
        self.0.set(0, value);
    }

    /// Makes of the value what `change` makes of it, and gives what it was. Nobody's change in
    /// between is lost; `change` may run several times.
    ///
    /// For values of 1, 2, 4 or 8 bytes; others do not compile.
    ///
    /// ```
    /// let highest = procession::SharedValue::new(1.5f32)?;
    /// highest.update(|highest| highest.max(2.5));
    /// assert_eq!(highest.get(), 2.5);
    /// # Ok::<(), procession::Error>(())
    /// ```
    #[inline]
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        self.0.update(0, change)
    }
}

impl<T: Integer> SharedValue<T> {
    /// Adds, wrapping around, and gives what it was. Nobody's addition is lost.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let done = procession::SharedValue::new(0u64)?;
    /// assert_eq!(done.fetch_add(1), 0);
    /// assert_eq!(done.get(), 1);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn fetch_add(&self, value: T) -> T {
        self.0.fetch_add(0, value)
    }

    /// Subtracts, wrapping around, and gives what it was.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let left = procession::SharedValue::new(10u64)?;
    /// assert_eq!(left.fetch_sub(1), 10);
    /// assert_eq!(left.get(), 9);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn fetch_sub(&self, value: T) -> T {
        self.0.fetch_sub(0, value)
    }
}

impl<T> Clone for SharedValue<T> {
    /// The same value.
    fn clone(&self) -> Self {
        SharedValue(self.0.clone())
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for SharedValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedValue").field(&self.get()).finish()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl<T: Pod> Serialize for SharedValue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for SharedValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SharedArray::deserialize(deserializer).map(SharedValue)
    }
}
