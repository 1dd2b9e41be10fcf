//! No image is known. As [`linux/object.rs`](../linux/object.rs).

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::unsupported;

/// A program or shared object in memory.
#[derive(Debug)]
pub(crate) struct Object {
    /// The number that the loader added to every address in the file.
    pub(crate) base: usize,
    /// The executable segment.
    pub(crate) code: Range<usize>,
    /// Bytes that identify its file.
    pub(crate) build_id: Vec<u8>,
    /// Its file.
    pub(crate) path: PathBuf,
}

/// Returns none.
pub(crate) fn loaded() -> Vec<Object> {
    Vec::new()
}

/// Refuses.
pub(crate) fn load(_path: &Path) -> io::Result<()> {
    unsupported()
}

/// Refuses.
pub(crate) fn file_of(_address: usize) -> io::Result<PathBuf> {
    unsupported()
}

/// Returns `None`: so no build is the same image as this one, and no entry is portable.
pub(crate) fn containing(_address: usize) -> Option<Object> {
    None
}
