//! The image that is running, and the name of a function of it by which another process with the
//! same image finds it. Used in the parent when a function is sent, and in the child when it is
//! called, in any thread.
//!
//! # Why an offset names a function
//!
//! The *image* is the ELF object that this code is linked into: the program itself, or an extension
//! module that a program loaded. The kernel or the loader puts an object at a random base, but
//! moves it as a whole. A byte that the linker placed `n` bytes from the base is `n` bytes from the
//! base in every process that runs the same file. So an [`Entry`] is a function's distance from the
//! base, and it is the same function wherever the [`BuildId`] is the same. A child proves that with
//! [`BuildId::same_image`] before it may [`resolve`](Entry::resolve) anything.
//!
//! A raw entry carries a checksum, keyed by the build id, next to the offset. A number that no
//! [`Entry::of`] of the same build produced (a damaged message, a message of another build)
//! therefore resolves to nothing instead of to the middle of some function.
//!
//! A function of [another object](crate::other_objects) is named in the same way. The checksum is
//! keyed by that object's build id, and so says which of the loaded objects it is.

// A checked offset becomes a function; a zero-sized function value is made from its type.
#![allow(unsafe_code)]

use std::any::TypeId;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

use crate::imp::object::{self, Object};
use crate::other_objects;
use crate::per_process::PerProcess;

/// Identifies the bytes of an image by its GNU build id. An image that was linked without one is
/// identified by its file's device, inode, size and time of change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildId(Vec<u8>);

impl BuildId {
    /// Returns the running image's id. If nothing identifies the image, the id is empty, and never
    /// [the same image](Self::same_image).
    pub fn current() -> &'static BuildId {
        &Image::running().build_id
    }

    /// Returns the bytes, for sending.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes an id of the bytes that [`as_bytes`](Self::as_bytes) returned.
    pub fn from_bytes(bytes: &[u8]) -> BuildId {
        BuildId(bytes.to_vec())
    }

    /// Returns a proof that this is the running image's id, if it is.
    pub fn same_image(&self) -> Option<SameImage> {
        (!self.0.is_empty() && self == BuildId::current()).then_some(SameImage(1))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("unknown");
        }
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Returns the file of the running image.
///
/// # Errors
///
/// `NotFound` if it has been replaced or removed since it was loaded; if `/proc` cannot be read.
pub fn file() -> io::Result<PathBuf> {
    object::file_of(Image::find as fn() -> Image as usize)
}

/// Proof that a peer runs the same image as this process.
// Not zero-sized, so that `Stateless` cannot conjure one.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub struct SameImage(u8);

/// A function that can be called in another process. It gets the argument's bytes, appends the
/// result's bytes, and returns a tag that says what the result is.
pub type EntryFn = fn(&[u8], &mut Vec<u8>) -> u32;

/// A pointer to a function that an [`Entry`] can name.
///
/// # Safety
///
/// The type is a pointer to a function, and `from_address` returns the pointer whose `address` it
/// was.
pub unsafe trait EntryPointer: Copy + 'static {
    /// Returns where the function's code begins.
    fn address(self) -> usize;

    /// Returns the pointer to the function of this type whose code begins there.
    ///
    /// # Safety
    ///
    /// The code of a function of this type begins there.
    unsafe fn from_address(address: usize) -> Self;
}

// SAFETY: both are conversions between a pointer to a function and its address.
unsafe impl EntryPointer for EntryFn {
    fn address(self) -> usize {
        self as usize
    }

    unsafe fn from_address(address: usize) -> EntryFn {
        // SAFETY: the caller's promise.
        unsafe { std::mem::transmute::<*const (), EntryFn>(address as *const ()) }
    }
}

// SAFETY: both are conversions between a pointer to a function and its address.
unsafe impl<A: 'static> EntryPointer for fn(&mut A) {
    fn address(self) -> usize {
        self as usize
    }

    unsafe fn from_address(address: usize) -> fn(&mut A) {
        // SAFETY: the caller's promise.
        unsafe { std::mem::transmute::<*const (), fn(&mut A)>(address as *const ()) }
    }
}

/// The name of a function that every process running the same image understands.
pub struct Entry<F = EntryFn>(u64, PhantomData<F>);

impl<F: EntryPointer> Entry<F> {
    // A checksum is never 0 (see `checksum`), so no portable entry is 0.
    const ELSEWHERE: Entry<F> = Entry(0, PhantomData);

    /// Names a function.
    pub fn of(function: F) -> Entry<F> {
        let image = Image::running();
        let address = function.address();
        if image.code.contains(&address) {
            Entry::at(address, image.base, image.seed)
        } else {
            Entry::elsewhere(address)
        }
    }

    fn at(address: usize, base: usize, seed: u64) -> Entry<F> {
        match u32::try_from(address - base) {
            Ok(offset) => {
                let check = checksum(offset, kind::<F>(seed));
                Entry(u64::from(check) << 32 | u64::from(offset), PhantomData)
            }
            Err(_) => Entry::ELSEWHERE,
        }
    }

    #[cold]
    fn elsewhere(address: usize) -> Entry<F> {
        match other_objects::naming(address) {
            Some(object) => Entry::at(address, object.base, seed_of(&object.build_id)),
            None => Entry::ELSEWHERE,
        }
    }

    /// Returns whether another process can find the function: it lies in an object that has a build
    /// id, or a file that tells it from others.
    pub fn is_portable(self) -> bool {
        self != Entry::ELSEWHERE
    }

    /// Returns the number, for sending.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// Makes an entry of the number that [`to_raw`](Self::to_raw) returned.
    pub fn from_raw(raw: u64) -> Entry<F> {
        Entry(raw, PhantomData)
    }

    /// Returns the function. Returns `None` if this is not the name of a function of this type, in
    /// an object that is loaded here: the number was damaged, or is not
    /// [portable](Self::is_portable).
    pub fn resolve(self, _proof: SameImage) -> Option<F> {
        let image = Image::running();
        self.resolve_in(image.base, &image.code, image.seed).or_else(|| self.resolve_elsewhere())
    }

    #[cold]
    fn resolve_elsewhere(self) -> Option<F> {
        let is_known = |object: &Object| !object.build_id.is_empty();
        let loaded = object::loaded().into_iter().filter(is_known);
        loaded
            .map(|object| self.resolve_in(object.base, &object.code, seed_of(&object.build_id)))
            .find_map(|found| found)
    }

    fn resolve_in(self, base: usize, code: &Range<usize>, seed: u64) -> Option<F> {
        let (check, offset) = ((self.0 >> 32) as u32, self.0 as u32);
        let address = base.checked_add(offset as usize)?;
        if check != checksum(offset, kind::<F>(seed)) || !code.contains(&address) {
            return None;
        }
        // SAFETY: the proof says that the process which made the entry ran this image. The checksum
        // says that `Entry::of` made it there, from an `F` at this offset of this object's code,
        // since nothing else computes one: it is keyed by the object and by the type `F`. An object
        // is moved as a whole, so here too the code of that function, of that type, begins at this
        // address. The image stays, because this very function is part of it. Another object stays
        // because it is linked into the program, or was loaded for its functions by
        // `other_objects`; a program that unloads an object vouches that nobody uses a function of
        // it. A process that forges a checksum on purpose already runs code in this process or
        // holds its private link.
        Some(unsafe { F::from_address(address) })
    }
}

// Written by hand, because a derive would demand the same of `F`.
impl<F> Clone for Entry<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Entry<F> {}

impl<F> PartialEq for Entry<F> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<F> Eq for Entry<F> {}

impl<F> fmt::Debug for Entry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.0).finish()
    }
}

/// Returns the key of the names of functions of one type. A type's id is the same in every process
/// of the image.
fn kind<F: 'static>(seed: u64) -> u64 {
    struct Mixer(u64);
    impl Hasher for Mixer {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 = fnv_1a(self.0, bytes);
        }

        fn write_u64(&mut self, word: u64) {
            self.0 = mix(self.0, word);
        }
    }
    let mut hasher = Mixer(seed);
    TypeId::of::<F>().hash(&mut hasher);
    hasher.finish()
}

/// Returns the key of the names of functions of the object with this build id.
fn seed_of(build_id: &[u8]) -> u64 {
    fnv_1a(0xcbf2_9ce4_8422_2325, build_id)
}

/// The seed and the offset, mixed and folded to 32 bits with the lowest set.
fn checksum(offset: u32, seed: u64) -> u32 {
    let hash = mix(seed, offset.into());
    (hash >> 32) as u32 ^ hash as u32 | 1
}

/// Mixes a word into a seed: MurmurHash3's finalizer, a few cycles where a hash by bytes takes
/// dozens. For two words of one seed the results differ.
fn mix(seed: u64, word: u64) -> u64 {
    let mut hash = seed ^ word;
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

fn fnv_1a(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A function value that is nothing but its type: a `fn` item, or a closure that captures nothing.
///
/// Such a value has no bytes, so the type alone, compiled into both processes, carries it across.
///
/// ```
/// use procession_sys::image::Stateless;
///
/// fn call<F: Fn(u32) -> u32 + Copy + 'static>(f: F) -> u32 {
///     let _checked = Stateless::of(f);
///     Stateless::<F>::conjure()(20) // may as well happen in another process
/// }
/// assert_eq!(call(|x| x + 1), 21);
/// ```
///
/// A function value that has bytes does not compile:
///
/// ```compile_fail,E0080
/// use procession_sys::image::Stateless;
///
/// let captured = std::hint::black_box(7);
/// let _ = Stateless::of(move || captured);
/// ```
///
/// ```compile_fail,E0080
/// use procession_sys::image::Stateless;
///
/// let _ = Stateless::of(std::process::id as fn() -> u32);
/// ```
pub struct Stateless<F>(PhantomData<fn() -> F>);

impl<F: Copy + 'static> Stateless<F> {
    const HAS_NO_BYTES: () = assert!(
        size_of::<F>() == 0,
        "this function captures a value (or is a `fn` pointer): give the value as the state of `map_with`, or as an argument"
    );

    /// Takes a function value as the proof that its type has one. It does not compile if the value
    /// has bytes.
    pub fn of(_proof: F) -> Self {
        const { Self::HAS_NO_BYTES };
        Stateless(PhantomData)
    }

    /// Makes the function value from its type. Call it for a type of which [`of`](Self::of) has
    /// seen a value, here or in the process that sends the call.
    pub fn conjure() -> F {
        const { Self::HAS_NO_BYTES };
        // SAFETY: `F` has no bytes, so a read of it from any aligned non-null address touches no
        // memory and yields its only value. `F: Copy` says that one value may become as many as one
        // likes and that none of them is dropped. The caller of `of` had one.
        unsafe { std::ptr::NonNull::<F>::dangling().read() }
    }
}

impl<F> fmt::Debug for Stateless<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stateless<{}>", std::any::type_name::<F>())
    }
}

struct Image {
    base: usize,
    code: Range<usize>,
    build_id: BuildId,
    /// The build id's hash, computed once: an entry is named for every task.
    seed: u64,
}

impl Image {
    /// Looks the image up once per process. It does not change; it is in a `PerProcess` only
    /// because no lock may stand between it and a fork.
    fn running() -> &'static Image {
        static RUNNING: PerProcess<Image> = PerProcess::new(Image::find);
        RUNNING.get()
    }

    fn find() -> Image {
        let here = Image::find as fn() -> Image as usize;
        let (base, code, build_id) = match object::containing(here) {
            Some(object) => (object.base, object.code, object.build_id),
            None => (0, 0..0, Vec::new()),
        };
        let seed = seed_of(&build_id);
        Image { base, code, build_id: BuildId(build_id), seed }
    }
}

#[cfg(all(test, not(procession_unsupported)))]
mod tests {
    use super::*;

    fn length(argument: &[u8], result: &mut Vec<u8>) -> u32 {
        result.extend_from_slice(b"length");
        argument.len() as u32
    }

    fn proof() -> SameImage {
        let sent = BuildId::from_bytes(BuildId::current().as_bytes());
        sent.same_image().expect("the running image is itself")
    }

    #[test]
    fn an_entry_names_its_function() {
        let entry = Entry::of(length as EntryFn);
        assert!(entry.is_portable());
        let resolved = Entry::<EntryFn>::from_raw(entry.to_raw()).resolve(proof()).expect("it was made here");
        let mut result = Vec::new();
        assert_eq!((resolved(b"four", &mut result), result.as_slice()), (4, &b"length"[..]));
    }

    #[test]
    fn an_entry_names_a_function_of_its_type_only() {
        fn increment(number: &mut u32) {
            *number += 1;
        }
        let entry = Entry::of(increment as fn(&mut u32));
        let mut number = 1;
        entry.resolve(proof()).expect("it was made here")(&mut number);
        assert_eq!(number, 2);
        assert!(Entry::<EntryFn>::from_raw(entry.to_raw()).resolve(proof()).is_none());
        assert!(Entry::<fn(&mut u64)>::from_raw(entry.to_raw()).resolve(proof()).is_none());
    }

    #[test]
    fn a_damaged_entry_names_nothing() {
        let raw = Entry::of(length as EntryFn).to_raw();
        for bit in 0..64 {
            assert!(Entry::<EntryFn>::from_raw(raw ^ 1 << bit).resolve(proof()).is_none(), "bit {bit}");
        }
        assert!(
            Entry::<EntryFn>::from_raw(0).resolve(proof()).is_none() && !Entry::<EntryFn>::from_raw(0).is_portable()
        );
    }

    #[test]
    fn a_function_of_another_object_is_named_with_its_object() {
        // The address of a C library function. The test asks only where it lies, and never calls
        // it. SAFETY: the pointer is non-null and, as stated, not called through this type.
        let elsewhere = unsafe { std::mem::transmute::<*const (), EntryFn>(libc::getpid as *const ()) };
        let entry = Entry::of(elsewhere);
        assert!(entry.is_portable());
        let resolved = Entry::<EntryFn>::from_raw(entry.to_raw()).resolve(proof()).expect("it was made here");
        assert_eq!(resolved as usize, libc::getpid as *const () as usize);
        assert!(Entry::<fn(&mut u32)>::from_raw(entry.to_raw()).resolve(proof()).is_none());
        let named = other_objects::named();
        assert!(named.iter().any(|other| other.path.to_str().unwrap().contains("libc")), "{named:?}");
        other_objects::load(&named).unwrap();
    }

    #[test]
    fn an_address_in_no_object_is_not_portable() {
        // SAFETY: the pointer is non-null, and never called.
        let nowhere = unsafe { std::mem::transmute::<usize, EntryFn>(16) };
        assert!(!Entry::of(nowhere).is_portable());
    }

    #[test]
    fn an_object_that_cannot_be_loaded_is_named() {
        let other = other_objects::Other { build_id: vec![1], path: "/no/such/object.so".into() };
        let error = other_objects::load(&[other]).unwrap_err().to_string();
        assert!(error.contains("cannot load /no/such/object.so"), "{error}");
    }

    #[test]
    fn another_build_is_not_the_same_image() {
        let mut other = BuildId::current().as_bytes().to_vec();
        other[0] ^= 1;
        assert!(BuildId::from_bytes(&other).same_image().is_none());
        assert!(BuildId::from_bytes(&[]).same_image().is_none());
    }

    #[test]
    fn a_build_id_shows_eight_bytes() {
        assert_eq!(BuildId::from_bytes(&[0xab, 0x01, 2, 3, 4, 5, 6, 7, 8]).to_string(), "ab01020304050607");
        assert_eq!(BuildId::from_bytes(&[]).to_string(), "unknown");
    }
}
