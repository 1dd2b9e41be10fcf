//! The resources of a process that the kernel can limit. The same names on every platform.

/// A resource that the kernel counts for a process, or for its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Resource {
    /// Bytes of its address space.
    AddressSpace = 1,
    /// Seconds of processor time, of all of its threads together.
    CpuTime = 2,
    /// File descriptors: one more than the highest number.
    Files = 3,
    /// Processes and threads of its user; a privileged process is not held to it.
    Processes = 4,
    /// Bytes of a file that it writes.
    FileSize = 5,
    /// Bytes of a core dump.
    CoreSize = 6,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 6] = [
        Resource::AddressSpace,
        Resource::CpuTime,
        Resource::Files,
        Resource::Processes,
        Resource::FileSize,
        Resource::CoreSize,
    ];
}
