//! Files told apart, whatever their names: shared by the platforms, and seen as part of
//! [`crate::named`].

/// Which file it is. No other has the same while this one exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// What came of an attempt to take a name away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// The name is gone now.
    Unlinked,
    /// It was gone before, or is another file's by now.
    Gone,
    /// Somebody uses the file: nothing is done.
    InUse,
}
