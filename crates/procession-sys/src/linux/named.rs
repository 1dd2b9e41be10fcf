//! Memory as a file with a name, in `/dev/shm`, as POSIX's `shm_open` has it too. Other programs
//! can find it, and it stays until somebody unlinks it. Called in any process and thread.
//!
//! A file is made without a name and gets its name by a link when it is whole, so nobody can attach
//! to one that is half made. A process that has one open holds a shared `flock` on it, which the
//! kernel releases however the process ends. So the kernel knows whether the file is in use, and no
//! count can be wrong.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, Stat, fallocate, flock, fstat, linkat, open,
    statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::above_streams;
use super::{memfd, random};
pub use crate::file_identity::{Identity, Removal};

/// The folder of the names.
pub const DIRECTORY: &str = "/dev/shm";

/// Makes a file of `len` zero bytes, without a name, in use by its fd. Its memory is reserved: if
/// there is too little, that is an error here, and not a SIGBUS at some later access.
///
/// # Errors
///
/// `NotFound` if there is no [`DIRECTORY`], `StorageFull` if it has no room for it, `FileTooLarge`
/// if this process may not have such a file; other errors of the system.
pub fn make(len: u64) -> io::Result<OwnedFd> {
    // When a signal comes, the kernel gives back what it has reserved in a call. So a piece is
    // short enough to be done between two signals.
    const PIECE: u64 = 4 << 20;
    memfd::check_len(len)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = above_streams(open(DIRECTORY, flags, Mode::RUSR | Mode::WUSR)?)?;
    for at in (0..len).step_by(PIECE as usize) {
        retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), at, PIECE.min(len - at)))?;
    }
    retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
    Ok(file)
}

/// Gives the file its name.
///
/// # Errors
///
/// `AlreadyExists` if the name is taken; `Unsupported` if neither the kernel nor `/proc` lets a
/// file without a name have one.
pub fn link(file: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let path = path(name);
    match linkat(file, "", CWD, &path, AtFlags::EMPTY_PATH) {
        // Kernels before 6.10 return this to a process without CAP_DAC_READ_SEARCH.
        Err(Errno::NOENT) => {}
        linked => return Ok(linked?),
    }
    let through = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, through, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
        Err(Errno::NOENT) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "/proc is not mounted, without which this kernel (before 6.10) gives names to the privileged only",
        )),
        linked => Ok(linked?),
    }
}

/// Opens the file of a name, and uses it from now on. Returns its length as well. The length is
/// untrusted: other processes that may write the file may also cut it.
///
/// # Errors
///
/// `NotFound` if there is none; `InvalidData` if it is no file or an empty one; `WouldBlock` if
/// another process holds it exclusively; `PermissionDenied` if it is another user's.
pub fn attach(name: &str) -> io::Result<(OwnedFd, u64)> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = above_streams(open(path(name), flags, Mode::empty())?)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => break,
            Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let stat = fstat(&file)?;
    if stat.st_nlink == 0 {
        // It was unlinked between the two calls: the caller must not mistake it for the file that
        // has the name.
        return Err(io::ErrorKind::NotFound.into());
    }
    match u64::try_from(stat.st_size) {
        Ok(len) if len > 0 => Ok((file, len)),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty: whoever makes it has not given it a size yet"))
        }
    }
}

/// Returns which file it is.
///
/// # Errors
///
/// None for an fd that is open.
pub fn identity(file: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(identity_in(&fstat(file)?))
}

/// Takes the name from the file, if it is the file's. Processes that have it mapped keep it.
/// Returns `false` if the name is not the file's.
///
/// POSIX has no call that compares and unlinks: if, during this call, the name goes from this file
/// to another one, that other one loses it.
///
/// # Errors
///
/// If the system refuses.
pub fn unlink(name: &str, identity: Identity) -> io::Result<bool> {
    let path = path(name);
    match statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        stat => {
            if identity_in(&stat?) != identity {
                return Ok(false);
            }
        }
    }
    match unlinkat(CWD, &path, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(false),
        unlinked => Ok(unlinked.map(|()| true)?),
    }
}

/// As [`unlink`], unless somebody uses the file.
///
/// # Errors
///
/// If the system refuses.
pub fn unlink_unused(name: &str, identity: Identity) -> io::Result<Removal> {
    let file = match open(path(name), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        // A symbolic link is not a file of this program.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Removal::Gone),
        file => above_streams(file?)?,
    };
    if identity_in(&fstat(&file)?) != identity {
        return Ok(Removal::Gone);
    }
    match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::AGAIN) => return Ok(Removal::InUse),
        locked => locked?,
    }
    // Under the lock, so that a process that attaches meanwhile waits, and finds the name gone.
    Ok(if unlink(name, identity)? { Removal::Unlinked } else { Removal::Gone })
}

/// Returns a random number, to make a name of.
///
/// # Errors
///
/// None after the system's start.
pub fn unique() -> io::Result<u64> {
    let mut bytes = [0; 8];
    random::fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

fn identity_in(stat: &Stat) -> Identity {
    Identity { device: stat.st_dev, inode: stat.st_ino }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn fresh() -> String {
        format!("procession_test_{:016x}", unique().unwrap())
    }

    #[test]
    fn a_file_has_its_name_from_link_to_unlink() {
        let name = fresh();
        assert_eq!(attach(&name).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = make(5000).unwrap();
        let its = identity(file.as_fd()).unwrap();
        assert!(!unlink(&name, its).unwrap(), "it has no name yet");
        link(file.as_fd(), &name).unwrap();
        assert_eq!(link(make(1).unwrap().as_fd(), &name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let (same, len) = attach(&name).unwrap();
        assert_eq!((identity(same.as_fd()).unwrap(), len), (its, 5000));
        assert!(unlink(&name, its).unwrap() && !unlink(&name, its).unwrap());
    }

    #[test]
    fn a_name_in_use_or_anothers_is_left_alone() {
        let name = fresh();
        let file = make(1).unwrap();
        let its = identity(file.as_fd()).unwrap();
        link(file.as_fd(), &name).unwrap();
        assert_eq!(unlink_unused(&name, its).unwrap(), Removal::InUse);
        let reader = attach(&name).unwrap();
        drop(file);
        assert_eq!(unlink_unused(&name, its).unwrap(), Removal::InUse, "by the reader");
        drop(reader);
        let other = Identity { inode: its.inode + 1, ..its };
        assert_eq!(unlink_unused(&name, other).unwrap(), Removal::Gone);
        assert!(!unlink(&name, other).unwrap() && Path::new(&path(&name)).exists());
        assert_eq!(unlink_unused(&name, its).unwrap(), Removal::Unlinked);
        assert_eq!(unlink_unused(&name, its).unwrap(), Removal::Gone);
    }
}
