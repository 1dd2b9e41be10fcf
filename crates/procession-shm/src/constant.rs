//! Bytes that nobody writes any more: those of a memfd that is sealed against writes, mapped to be
//! read in place. In any process that has the memfd, in any thread.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | the file is written and sealed, by one process | a file that goes with its last user |
//! | others get its fd, and map it | the same |

#![allow(unsafe_code, reason = "makes a slice of a mapping")]

use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;

use procession_sys::mapping::Mapping;
use procession_sys::memfd;

/// See the module.
#[derive(Debug)]
pub struct Constant {
    /// `None`: there are no bytes.
    mapping: Option<Mapping>,
}

impl Constant {
    /// Maps a file that [`memfd::constant`] has made, in whatever process. The bytes begin at a
    /// page.
    ///
    /// # Errors
    ///
    /// `InvalidData` if somebody could write the file; `OutOfMemory` if this process may have no
    /// more addresses; other errors of the system.
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Constant> {
        let len = usize::try_from(memfd::constant_len(file)?).map_err(io::Error::other)?;
        let mapping = if len == 0 { None } else { Some(Mapping::to_read(file, len)?) };
        Ok(Constant { mapping })
    }
}

impl Deref for Constant {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let Some(mapping) = &self.mapping else { return &NOTHING.0 };
        // SAFETY: the mapping lives as long as `self` and has the length of the file, which is
        // sealed. No process can write the file, since it is sealed against writes, and no code of
        // this process can write the memory, since it is mapped to be read.
        unsafe { std::slice::from_raw_parts(mapping.base().as_ptr(), mapping.len()) }
    }
}

/// No bytes, at the beginning of a page like any others: they may be read as no elements of any
/// type.
#[repr(align(4096))]
struct Nothing([u8; 0]);

static NOTHING: Nothing = Nothing([]);

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn sealed_bytes_are_read_in_place() {
        for len in [0, 1, 4096, 100_000] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let file = memfd::constant("procession-test", &bytes).unwrap();
            let constant = Constant::map(file.as_fd()).unwrap();
            drop(file);
            assert!(*constant == bytes, "{len} bytes");
        }
    }

    #[test]
    fn a_file_that_somebody_can_write_is_refused() {
        let file = memfd::from_bytes("procession-test", b"bytes").unwrap();
        assert_eq!(Constant::map(file.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
