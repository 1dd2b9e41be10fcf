//! Executing a program. [`Spawn::start`] runs in the parent, in any thread. The child takes the fds
//! that it was given by [`inherited_fd`].
//!
//! `posix_spawn` is a vfork: it does not copy the parent's page tables, however large the parent
//! is. The child gets the fds that the caller names, at [`FIRST_FD`] and up, the standard streams,
//! and nothing else: the child closes the fds that another library left without `CLOEXEC`.
//!
//! The parent lists those fds, since glibc has a call that closes all of them only from version
//! 2.34 on. Listing takes about a microsecond for each open fd. The list misses an fd in two cases,
//! and then the child inherits it:
//!
//! - Another thread opens it without `CLOEXEC` between the listing and the start of the child.
//! - Its number is not below the soft limit of open files, which was lowered after it was opened.

#![allow(unsafe_code)] // posix_spawn, and questions about an fd known by its number.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

pub use super::inherited::{FIRST_FD, inherited_fd};
use super::inherited::{MAX_INHERITED, cloexec_flag};
use super::pidfd::PidFd;
pub use super::preload::Preload;
use super::thread::empty_set;

/// The most numbers that are tried if `/proc` cannot list the open fds: a few milliseconds of
/// system calls.
const MAX_PROBED: i32 = 65536;

/// A program to execute. It gets this process's environment and its signal dispositions (a Rust
/// program ignores SIGPIPE, and so does its child). No signal is blocked, but SIGINT if
/// `holds_interrupts` says so.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// The program's file. It is not searched for in `PATH`.
    pub program: &'a Path,
    /// The arguments, beginning with the program's name.
    pub args: &'a [OsString],
    /// The fds that it gets: the `i`-th becomes `FIRST_FD + i`. At most 16.
    pub fds: &'a [BorrowedFd<'a>],
    /// A shared object that the loader loads before the program begins.
    pub preload: Option<&'a Preload>,
    /// True if SIGINT is blocked, so that a Ctrl-C meant for the program does not end a child that
    /// has not begun.
    pub holds_interrupts: bool,
}

impl Spawn<'_> {
    /// Starts the program, and returns once it is loaded.
    ///
    /// # Errors
    ///
    /// The error of the exec (`NotFound`, `PermissionDenied`, ...), which does not name the
    /// program; `InvalidInput` if an argument has a NUL byte in it or there are too many fds; if no
    /// process or fd is left.
    pub fn start(&self) -> io::Result<PidFd> {
        self.start_without(&inheritable_fds(FIRST_FD + self.fds.len() as i32))
    }

    /// Starts it, and closes these numbers in the child, open or not.
    fn start_without(&self, unwanted: &[i32]) -> io::Result<PidFd> {
        if self.fds.len() > MAX_INHERITED as usize {
            let message = format!("cannot pass {} fds to a program: at most {MAX_INHERITED}", self.fds.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let program = c_string(self.program.as_os_str())?;
        let args = self.args.iter().map(|arg| c_string(arg)).collect::<io::Result<Vec<_>>>()?;
        let environment = environment(self.preload.map(Preload::variable))?;
        let mut actions = FileActions::new()?;
        let first_free = FIRST_FD + self.fds.len() as i32;
        // A source in the range of the targets could be overwritten before it is copied, so it is
        // moved out first.
        let mut moved = Vec::new();
        for (target, fd) in (FIRST_FD..).zip(self.fds) {
            let mut source = fd.as_raw_fd();
            if source < first_free {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, first_free)?;
                source = copy.as_raw_fd();
                moved.push(copy);
            }
            actions.add_dup2(source, target)?;
        }
        for fd in unwanted {
            actions.add_close(*fd)?;
        }
        let attributes = Attributes::new(self.holds_interrupts)?;
        let (argv, envp) = (pointers(&args), pointers(&environment));
        let mut pid = 0;
        // SAFETY: all pointers are to live, initialised values of the types asked for; the two
        // arrays end with a null pointer and their strings with a NUL. posix_spawn keeps none of
        // them.
        let refused = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions.0.as_ptr(),
                attributes.0.as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        checked(refused)?;
        PidFd::of_new_child(pid)
    }
}

/// Returns a path by which a child of this process executes the image that this process runs, even
/// if the program's file has been replaced or removed. Without `/proc` it is the file's path.
///
/// # Errors
///
/// If neither can be found.
pub fn current_executable() -> io::Result<PathBuf> {
    // The child resolves it. By then it shares this process's memory and hence its image.
    let running = Path::new("/proc/self/exe");
    if std::fs::read_link(running).is_ok() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Returns the fds from `first` on that an exec leaves open.
fn inheritable_fds(first: i32) -> Vec<i32> {
    // posix_spawn refuses to close a number that is not below the limit.
    let limit = getrlimit(Resource::Nofile).current.map_or(i32::MAX, |limit| limit.try_into().unwrap_or(i32::MAX));
    let mut fds = listed_fds().unwrap_or_else(|_| (first..limit.min(MAX_PROBED)).collect());
    fds.retain(|fd| (first..limit).contains(fd) && cloexec_flag(*fd) == Some(false));
    fds
}

/// Returns the open fds by `/proc`, with the one by which they are listed.
fn listed_fds() -> io::Result<Vec<i32>> {
    let mut fds = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        fds.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(fds)
}

fn c_string(string: &OsStr) -> io::Result<CString> {
    CString::new(string.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{string:?} has a NUL byte in it")))
}

/// Returns a copy, taken under the standard library's lock, so that no `set_var` can change it
/// meanwhile. `changed` is a variable that has another value there.
fn environment(changed: Option<(OsString, OsString)>) -> io::Result<Vec<CString>> {
    let is_kept = |name: &OsStr| changed.as_ref().is_none_or(|(changed, _)| changed != name);
    let kept = std::env::vars_os().filter(|(name, _)| is_kept(name));
    let joined = kept.chain(changed.clone()).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(&name)
    });
    joined.collect()
}

/// Returns an array of strings as C wants it. The strings must outlive it, and are not written to.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

fn checked(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Initialised from `new` to drop, and never moved in between: the contents are the C library's.
struct FileActions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl FileActions {
    fn new() -> io::Result<FileActions> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: init initialises the value it is given; if it fails the value is dropped without
        // being used.
        checked(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(FileActions(actions))
    }

    fn add_dup2(&mut self, source: i32, target: i32) -> io::Result<()> {
        // SAFETY: the actions are initialised; the numbers are only noted.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), source, target) })
    }

    fn add_close(&mut self, fd: i32) -> io::Result<()> {
        // SAFETY: as in `add_dup2`.
        checked(unsafe { libc::posix_spawn_file_actions_addclose(self.0.as_mut_ptr(), fd) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and not used after.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// As [`FileActions`].
struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn new(holds_interrupts: bool) -> io::Result<Attributes> {
        let mut raw = Box::new(MaybeUninit::uninit());
        // SAFETY: init initialises the value it is given unless it fails, and then the value is not
        // used. From there on the guard destroys it. The setters copy their arguments. SIGINT is a
        // signal's number.
        unsafe {
            let mut blocked = empty_set();
            if holds_interrupts {
                libc::sigaddset(&raw mut blocked, libc::SIGINT);
            }
            checked(libc::posix_spawnattr_init(raw.as_mut_ptr()))?;
            let mut attributes = Attributes(raw);
            checked(libc::posix_spawnattr_setsigmask(attributes.0.as_mut_ptr(), &raw const blocked))?;
            checked(libc::posix_spawnattr_setflags(
                attributes.0.as_mut_ptr(),
                libc::POSIX_SPAWN_SETSIGMASK as libc::c_short,
            ))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by the constructor, and not used after.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_that_is_not_open_can_be_closed_in_the_child() {
        let args = ["true".into()];
        let spawn =
            Spawn { program: Path::new("/bin/true"), args: &args, fds: &[], preload: None, holds_interrupts: false };
        let closed = (900..1000).find(|fd| cloexec_flag(*fd).is_none()).expect("a number that is not open");
        assert_eq!(spawn.start_without(&[closed]).unwrap().reap().unwrap().code(), 0);
    }

    #[test]
    fn inheritable_fds_are_those_without_cloexec() {
        let careless = std::fs::File::open("/dev/null").unwrap();
        let number = careless.as_raw_fd();
        assert!(!inheritable_fds(FIRST_FD).contains(&number));
        rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
        assert!(inheritable_fds(number).contains(&number));
        assert!(!inheritable_fds(number + 1).contains(&number));
    }
}
