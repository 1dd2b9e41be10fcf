//! Finds the loaded ELF object that holds an address, its code and its GNU build id. Called by
//! [`crate::image`], once per process for the image itself, and by [`crate::other_objects`].

#![allow(unsafe_code)] // dl_iterate_phdr hands out raw program headers.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A program or shared object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    /// The number that the loader added to every address in the file.
    pub(crate) base: usize,
    /// The executable segment that holds the address.
    pub(crate) code: Range<usize>,
    /// The note's bytes; without a note, numbers that identify the file.
    pub(crate) build_id: Vec<u8>,
    /// As the loader knows it; empty for the program itself.
    pub(crate) path: PathBuf,
}

/// Returns the object whose executable segment holds the address.
pub(crate) fn containing(address: usize) -> Option<Object> {
    let mut search = Search { address, found: None };
    // SAFETY: `visit` gets `search` back as its data, and only during this call. No object can be
    // unloaded meanwhile, because the loader's lock is held.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.found.map(Found::into_object)
}

/// Returns every object that is loaded, once for each of its executable segments.
pub(crate) fn loaded() -> Vec<Object> {
    let mut found: Vec<Found> = Vec::new();
    // SAFETY: as in `containing`.
    unsafe { libc::dl_iterate_phdr(Some(list), (&raw mut found).cast()) };
    found.into_iter().map(Found::into_object).collect()
}

/// Loads the object of this path, for the life of the process.
pub(crate) fn load(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the parent has this object loaded, and had its constructors run, as the loader does
    // here. dlerror describes the last error of this thread, as a string that lives until the next
    // call.
    unsafe {
        if libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL).is_null() {
            let why = libc::dlerror();
            let why = if why.is_null() { c"unknown error" } else { CStr::from_ptr(why) };
            return Err(io::Error::other(format!("cannot load {}: {}", path.display(), why.to_string_lossy())));
        }
    }
    Ok(())
}

/// Returns the file that is mapped at the address.
pub(crate) fn file_of(address: usize) -> io::Result<PathBuf> {
    let maps = std::fs::read("/proc/self/maps")?;
    let mapped = maps.split(|byte| *byte == b'\n').find_map(|line| file_in(line, address));
    let path = mapped.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no file is mapped there"))?;
    if path.ends_with(b" (deleted)") {
        let text = format!("{} since it was loaded: it was replaced or removed", String::from_utf8_lossy(path));
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

/// Returns the path in a line of `maps`, if the line is about this address:
/// `start-end access offset device inode   path`.
fn file_in(line: &[u8], address: usize) -> Option<&[u8]> {
    let range = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?;
    let (start, end) = range.split_once('-')?;
    let bound = |number| usize::from_str_radix(number, 16).ok();
    let is_there = (bound(start)?..bound(end)?).contains(&address);
    let path = line.iter().position(|byte| *byte == b'/')?;
    is_there.then_some(&line[path..])
}

impl Found {
    fn into_object(self) -> Object {
        let Found { base, code, note, path } = self;
        Object { base, code, build_id: note.unwrap_or_else(|| file_identity(&path)), path }
    }
}

struct Search {
    address: usize,
    found: Option<Found>,
}

struct Found {
    base: usize,
    code: Range<usize>,
    note: Option<Vec<u8>>,
    /// Empty for the program itself.
    path: PathBuf,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader passes a valid description, and `data` is the `Search` that `containing`
    // gave it.
    let (found, search) = unsafe { (segments(&*info), &mut *data.cast::<Search>()) };
    search.found = found.into_iter().find(|found| found.code.contains(&search.address));
    search.found.is_some().into()
}

unsafe extern "C" fn list(info: *mut libc::dl_phdr_info, _: usize, data: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the loader passes a valid description, and `data` is the list that `loaded` gave it.
    unsafe { (*data.cast::<Vec<Found>>()).extend(segments(&*info)) };
    0
}

/// Returns the object's executable segments.
///
/// # Safety
///
/// The loader's description of an object that stays loaded during the call.
unsafe fn segments(info: &libc::dl_phdr_info) -> Vec<Found> {
    let base = info.dlpi_addr as usize;
    // SAFETY: the loader keeps an object's program headers mapped as long as the object, and states
    // their number.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let span = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_memsz as usize)
    };
    let note = headers.iter().filter(|header| header.p_type == libc::PT_NOTE).find_map(|header| {
        let notes = span(header);
        // SAFETY: a PT_NOTE segment lies within a loaded one, readable and constant for the
        // object's life.
        let bytes = unsafe { std::slice::from_raw_parts(notes.start as *const u8, notes.len()) };
        build_id(bytes, if header.p_align == 8 { 8 } else { 4 })
    });
    // SAFETY: the loader names each object by a C string, empty for the program.
    let path = unsafe { CStr::from_ptr(info.dlpi_name) };
    let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    let is_code = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0;
    let found = |code| Found { base, code, note: note.clone(), path: path.clone() };
    headers.iter().filter(is_code).map(|header| found(span(header))).collect()
}

/// Finds the note of type `NT_GNU_BUILD_ID` of the owner `GNU`.
fn build_id(mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let word = |at: usize| head[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        // The header's 12 bytes count for the alignment of what follows.
        let content = (12 + name_len).next_multiple_of(align) - 12;
        let (name, description) = (rest.get(..name_len)?, rest.get(content..content.checked_add(len)?)?);
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !description.is_empty() {
            return Some(description.to_vec());
        }
        notes = rest.get((content + len).next_multiple_of(align).min(rest.len())..)?;
    }
}

/// Returns device, inode, size and time of change: another build, or the same one written anew,
/// differs in one of them. Returns nothing if the file cannot be read.
fn file_identity(path: &Path) -> Vec<u8> {
    let path = if path.as_os_str().is_empty() { Path::new("/proc/self/exe") } else { path };
    let Ok(file) = std::fs::metadata(path) else { return Vec::new() };
    let words = [file.dev(), file.ino(), file.size(), file.mtime().cast_unsigned(), file.mtime_nsec().cast_unsigned()];
    b"file".iter().copied().chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let lengths = [name.len() as u32, description.len() as u32, kind];
        let mut note: Vec<u8> = lengths.into_iter().flat_map(u32::to_ne_bytes).collect();
        for part in [name, description] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let id: Vec<u8> = (0..20).collect();
        let mut notes = note(b"GNU\0", 1, &[0; 16]);
        notes.extend(note(b"Xen\0", 3, b"not it"));
        notes.extend(note(b"odd", 3, b"not it either"));
        assert_eq!(build_id(&notes, 4), None);
        notes.extend(note(b"GNU\0", 3, &id));
        assert_eq!(build_id(&notes, 4), Some(id));
        for cut in 0..notes.len() {
            assert_eq!(build_id(&notes[..cut], 4), None, "cut at {cut}");
        }
    }

    #[test]
    fn wrong_lengths_are_survived() {
        let mut lie = note(b"GNU\0", 3, &[1; 20]);
        lie[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id(&lie, 4), None);
        lie[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id(&lie, 8), None);
    }

    #[test]
    fn this_object_holds_this_function() {
        let here = this_object_holds_this_function as fn() as usize;
        let object = containing(here).unwrap();
        assert!(object.code.contains(&here) && object.base <= here);
        assert!(!object.build_id.is_empty());
        assert!(containing(1).is_none());
    }

    #[test]
    fn this_function_is_in_the_running_file() {
        let here = this_function_is_in_the_running_file as fn() as usize;
        assert_eq!(file_of(here).unwrap(), std::env::current_exe().unwrap());
        assert_eq!(file_of(1).unwrap_err().kind(), io::ErrorKind::NotFound);
        let line = b"7f10-7f20 r-xp 00000000 08:01 42    /a b/c d (deleted)";
        assert_eq!(file_in(line, 0x7f1f), Some(&b"/a b/c d (deleted)"[..]));
        assert_eq!(file_in(line, 0x7f20), None);
        assert_eq!(file_in(b"7f10-7f20 rw-p 00000000 00:00 0 ", 0x7f10), None);
    }

    #[test]
    fn another_file_has_another_identity() {
        let me = file_identity(Path::new(""));
        assert_eq!(me, file_identity(&std::env::current_exe().unwrap()));
        assert_ne!(me, file_identity(Path::new("/proc/self/status")));
        assert!(file_identity(Path::new("/no such file")).is_empty());
    }
}
