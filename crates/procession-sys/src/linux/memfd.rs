//! Memory as a file without a name: what processes share, and what is too large for a message. It is gone when the last
//! fd and mapping of it are, whoever is killed. Called in any process, any thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};

use super::descriptor::above_streams;

/// A new one of `len` zero bytes, none of which takes memory until it is touched. Its length is sealed, so that who maps
/// it can touch all of it.
///
/// # Errors
///
/// If the system refuses: no fd left, or the length is beyond `RLIMIT_FSIZE`.
pub fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    let fd = private(name, MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, len)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// The kernel makes them with mode 0777: whoever finds one under `/proc` could open it, and execute it.
fn private(name: &str, flags: MemfdFlags) -> io::Result<OwnedFd> {
    let fd = above_streams(memfd_create(name, MemfdFlags::CLOEXEC | flags)?)?;
    fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    Ok(fd)
}

/// The length of one that came from another process.
///
/// # Errors
///
/// `InvalidData` if it could be shortened under the caller's feet.
pub fn sealed_len(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    if !sealed {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a memfd whose length is sealed"));
    }
    len(fd)
}

/// A new one that holds these bytes.
///
/// # Errors
///
/// If the system refuses: no fd left, or no memory.
pub fn from_bytes(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    // Written, not mapped and copied into: that is twice as fast for fresh pages.
    let mut file = File::from(private(name, MemfdFlags::empty())?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Everything in it.
///
/// # Errors
///
/// If it cannot be read.
pub fn read_all(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len(fd)?).map_err(io::Error::other)?;
    let file = File::from(fd.try_clone_to_owned()?);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Gives the pages of a range back; it reads as zeros again.
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
    fn the_length_of_a_segment_is_sealed() {
        let fd = create("test", 1 << 40).unwrap();
        assert_eq!(sealed_len(fd.as_fd()).unwrap(), 1 << 40);
        assert!(ftruncate(&fd, 0).is_err());
        let unsealed = from_bytes("test", b"bytes").unwrap();
        assert_eq!(sealed_len(unsealed.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_hole_reads_as_zeros() {
        let fd = from_bytes("test", &[7; 8192]).unwrap();
        punch_hole(fd.as_fd(), 0, 4096).unwrap();
        let bytes = read_all(fd.as_fd()).unwrap();
        assert!(bytes[..4096].iter().all(|byte| *byte == 0) && bytes[4096..].iter().all(|byte| *byte == 7));
    }
}
