//! The moment before `main`: a constructor, in which a child that was executed begins its work.
//! Called by the C library in every process of a program, in its only thread, or by whichever
//! thread loads a shared object.
//!
//! # Where a child begins
//!
//! The C library calls the functions of the program's table of constructors (`.init_array`) one by
//! one, those of its shared objects before them, and `main` after them. [`before_main!`] puts one
//! function into the table, at a place that the linker chooses. In a child that function first
//! calls those that stand behind its own in the table, as the C library would have done once it had
//! returned. Then it runs the child, and never returns. So a child begins with each constructor run
//! once, and stands where `main` would have been called: a C++ object or a `ctor` of another crate
//! is ready, wherever the linker has put it.
//!
//! The table is found by the program headers (`DT_INIT_ARRAY`), which every loader reads. A static
//! program that is not position-independent has none. There a child begins before the constructors
//! that stand behind this one.
//!
//! # In a shared object
//!
//! A library may bring the function into a program that knows nothing of children: an extension
//! module of Python, say. Its parent executes a program with the library preloaded
//! ([`Spawn::preload`](super::spawn::Spawn::preload)). The loader calls the constructors of a
//! preloaded object after those of the objects that it needs, and before those of the program. It
//! holds no lock while it does, since there is no other thread. So a child begins there, and the
//! program's own code is never reached.
//!
//! A shared object that is loaded in any other way begins no child, also not in a process that is
//! one: the loader holds its lock until the constructors have returned.
//!
//! [`before_main!`]: crate::before_main

#![allow(unsafe_code)] // A constructor is called by C, and reads tables of the loader's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;

use super::{preload, runtime};

/// A function of the program's table of constructors, as the C library calls it: with the
/// arguments and the environment of the program.
pub type ConstructorFn = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// A slot in the table of constructors. Made by [`before_main!`](crate::before_main) only.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(#[allow(dead_code, reason = "the C library reads it")] ConstructorFn);

impl Slot {
    /// Makes a slot for this function.
    pub const fn new(function: ConstructorFn) -> Slot {
        Slot(function)
    }
}

/// The place of a constructor, which says when it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the program.
    Program,
    /// In a shared object that the parent has had preloaded.
    Preloaded,
    /// In a shared object that is loaded by the program, or because the program needs it.
    Loaded,
}

/// A function that a constructor calls, with the first argument of the program and the
/// constructor's own place. In a child it returns the function that the process runs instead of
/// going on.
pub type BeforeFn = fn(&CStr, Place) -> Option<fn() -> !>;

/// Puts a function, a [`BeforeFn`](crate::startup::BeforeFn), into the table of constructors of
/// the program or shared object that it is linked into: `before_main!(SLOT: function)`.
///
/// The macro expands to a static of the name `SLOT`. The linker keeps it in a program or a `cdylib`
/// if anything of its crate is used. In a static library it is kept if its module is.
#[macro_export]
macro_rules! before_main {
    ($slot:ident: $function:path) => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static $slot: $crate::startup::Slot = {
            unsafe extern "C" fn constructor_of_procession(
                count: ::std::ffi::c_int,
                arguments: *const *const ::std::ffi::c_char,
                environment: *const *const ::std::ffi::c_char,
            ) {
                // SAFETY: the C library calls this function, because it stands in that table, and
                // passes on what it was called with.
                unsafe { $crate::startup::enter(&$slot, count, arguments, environment, $function) }
            }
            $crate::startup::Slot::new(constructor_of_procession)
        };
    };
}

/// The constructor.
///
/// # Safety
///
/// Called by the C library from the slot in a table of constructors, with the arguments that it
/// passes to each.
#[doc(hidden)]
pub unsafe fn enter(
    slot: &'static Slot,
    count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    before: BeforeFn,
) {
    if count < 1 || arguments.is_null() {
        return;
    }
    // SAFETY: the caller's promise: an array of at least one string, which lives as long as the
    // process.
    let first = unsafe { CStr::from_ptr(*arguments) };
    let Some(Found { place, later }) = find(slot) else { return };
    let Some(child) = before(first, place) else { return };
    if place == Place::Preloaded {
        preload::forget();
    }
    runtime::set_up();
    for constructor in later.iter().copied() {
        // Linkers of old bounded the table by these two.
        if constructor == 0 || constructor == usize::MAX {
            continue;
        }
        // SAFETY: the table holds functions of this type, and the C library, which has called those
        // in front of them, would call these next with the same arguments. It never will, because
        // this function does not return.
        unsafe {
            let constructor = std::mem::transmute::<usize, ConstructorFn>(constructor);
            constructor(count, arguments, environment);
        }
    }
    child()
}

/// The place of a slot, and the constructors behind it.
struct Found {
    place: Place,
    /// The constructors that stand behind it in its table.
    later: &'static [usize],
}

/// Looks for the object whose table of constructors holds the slot.
fn find(slot: &'static Slot) -> Option<Found> {
    let mut search = Search { slot: std::ptr::from_ref(slot) as usize, is_program: true, found: None };
    // SAFETY: `visit` gets `search` back as its data, and only during this call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found
}

struct Search {
    slot: usize,
    /// True if the object that is looked at is the program: the loader shows it first.
    is_program: bool,
    found: Option<Found>,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid description, and `data` is the `Search` that `find` gave
    // it.
    let (info, search) = unsafe { (&*info, &mut *data.cast::<Search>()) };
    let is_program = std::mem::take(&mut search.is_program);
    // SAFETY: the loader keeps an object's program headers mapped as long as the object, and states
    // their number.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let base = info.dlpi_addr as usize;
    let end = match headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) {
        Some(dynamic) => {
            // SAFETY: a PT_DYNAMIC segment lies within a loaded one, for the object's life.
            let table = unsafe { constructors((base + dynamic.p_vaddr as usize) as *const Dynamic, base) };
            if !table.contains(&search.slot) {
                return 0;
            }
            table.end
        }
        // A program that was not made for a loader is one piece, of which this is part. It does not
        // say where its table ends.
        None if is_program => search.slot + size_of::<usize>(),
        None => return 0,
    };
    // SAFETY: the loader names each object by a C string.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) };
    let place = match is_program {
        true => Place::Program,
        false if preload::is_of(name) => Place::Preloaded,
        false => Place::Loaded,
    };
    let first = search.slot + size_of::<usize>();
    // SAFETY: the range lies in the table of constructors, which the linker has made of pointers,
    // and the loader has relocated before it called the first. Nothing writes to it any more.
    let later = unsafe { std::slice::from_raw_parts(first as *const usize, (end - first) / size_of::<usize>()) };
    search.found = Some(Found { place, later });
    1
}

/// An entry of the dynamic section.
#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

/// Returns where the object's table of constructors lies; an empty range if it has none.
///
/// # Safety
///
/// `entry` is the beginning of the dynamic section of the object with this base.
unsafe fn constructors(mut entry: *const Dynamic, base: usize) -> Range<usize> {
    const DT_NULL: i64 = 0;
    const DT_INIT_ARRAY: i64 = 25;
    const DT_INIT_ARRAYSZ: i64 = 27;
    let (mut start, mut bytes) = (0, 0);
    loop {
        // SAFETY: the section ends with an entry of tag DT_NULL, at which the loop ends.
        let Dynamic { tag, value } = unsafe { entry.read() };
        match tag {
            DT_NULL => return start..start + bytes,
            // An address in the file, which the loader leaves as it is.
            DT_INIT_ARRAY => start = base + value as usize,
            DT_INIT_ARRAYSZ => bytes = value as usize,
            _ => {}
        }
        // SAFETY: that entry was not the last.
        entry = unsafe { entry.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_outside_of_all_tables_is_not_found() {
        unsafe extern "C" fn nothing(_: c_int, _: *const *const c_char, _: *const *const c_char) {}
        static IN_NO_TABLE: Slot = Slot::new(nothing);
        assert!(find(&IN_NO_TABLE).is_none());
    }
}
