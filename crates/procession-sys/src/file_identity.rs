//! The identity of a file, whatever its names. The platforms share it; users see it as part of
//! [`crate::named`].

/// Tells a file apart. No other file has the same identity while this one exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// The outcome of an attempt to remove a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// The name is gone now.
    Unlinked,
    /// It was gone before, or belongs to another file by now.
    Gone,
    /// Somebody uses the file: nothing was done.
    InUse,
}
