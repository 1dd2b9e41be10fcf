//! Which loaded ELF object holds an address, where its code lies, and its GNU build id. Called once
//! per process by [`crate::image`], in the thread that needs it first.

#![allow(unsafe_code)] // dl_iterate_phdr hands out raw program headers.

use std::ffi::CStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A program or shared object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    /// The number that the loader added to every address in the file.
    pub(crate) base: usize,
    /// The executable segment that holds the address.
    pub(crate) code: Range<usize>,
    /// The note's bytes; without a note, numbers that identify the file.
    pub(crate) build_id: Vec<u8>,
}

/// Returns the object whose executable segment holds the address.
pub(crate) fn containing(address: usize) -> Option<Object> {
    let mut search = Search { address, found: None };
    // SAFETY: `visit` gets `search` back as its data, and only during this call. No object can be
    // unloaded meanwhile, because the loader's lock is held.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    let Found { base, code, note, path } = search.found?;
    Some(Object { base, code, build_id: note.unwrap_or_else(|| file_identity(path)) })
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
    let (info, search) = unsafe { (&*info, &mut *data.cast::<Search>()) };
    let base = info.dlpi_addr as usize;
    // SAFETY: the loader keeps an object's program headers mapped as long as the object, and states
    // their number.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let span = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_memsz as usize)
    };
    let code = headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0)
        .map(span)
        .find(|code| code.contains(&search.address));
    let Some(code) = code else { return 0 };
    let note = headers.iter().filter(|header| header.p_type == libc::PT_NOTE).find_map(|header| {
        let notes = span(header);
        // SAFETY: a PT_NOTE segment lies within a loaded one, readable and constant for the
        // object's life.
        let bytes = unsafe { std::slice::from_raw_parts(notes.start as *const u8, notes.len()) };
        build_id(bytes, if header.p_align == 8 { 8 } else { 4 })
    });
    // SAFETY: the loader names each object by a C string, empty for the program.
    let path = unsafe { CStr::from_ptr(info.dlpi_name) };
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
    search.found = Some(Found { base, code, note, path });
    1
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
fn file_identity(path: PathBuf) -> Vec<u8> {
    let path = if path.as_os_str().is_empty() { PathBuf::from("/proc/self/exe") } else { path };
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
    fn another_file_has_another_identity() {
        let me = file_identity(PathBuf::new());
        assert_eq!(me, file_identity(std::env::current_exe().unwrap()));
        assert_ne!(me, file_identity(PathBuf::from("/proc/self/status")));
        assert!(file_identity(PathBuf::from("/no such file")).is_empty());
    }
}
