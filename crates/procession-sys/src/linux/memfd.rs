//! Memory as a file without a name: memory that processes share, and messages that are too large
//! for a socket. It is gone when its last fd and mapping are, whoever is killed. Called in any
//! process and thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::descriptor::above_streams;

/// Makes a file of `len` zero bytes, which take no memory until they are touched. Its length is
/// sealed, so that a process that maps it can touch all of it.
///
/// # Errors
///
/// `FileTooLarge` if the length is beyond [`max_len`]; if the system refuses: no fd left.
pub fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    create_sealed(name, len, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// As [`create`], but it may [`grow`].
///
/// # Errors
///
/// As [`create`].
pub fn create_growing(name: &str, len: u64) -> io::Result<OwnedFd> {
    create_sealed(name, len, SealFlags::SHRINK | SealFlags::SEAL)
}

/// Makes an empty file. It may grow and shrink until it is sealed.
///
/// # Errors
///
/// If the system refuses: no fd left.
pub fn empty(name: &str) -> io::Result<OwnedFd> {
    private(name, MemfdFlags::ALLOW_SEALING)
}

fn create_sealed(name: &str, len: u64, seals: SealFlags) -> io::Result<OwnedFd> {
    check_len(len)?;
    let fd = private(name, MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, len)?;
    fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// Makes the file `len` bytes long, unless it is as long already. Any process that has it may have
/// lengthened it further.
///
/// # Errors
///
/// `FileTooLarge` if that is beyond [`max_len`]; other errors of the system.
pub fn grow(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    if self::len(fd)? >= len {
        return Ok(());
    }
    check_len(len)?;
    match ftruncate(fd, len) {
        // The seal keeps it from being shortened: another process has lengthened it further in
        // between.
        Err(Errno::PERM) if self::len(fd)? >= len => Ok(()),
        grown => Ok(grown?),
    }
}

/// Returns how long this process may make a file: `RLIMIT_FSIZE`.
pub fn max_len() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Refuses a length that the kernel would answer with SIGXFSZ, which ends the process.
///
/// # Errors
///
/// `FileTooLarge`, with a text of its own.
pub(super) fn check_len(len: u64) -> io::Result<()> {
    let most = max_len();
    if len <= most {
        return Ok(());
    }
    let text = format!(
        "shared memory would need a file of {len} bytes, and this process may have files of {most} bytes: raise its limit \
         of file sizes (`ulimit -f`, RLIMIT_FSIZE)"
    );
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}

/// Makes a memfd that only its user may open. The kernel's mode would be 0777: anybody who finds
/// the memfd under `/proc` could open and execute it.
fn private(name: &str, flags: MemfdFlags) -> io::Result<OwnedFd> {
    let fd = above_streams(memfd_create(name, MemfdFlags::CLOEXEC | flags)?)?;
    fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    Ok(fd)
}

/// Returns the length of a file that came from another process.
///
/// # Errors
///
/// `InvalidData` if another process could shorten it.
pub fn sealed_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    if !sealed {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a memfd whose length is sealed"));
    }
    len(fd)
}

/// Makes a file that holds these bytes.
///
/// # Errors
///
/// `FileTooLarge` if they are more than [`max_len`]; if the system refuses: no fd left, or no
/// memory.
pub fn from_bytes(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    check_len(bytes.len() as u64)?;
    // Written by `write`, which is twice as fast for fresh pages as mapping and copying.
    let mut file = File::from(private(name, MemfdFlags::empty())?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Makes a file that holds these bytes, and no others from now on: nobody can write it, whoever
/// has it.
///
/// # Errors
///
/// As [`from_bytes`].
pub fn constant(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    check_len(bytes.len() as u64)?;
    let mut file = File::from(private(name, MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, CONSTANT | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The seals of a file whose bytes stay as they are.
const CONSTANT: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// Returns the length of a [`constant`] that came from another process.
///
/// # Errors
///
/// `InvalidData` if another process could write the file or change its length.
pub fn constant_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    if !fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(CONSTANT)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a memfd whose bytes are sealed"));
    }
    len(fd)
}

/// Reads all bytes of a memfd, which may come from a process that nobody trusts: it takes no more
/// memory than the file does.
///
/// # Errors
///
/// `InvalidData` if it is no memfd, or has holes; `OutOfMemory`; if it cannot be read.
pub fn read_all(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    /// The kernel counts blocks of this size, whatever the file's are.
    const BLOCK: u64 = 512;
    let stat = fstat(fd)?;
    let len = u64::try_from(stat.st_size).map_err(io::Error::other)?;
    if fcntl_get_seals(fd).is_err() || len > u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a memfd, or one with holes"));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    bytes.resize(len, 0);
    let file = File::from(fd.try_clone_to_owned()?);
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Copies the bytes at `offset` into `out`.
///
/// # Errors
///
/// `UnexpectedEof` if the file has fewer.
pub fn read_at(fd: BorrowedFd<'_>, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < out.len() {
        match retry_on_intr(|| pread(fd, &mut out[done..], offset + done as u64))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}

/// Gives the pages of a range back to the system; it reads as zeros again.
///
/// # Errors
///
/// If the system refuses.
pub fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    Ok(fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?)
}

fn len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    u64::try_from(fstat(fd.as_fd())?.st_size).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for len in [0, 1, 70_000] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let fd = from_bytes("test", &bytes).unwrap();
            assert!(read_all(fd.as_fd()).unwrap() == bytes, "{len} bytes");
        }
    }

    #[test]
    fn file_that_only_says_how_long_it_is_is_refused() {
        let holes = create("test", 1 << 40).unwrap();
        assert_eq!(read_all(holes.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(read_all(pipe.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_length_of_a_segment_is_sealed() {
        let fd = create("test", 1 << 40).unwrap();
        assert_eq!(sealed_len(fd.as_fd()).unwrap(), 1 << 40);
        assert!(ftruncate(&fd, 0).is_err());
        let unsealed = from_bytes("test", b"bytes").unwrap();
        assert_eq!(sealed_len(unsealed.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_bytes_of_a_constant_are_sealed() {
        let fd = constant("test", b"bytes").unwrap();
        assert_eq!(constant_len(fd.as_fd()).unwrap(), 5);
        assert!(File::from(fd.try_clone().unwrap()).write_at(b"other", 0).is_err());
        assert!(ftruncate(&fd, 0).is_err() && ftruncate(&fd, 10).is_err());
        assert!(punch_hole(fd.as_fd(), 0, 5).is_err());
        assert_eq!(read_all(fd.as_fd()).unwrap(), b"bytes");
        for other in [from_bytes("test", b"bytes").unwrap(), create("test", 5).unwrap()] {
            assert_eq!(constant_len(other.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn one_that_grows_is_never_shortened() {
        let fd = create_growing("test", 4096).unwrap();
        for (asked, is) in [(8192, 8192), (5000, 8192), (1 << 30, 1 << 30)] {
            grow(fd.as_fd(), asked).unwrap();
            assert_eq!(sealed_len(fd.as_fd()).unwrap(), is);
        }
        assert!(ftruncate(&fd, 4096).is_err());
        assert!(grow(create("test", 4096).unwrap().as_fd(), 8192).is_err(), "its length is sealed");
    }

    #[test]
    fn racing_growers_each_get_their_length() {
        let fd = create_growing("test", 1).unwrap();
        std::thread::scope(|scope| {
            for part in 1..=4 {
                let fd = &fd;
                scope.spawn(move || {
                    for round in 1..2000 {
                        let len = round * 4096 * part;
                        grow(fd.as_fd(), len).unwrap();
                        assert!(sealed_len(fd.as_fd()).unwrap() >= len);
                    }
                });
            }
        });
    }

    #[test]
    fn a_hole_reads_as_zeros() {
        let fd = from_bytes("test", &[7; 8192]).unwrap();
        punch_hole(fd.as_fd(), 0, 4096).unwrap();
        assert_eq!(read_all(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut bytes = [1; 8192];
        read_at(fd.as_fd(), 0, &mut bytes).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 0) && bytes[4096..].iter().all(|byte| *byte == 7));
    }
}
