//! A shared object that the loader loads before a program begins. [`Preload`] is the parent's side,
//! in the thread that starts a child. The rest is the child's, in its only thread, before `main`.
//!
//! The loader takes the paths of such objects from the variable `LD_PRELOAD`. The parent puts its
//! object behind those that the variable names already, in the child's environment alone. The child
//! takes it out again, so that programs which it executes do not load it.

#![allow(unsafe_code)] // Changes this process's environment, before it has other threads.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::descriptor::above_streams;
use super::inherited::{FIRST_FD, inherited_fd};

const VARIABLE: &str = "LD_PRELOAD";

/// The number of the object's file in the child, if it gets it as an fd: two links come before.
const FILE_FD: i32 = FIRST_FD + 2;

/// By which an object is named whose path the variable cannot hold.
const FILE_PATH: &str = "/proc/self/fd/5";

/// The loader would take a path apart at these, or expand it.
const SPECIAL: &[u8] = b" :;$\t\n";

/// An object to preload into a child.
#[derive(Debug)]
pub struct Preload {
    path: PathBuf,
    /// The object's file, if its path cannot be in the variable.
    file: Option<OwnedFd>,
}

impl Preload {
    /// Prepares to preload the object of this path.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn of(path: &Path) -> io::Result<Preload> {
        let file = above_streams(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
        if path.as_os_str().as_bytes().iter().any(|byte| SPECIAL.contains(byte)) {
            return Ok(Preload { path: FILE_PATH.into(), file: Some(file) });
        }
        Ok(Preload { path: path.to_owned(), file: None })
    }

    /// Returns the fd that the child must get, at the number behind its two links'; `None` if it
    /// needs none.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The child's variable and its value.
    pub(super) fn variable(&self) -> (OsString, OsString) {
        let mut value = std::env::var_os(VARIABLE).unwrap_or_default();
        if !value.is_empty() {
            value.push(":");
        }
        value.push(&self.path);
        (VARIABLE.into(), value)
    }
}

/// Returns whether a parent has had this object preloaded.
pub(super) fn is_of(object: &CStr) -> bool {
    !object.is_empty() && std::env::var_os(VARIABLE).is_some_and(|value| last(&value).1 == object.to_bytes())
}

/// Takes the object out of the variable again. If its name stands for an fd, that stays open for
/// the life of the process: whoever looks up the object's file finds it by that name.
pub(super) fn forget() {
    let Some(value) = std::env::var_os(VARIABLE) else { return };
    let (others, object) = last(&value);
    if object == FILE_PATH.as_bytes()
        && let Ok(file) = inherited_fd(FILE_FD)
    {
        std::mem::forget(file);
    }
    // SAFETY: called before `main` by the only thread. If a constructor of another library has
    // started one that reads the environment, the C library's lock and the standard library's do
    // not help, as in any program that changes its environment; such a library would break in every
    // program that does so first in `main`.
    unsafe {
        match others {
            Some(others) => std::env::set_var(VARIABLE, OsString::from_vec(others.to_vec())),
            None => std::env::remove_var(VARIABLE),
        }
    }
}

/// Splits the variable's value before its last path.
fn last(value: &OsStr) -> (Option<&[u8]>, &[u8]) {
    let bytes = value.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b':') {
        Some(at) => (Some(&bytes[..at]), &bytes[at + 1..]),
        None => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_the_loader_would_take_apart_is_passed_as_a_file() {
        let folder = std::env::temp_dir().join(format!("procession preload:{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("object");
        std::fs::write(&path, "").unwrap();
        let passed = Preload::of(&path);
        std::fs::remove_dir_all(&folder).unwrap();
        let passed = passed.unwrap();
        assert!(passed.fd().is_some() && passed.path == Path::new(FILE_PATH));
        let plain = Preload::of(Path::new("/proc/self/exe")).unwrap();
        assert!(plain.fd().is_none() && plain.path == Path::new("/proc/self/exe"));
        assert_eq!(Preload::of(Path::new("/no/such/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn last_path_is_split_off() {
        assert_eq!(last("/a:/b c:/d".as_ref()), (Some(&b"/a:/b c"[..]), &b"/d"[..]));
        assert_eq!(last("/d".as_ref()), (None, &b"/d"[..]));
    }
}
