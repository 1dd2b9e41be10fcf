//! Memory of the users' own: bytes that any process reads and writes at any time. Used in any
//! process that has it mapped, from any thread.
//!
//! A `&[u8]` promises that nobody changes its bytes, and here others may do so at any moment. So
//! every safe access is atomic. The memory is seen as words of 8 bytes: a part of a word is read
//! out of the whole word, and written by exchanging the whole word. All accesses to one place have
//! one size, because the language does not define atomics of different sizes that race. Copying is
//! as quick as in any other way, and a word is never torn.
//!
//! [`RawMemory`] has pointers and slices for callers that can vouch for all other processes.

#![allow(unsafe_code, reason = "makes references to atomics in a mapping; what cannot be checked is unsafe to call")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
};

use procession_sys::memfd;

use crate::segment::Mapping;

const WORD: usize = size_of::<u64>();

/// See the module.
#[derive(Debug)]
pub struct Memory(Mapping);

impl Memory {
    /// Makes memory of `size` zero bytes, which take memory when they are first touched.
    ///
    /// # Errors
    ///
    /// For a size of 0; if the system refuses.
    pub fn create(size: usize) -> io::Result<Memory> {
        Memory::of_file(memfd::create("procession-memory", size as u64)?, size)
    }

    /// Maps memory that another process created. Its size is sealed.
    ///
    /// # Errors
    ///
    /// If the file is not such memory, or the system refuses.
    pub fn attach(fd: OwnedFd) -> io::Result<Memory> {
        let size = usize::try_from(memfd::sealed_len(fd.as_fd())?).map_err(io::Error::other)?;
        Memory::of_file(fd, size)
    }

    /// Maps a file of this size. Any process that may write the file may also cut it: an access to
    /// the part that was cut off ends this process by SIGBUS.
    ///
    /// # Errors
    ///
    /// For a size of 0; if the system refuses.
    pub fn of_file(fd: OwnedFd, size: usize) -> io::Result<Memory> {
        Mapping::of(fd, size).map(Memory)
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Copies the bytes at `offset` into `out`.
    ///
    /// # Panics
    ///
    /// If they are not inside.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        self.check(offset, out.len());
        let skip = offset % WORD;
        let (first, rest) = out.split_at_mut(((WORD - skip) % WORD).min(out.len()));
        let mut words = self.grid()[offset / WORD..].iter();
        if !first.is_empty()
            && let Some(word) = words.next()
        {
            first.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[skip..][..first.len()]);
        }
        let (whole, last) = rest.as_chunks_mut::<WORD>();
        for (bytes, word) in whole.iter_mut().zip(words.by_ref()) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if !last.is_empty()
            && let Some(word) = words.next()
        {
            last.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[..last.len()]);
        }
        fence(Ordering::Acquire);
    }

    /// Copies bytes to `offset`.
    ///
    /// # Panics
    ///
    /// As [`read`](Memory::read).
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        fence(Ordering::Release);
        let skip = offset % WORD;
        let (first, rest) = bytes.split_at(((WORD - skip) % WORD).min(bytes.len()));
        let mut words = self.grid()[offset / WORD..].iter();
        if !first.is_empty()
            && let Some(word) = words.next()
        {
            replace(word, skip, first);
        }
        let (whole, last) = rest.as_chunks::<WORD>();
        for (bytes, word) in whole.iter().zip(words.by_ref()) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if !last.is_empty()
            && let Some(word) = words.next()
        {
            replace(word, 0, last);
        }
    }

    /// Returns the memory as words. If the size is no multiple of 8, the last bytes are not among
    /// them.
    pub fn words(&self) -> &[AtomicU64] {
        &self.grid()[..self.size() / WORD]
    }

    /// Returns accesses for which only the caller can vouch.
    pub fn raw(&self) -> RawMemory<'_> {
        RawMemory(self)
    }

    /// The words that cover the memory. The last may go beyond its size.
    fn grid(&self) -> &[AtomicU64] {
        // SAFETY: the mapping begins at a page and is there to the end of its last page, so these
        // words lie inside and aligned, for as long as `self`. Any bytes are a word. In this
        // process only these atomics reach the memory, except for accesses that `RawMemory`'s
        // callers vouch for. To the language, other processes and mappings are what the hardware
        // is.
        unsafe { std::slice::from_raw_parts(self.0.base().as_ptr().cast(), self.size().div_ceil(WORD)) }
    }

    fn check(&self, offset: usize, len: usize) {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size());
        assert!(inside, "{len} bytes at {offset} are outside of memory of {} bytes", self.size());
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Exchanges the bytes of a word from `skip` on, and no other of its bytes.
fn replace(word: &AtomicU64, skip: usize, bytes: &[u8]) {
    let with = |word: u64| {
        let mut whole = word.to_ne_bytes();
        whole[skip..][..bytes.len()].copy_from_slice(bytes);
        u64::from_ne_bytes(whole)
    };
    let mut seen = word.load(Ordering::Relaxed);
    while let Err(now) = word.compare_exchange_weak(seen, with(seen), Ordering::Relaxed, Ordering::Relaxed) {
        seen = now;
    }
}

/// Shared memory as C has it: for foreign functions, and for callers that know what every other
/// process does with it.
#[derive(Clone, Copy, Debug)]
pub struct RawMemory<'a>(&'a Memory);

impl<'a> RawMemory<'a> {
    /// Returns the address of the first byte in this process, which is at the start of a page.
    /// Other processes have other addresses. It stays valid until the memory is dropped.
    pub fn as_ptr(self) -> *mut u8 {
        self.0.0.base().as_ptr()
    }

    /// Returns the bytes in place.
    ///
    /// # Safety
    ///
    /// As long as the slice lives nobody writes the memory: no thread of this process and no other
    /// process. If the memory has a name, nobody cuts its file either.
    pub unsafe fn as_slice(self) -> &'a [u8] {
        // SAFETY: the mapping is there for 'a and has the size; by the caller's contract nobody
        // writes it.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.0.size()) }
    }

    /// Returns the bytes in place, to change.
    ///
    /// # Safety
    ///
    /// As long as the slice lives nobody else reads or writes the memory, by another slice, thread
    /// or process. If the memory has a name, nobody cuts its file either.
    pub unsafe fn as_mut_slice(self) -> &'a mut [u8] {
        // SAFETY: as above; by the caller's contract it is the only way to the memory.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.0.size()) }
    }

    /// Returns the atomic at `offset`; `None` if it would not be inside, or not aligned.
    ///
    /// [`words`](Memory::words) needs no `unsafe`.
    ///
    /// # Safety
    ///
    /// No thread of this process accesses its bytes at the same time by an access of another size,
    /// as `read`, `write` and `words` do, or by one that is not atomic.
    pub unsafe fn at<A: Atomic>(self, offset: usize) -> Option<&'a A> {
        let inside = offset.checked_add(size_of::<A>()).is_some_and(|end| end <= self.0.size());
        if !inside || !offset.is_multiple_of(align_of::<A>()) {
            return None;
        }
        // SAFETY: it is inside the mapping and aligned, since the mapping begins at a page. Any
        // bytes are an `Atomic`. The caller's contract excludes accesses that the language does not
        // define.
        Some(unsafe { &*self.as_ptr().add(offset).cast::<A>() })
    }
}

/// The atomic integers, for which any bytes are valid.
///
/// # Safety
///
/// Any bytes of its size are a value, and it is changed through `&` by atomic instructions alone.
pub unsafe trait Atomic: sealed::Sealed + Sync + 'static {}

mod sealed {
    /// Only types of this file implement it.
    pub trait Sealed {}
}

macro_rules! atomics {
    ($($atomic:ty)*) => { $(
        impl sealed::Sealed for $atomic {}
        // SAFETY: an atomic integer has the size and the values of the integer.
        unsafe impl Atomic for $atomic {}
    )* };
}

atomics! { AtomicI8 AtomicU8 AtomicI16 AtomicU16 AtomicI32 AtomicU32 AtomicI64 AtomicU64 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_every_offset_and_touch_no_others() {
        const SIZE: usize = 43;
        let memory = Memory::create(SIZE).unwrap();
        let mut model = [0; SIZE];
        for offset in 0..SIZE {
            for len in 0..=SIZE - offset {
                let bytes: Vec<u8> = (0..len).map(|i| (offset * 7 + len * 31 + i) as u8).collect();
                memory.write(offset, &bytes);
                model[offset..offset + len].copy_from_slice(&bytes);
                let mut all = [0xff; SIZE];
                memory.read(0, &mut all);
                assert_eq!(all, model, "{len} bytes at {offset}");
                let mut some = vec![0xff; len];
                memory.read(offset, &mut some);
                assert_eq!(some, bytes, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn range_outside_of_the_memory_is_refused() {
        let memory = Memory::create(10).unwrap();
        for (offset, len) in [(0, 11), (10, 1), (11, 0), (usize::MAX, 1)] {
            let outside = std::panic::catch_unwind(|| memory.read(offset, &mut vec![0; len]));
            assert!(outside.is_err(), "{len} bytes at {offset}");
        }
        memory.read(10, &mut []);
        assert_eq!(memory.words().len(), 1, "whole words only");
        assert!(Memory::create(0).is_err());
    }

    #[test]
    fn neighbours_in_a_word_do_not_lose_each_others_bytes() {
        const ROUNDS: u32 = 20_000;
        let memory = Memory::create(8).unwrap();
        std::thread::scope(|scope| {
            for place in [0, 4] {
                let memory = &memory;
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        memory.write(place, &round.to_ne_bytes());
                        let mut seen = [0; 4];
                        memory.read(place, &mut seen);
                        assert_eq!(u32::from_ne_bytes(seen), round);
                    }
                });
            }
        });
    }

    #[test]
    fn the_raw_view_is_the_same_memory() {
        let memory = Memory::create(16).unwrap();
        memory.words()[1].store(5, Ordering::Relaxed);
        // SAFETY: this thread alone has the memory, and uses one view at a time.
        unsafe {
            assert_eq!(memory.raw().at::<AtomicU64>(8).unwrap().fetch_add(1, Ordering::Relaxed), 5);
            assert!(memory.raw().at::<AtomicU64>(12).is_none() && memory.raw().at::<AtomicU8>(16).is_none());
            memory.raw().as_mut_slice()[0] = 9;
            assert_eq!((memory.raw().as_slice()[0], memory.raw().as_slice()[8]), (9, 6));
        }
    }
}
