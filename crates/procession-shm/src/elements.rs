//! Values of the users' own, all of one size, that any process reads and writes at any time: those
//! of an array, or a single one. Used in any process that has them mapped, from any thread.
//!
//! A value consists of units: the largest of 8, 4, 2 and 1 bytes that its size is a multiple of.
//! One atomic instruction reads or writes a unit, so a value of one unit is never torn. A larger
//! value may be torn between its units. All accesses use the same unit, because the language does
//! not define atomics of different sizes that race.

#![allow(unsafe_code, reason = "makes references to atomics in a mapping")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use procession_sys::memfd;

use crate::segment::Mapping;

/// See the module.
#[derive(Debug)]
pub struct Elements {
    mapping: Mapping,
    len: usize,
    /// The size of one element.
    size: usize,
}

/// Does the same with atomics of the unit that a size has.
macro_rules! by_unit {
    ($size:expr, $act:ident ( $($argument:expr),* )) => {
        match 1 << $size.trailing_zeros().min(3) {
            8 => $act::<u64>($($argument),*),
            4 => $act::<u32>($($argument),*),
            2 => $act::<u16>($($argument),*),
            _ => $act::<u8>($($argument),*),
        }
    };
}

impl Elements {
    /// Makes `len` elements of `size` zero bytes each.
    ///
    /// # Errors
    ///
    /// For no elements, for more than memory has addresses, and if the system refuses.
    ///
    /// # Panics
    ///
    /// For a size of 0.
    pub fn create(len: usize, size: usize) -> io::Result<Elements> {
        assert!(size > 0, "elements of no bytes need no memory");
        let bytes = len.checked_mul(size).filter(|bytes| *bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let fd = memfd::create("procession-elements", bytes as u64)?;
        Ok(Elements { mapping: Mapping::of(fd, bytes)?, len, size })
    }

    /// Maps the elements that another process created.
    ///
    /// # Errors
    ///
    /// If the file does not hold elements of this size, or the system refuses.
    pub fn attach(fd: OwnedFd, size: usize) -> io::Result<Elements> {
        let bytes = usize::try_from(memfd::sealed_len(fd.as_fd())?).map_err(io::Error::other)?;
        if size == 0 || !bytes.is_multiple_of(size) {
            let message = format!("its {bytes} bytes are not elements of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(Elements { mapping: Mapping::of(fd, bytes)?, len: bytes / size, size })
    }

    /// Returns how many elements there are.
    #[allow(clippy::len_without_is_empty, reason = "there is one at least")]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies the elements from `index` on into `out`, as many as it has room for.
    ///
    /// # Panics
    ///
    /// If they are not all there, or `out` has no room for whole elements.
    #[inline]
    #[track_caller]
    pub fn load(&self, index: usize, out: &mut [u8]) {
        let at = self.place(index, out.len());
        // The callers know this length at compile time, and with it the unit.
        if matches!(out.len(), 1 | 2 | 4 | 8) && out.len() == self.size {
            return by_unit!(out.len(), load_one(self, at, out));
        }
        by_unit!(self.size, load_all(self, at, out));
    }

    /// Copies elements to those from `index` on.
    ///
    /// # Panics
    ///
    /// As [`load`](Elements::load).
    #[inline]
    #[track_caller]
    pub fn store(&self, index: usize, bytes: &[u8]) {
        let at = self.place(index, bytes.len());
        if matches!(bytes.len(), 1 | 2 | 4 | 8) && bytes.len() == self.size {
            return by_unit!(bytes.len(), store_one(self, at, bytes));
        }
        by_unit!(self.size, store_all(self, at, bytes));
    }

    /// Exchanges the element for `new` if it is `expected`. Otherwise copies the element into
    /// `expected`.
    ///
    /// # Panics
    ///
    /// If it is not there, or elements are not of 1, 2, 4 or 8 bytes.
    #[inline]
    #[track_caller]
    pub fn compare_exchange(&self, index: usize, expected: &mut [u8], new: &[u8]) -> bool {
        let at = self.single(index, new.len());
        by_unit!(new.len(), exchange(self, at, expected, new))
    }

    /// Adds to the element, a whole number that wraps around. Leaves its old value in `value`.
    ///
    /// # Panics
    ///
    /// As [`compare_exchange`](Elements::compare_exchange).
    #[inline]
    #[track_caller]
    pub fn fetch_add(&self, index: usize, value: &mut [u8]) {
        let at = self.single(index, value.len());
        by_unit!(value.len(), add(self, at, value));
    }

    /// Returns where elements lie that have this many bytes together.
    #[inline]
    #[track_caller]
    fn place(&self, index: usize, bytes: usize) -> usize {
        let mut count = 1;
        if bytes != self.size {
            assert!(bytes.is_multiple_of(self.size), "{bytes} bytes are not elements of {} bytes", self.size);
            count = bytes / self.size;
        }
        let inside = index.checked_add(count).is_some_and(|end| end <= self.len);
        assert!(inside, "elements {index} to {index} + {count} are outside of an array of {}", self.len);
        index * self.size
    }

    #[inline]
    #[track_caller]
    fn single(&self, index: usize, bytes: usize) -> usize {
        assert!(
            bytes == self.size && matches!(bytes, 1 | 2 | 4 | 8),
            "one element of 1, 2, 4 or 8 bytes can be exchanged, and not {bytes} bytes of elements of {}",
            self.size
        );
        self.place(index, bytes)
    }

    /// The units of `bytes` bytes at `at`.
    #[inline]
    fn units<U: Unit>(&self, at: usize, bytes: usize) -> &[U::Atomic] {
        debug_assert!(at.is_multiple_of(size_of::<U>()) && at + bytes <= self.mapping.len());
        // SAFETY: `place` has shown that the bytes are inside the mapping, which begins at a page.
        // `at` is a multiple of an element's size, and so of the unit's, so the atomics are
        // aligned. Any bytes are valid. Every access of this process to this mapping is by atomics
        // of this unit, since the size never changes. To the language, other processes are what the
        // hardware is.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().add(at).cast(), bytes / size_of::<U>()) }
    }
}

impl AsFd for Elements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapping.as_fd()
    }
}

#[inline]
fn load_one<U: Unit>(elements: &Elements, at: usize, out: &mut [u8]) {
    U::load(&elements.units::<U>(at, out.len())[0], Ordering::Acquire).put(out);
}

#[inline]
fn store_one<U: Unit>(elements: &Elements, at: usize, bytes: &[u8]) {
    U::store(&elements.units::<U>(at, bytes.len())[0], U::of(bytes), Ordering::Release);
}

fn load_all<U: Unit>(elements: &Elements, at: usize, out: &mut [u8]) {
    let units = elements.units::<U>(at, out.len());
    for (bytes, unit) in out.chunks_exact_mut(size_of::<U>()).zip(units) {
        U::load(unit, Ordering::Relaxed).put(bytes);
    }
    fence(Ordering::Acquire);
}

fn store_all<U: Unit>(elements: &Elements, at: usize, bytes: &[u8]) {
    fence(Ordering::Release);
    let units = elements.units::<U>(at, bytes.len());
    for (bytes, unit) in bytes.chunks_exact(size_of::<U>()).zip(units) {
        U::store(unit, U::of(bytes), Ordering::Relaxed);
    }
}

#[inline]
fn exchange<U: Unit>(elements: &Elements, at: usize, expected: &mut [u8], new: &[u8]) -> bool {
    let unit = &elements.units::<U>(at, new.len())[0];
    U::exchange(unit, U::of(expected), U::of(new)).map_err(|seen| seen.put(expected)).is_ok()
}

#[inline]
fn add<U: Unit>(elements: &Elements, at: usize, value: &mut [u8]) {
    let unit = &elements.units::<U>(at, value.len())[0];
    U::add(unit, U::of(value)).put(value);
}

/// A whole number with an atomic of its size.
trait Unit: Copy + 'static {
    type Atomic: 'static;

    fn of(bytes: &[u8]) -> Self;
    fn put(self, bytes: &mut [u8]);
    fn load(atomic: &Self::Atomic, ordering: Ordering) -> Self;
    fn store(atomic: &Self::Atomic, value: Self, ordering: Ordering);
    fn exchange(atomic: &Self::Atomic, expected: Self, new: Self) -> Result<Self, Self>;
    fn add(atomic: &Self::Atomic, value: Self) -> Self;
}

macro_rules! units {
    ($($unit:ty: $atomic:ty),*) => { $(
        impl Unit for $unit {
            type Atomic = $atomic;

            #[inline]
            fn of(bytes: &[u8]) -> Self {
                <$unit>::from_ne_bytes(bytes.try_into().expect("a unit's bytes"))
            }

            #[inline]
            fn put(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }

            #[inline]
            fn load(atomic: &$atomic, ordering: Ordering) -> Self {
                atomic.load(ordering)
            }

            #[inline]
            fn store(atomic: &$atomic, value: Self, ordering: Ordering) {
                atomic.store(value, ordering);
            }

            #[inline]
            fn exchange(atomic: &$atomic, expected: Self, new: Self) -> Result<Self, Self> {
                atomic.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire)
            }

            #[inline]
            fn add(atomic: &$atomic, value: Self) -> Self {
                atomic.fetch_add(value, Ordering::AcqRel)
            }
        }
    )* };
}

units! { u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_size_come_back() {
        for size in 1..=20 {
            let elements = Elements::create(5, size).unwrap();
            assert_eq!(elements.len(), 5);
            let all: Vec<u8> = (0..5 * size).map(|i| i as u8 + 1).collect();
            elements.store(0, &all);
            elements.store(3, &vec![0xaa; size]);
            let mut back = vec![0; 5 * size];
            elements.load(0, &mut back);
            assert_eq!(back[..3 * size], all[..3 * size], "of {size} bytes");
            assert!(back[3 * size..4 * size].iter().all(|byte| *byte == 0xaa));
            let mut last = vec![0; size];
            elements.load(4, &mut last);
            assert_eq!(last, all[4 * size..], "of {size} bytes");
        }
    }

    #[test]
    fn single_units_are_exchanged_and_added_to() {
        for size in [1, 2, 4, 8] {
            let elements = Elements::create(2, size).unwrap();
            let (mut zero, five) = (vec![0; size], [[5].as_slice(), &vec![0; size - 1]].concat());
            assert!(elements.compare_exchange(1, &mut zero, &five));
            assert!(!elements.compare_exchange(1, &mut zero, &five) && zero == five, "it says what is there");
            let mut minus_one = vec![0xff; size];
            elements.fetch_add(1, &mut minus_one);
            assert_eq!(minus_one, five, "what it was");
            let mut now = vec![0; size];
            elements.load(1, &mut now);
            assert_eq!(now[0], 4);
            elements.load(0, &mut now);
            assert!(now.iter().all(|byte| *byte == 0), "its neighbour is untouched");
        }
    }

    #[test]
    fn too_much_is_refused() {
        let refused = |act: fn(&Elements)| {
            let elements = Elements::create(4, 12).unwrap();
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&elements))).is_err());
        };
        refused(|elements| elements.load(4, &mut [0; 12]));
        refused(|elements| elements.load(usize::MAX, &mut [0; 12]));
        refused(|elements| elements.store(0, &[0; 13]));
        refused(|elements| assert!(elements.compare_exchange(0, &mut [0; 12], &[0; 12])));
        let file = || Elements::create(4, 12).unwrap().as_fd().try_clone_to_owned().unwrap();
        assert!(Elements::attach(file(), 5).is_err() && Elements::attach(file(), 0).is_err());
        assert_eq!(Elements::attach(file(), 6).unwrap().len(), 8);
        assert!(Elements::create(usize::MAX, 2).is_err() && Elements::create(0, 2).is_err());
    }
}
