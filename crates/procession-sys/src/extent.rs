//! A range of a file's bytes. Used by [`crate::mapping`] and the structures that map files.

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The beginning.
    pub offset: u64,
    /// The number of bytes.
    pub len: usize,
}
