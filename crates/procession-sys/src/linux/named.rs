//! Memory as a file with a name, in `/dev/shm`, where POSIX's `shm_open` has it too: other programs
//! can find it, and it stays until somebody unlinks it. Called in any process, any thread.
//!
//! A file is made without a name and gets it whole, by a link: nobody can attach to one that is
//! half made. Whoever has one open holds a shared `flock` on it, which the kernel takes back
//! however the process ends; so whether it is in use is the kernel's to say, and no count can be
//! left wrong.

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

/// Where the names are.
pub const DIRECTORY: &str = "/dev/shm";

/// A new file of `len` zero bytes, without a name, in use by its fd. Its memory is reserved: what
/// does not fit is an error here, and not a SIGBUS at some later access.
///
/// # Errors
///
/// `NotFound` if there is no [`DIRECTORY`], `StorageFull` if it has no room for it, `FileTooLarge`
/// if this process may not have such a file; what else the system refuses.
pub fn make(len: u64) -> io::Result<OwnedFd> {
    // A signal has the kernel give back what it had reserved: a piece is short enough to be done
    // between two of them.
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

/// Gives it its name.
///
/// # Errors
///
/// `AlreadyExists` if the name is taken; `Unsupported` if neither the kernel nor `/proc` lets a
/// file without a name have one.
pub fn link(file: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let path = path(name);
    match linkat(file, "", CWD, &path, AtFlags::EMPTY_PATH) {
        // What kernels before 6.10 say to a process without CAP_DAC_READ_SEARCH.
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

/// Opens the file of a name, and uses it from now on. Gives its length too, which nobody warrants:
/// others that may write it may also cut it.
///
/// # Errors
///
/// `NotFound` if there is none; `InvalidData` if it is no file or an empty one; `WouldBlock` if
/// somebody keeps it to himself; `PermissionDenied` if it is another user's.
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
        // Unlinked between the two: its user must not take it for the one that the name stands for.
        return Err(io::ErrorKind::NotFound.into());
    }
    match u64::try_from(stat.st_size) {
        Ok(len) if len > 0 => Ok((file, len)),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty: whoever makes it has not given it a size yet"))
        }
    }
}

/// Which file it is.
///
/// # Errors
///
/// None for an fd that is open.
pub fn identity(file: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(identity_in(&fstat(file)?))
}

/// Takes the name from the file, if it is the file's; who has it mapped keeps it. `false` if it is
/// not.
///
/// POSIX has no call that compares and unlinks: a name that is taken from this file and given to
/// another one within this call loses that one.
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
        // A symbolic link is no file of ours.
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
    // Under the lock, so that one who attaches meanwhile waits, and finds the name gone.
    Ok(if unlink(name, identity)? { Removal::Unlinked } else { Removal::Gone })
}

/// A number that no other call gives, for a name.
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
