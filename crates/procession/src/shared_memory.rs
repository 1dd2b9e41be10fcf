//! Shared memory, with and without a name. Used in any process that has it, from any thread.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use procession_core::{RawMemory, handle, shared_memory as engine};
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Result, startup};

/// Bytes that any number of processes have in their memory at once.
///
/// Without a name ([`new`](SharedMemory::new)) it travels to a child as (part of) the argument of a
/// process or of a pool's initializer, and is gone with its last user. With a name
/// ([`create`](SharedMemory::create)) it is also found by programs that have nothing else in
/// common: the names are those of POSIX's `shm_open` and of Python's
/// `multiprocessing.shared_memory`. Clones are the same memory.
///
/// ```
/// use procession::{Context, SharedMemory};
///
/// # fn main() -> procession::Result<()> {
/// let memory = SharedMemory::new(1 << 20)?;
/// let fill = |memory: SharedMemory| memory.write(1000, b"from the child").is_ok();
/// # let ctx = Context::fork();
/// assert!(ctx.process(fill, memory.clone()).start()?.join()?);
/// let mut text = [0; 14];
/// memory.read(1000, &mut text)?;
/// assert_eq!(&text, b"from the child");
/// # Ok(()) }
/// ```
///
/// # Access
///
/// Others may write at any moment, so there is no safe `&[u8]`. [`read`](SharedMemory::read) and
/// [`write`](SharedMemory::write) copy, at the speed of copying; who reads what another writes
/// meanwhile gets some bytes of before and some of after, which a lock or a message beside it
/// prevents. [`words`](SharedMemory::words) are atomic, in place. [`raw`](SharedMemory::raw) has
/// pointers and slices for who can vouch for the others. [`SharedArray`](crate::SharedArray) and
/// [`SharedValue`](crate::SharedValue) have types.
///
/// # How long a name lives
///
/// Until [`unlink`](SharedMemory::unlink), which any user may call, or until all its owners are
/// gone: the processes of the program that created it, and whoever has it attached through this
/// library, in any program. The end of one that merely read it changes nothing, and however they
/// end, be all of them killed, the name goes soon after the last one. That is the work of a
/// tracker, a small process which the first name starts, and which ends after the program. A child
/// shares its parent's tracker if there was one when it was started; a name made in a child that is
/// older than its parent's first name counts the child and its own children as its program.
///
/// Dropping the memory does not unlink the name, unmapping is all it does.
///
/// **Differences from `multiprocessing.shared_memory`:** a program that only attaches never
/// unlinks; all of the memory is reserved at once, so that a small `/dev/shm` is an error here and
/// no SIGBUS later; there is no `close`, it is dropped.
#[derive(Clone)]
pub struct SharedMemory {
    engine: Arc<engine::SharedMemory>,
}

impl SharedMemory {
    /// New memory of `size` zero bytes, without a name. It needs no `/dev/shm`, and takes memory as
    /// it is written.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::new(1 << 20)?;
    /// assert_eq!(memory.size(), 1 << 20);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// For a size of 0 ([`Error::is_invalid`](crate::Error::is_invalid)); if the system refuses.
    pub fn new(size: usize) -> Result<SharedMemory> {
        Ok(SharedMemory::of(engine::SharedMemory::new(size)?))
    }

    /// New memory of `size` zero bytes with this name: the `/name` of `shm_open`, without the
    /// slash.
    ///
    /// # Errors
    ///
    /// [`Error::is_already_exists`](crate::Error::is_already_exists);
    /// [`is_invalid`](crate::Error::is_invalid) for a size of 0 and for what is no name (empty,
    /// with a slash, longer than 255 bytes);
    /// [`is_not_initialized`](crate::Error::is_not_initialized) in a program without the feature
    /// `startup` and [`init`](crate::init()); if `/dev/shm` is not there or has no room, or the
    /// system refuses otherwise.
    ///
    /// ```no_run
    /// # fn main() -> procession::Result<()> {
    /// use procession::SharedMemory;
    /// let memory = SharedMemory::create("frames", 1 << 20)?;
    /// // elsewhere: Python's SharedMemory(name="frames"), or
    /// let same = SharedMemory::attach("frames")?;
    /// same.unlink()?;
    /// # Ok(()) }
    /// ```
    pub fn create(name: &str, size: usize) -> Result<SharedMemory> {
        startup::keep_entry();
        Ok(SharedMemory::of(engine::SharedMemory::create(name, size)?))
    }

    /// As [`create`](SharedMemory::create), with a name that nothing else has: see
    /// [`name`](SharedMemory::name).
    ///
    /// ```no_run
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::create_named(1 << 20)?;
    /// println!("attach to {:?}", memory.name());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`create`](SharedMemory::create).
    pub fn create_named(size: usize) -> Result<SharedMemory> {
        startup::keep_entry();
        Ok(SharedMemory::of(engine::SharedMemory::create_named(size)?))
    }

    /// The memory that has this name, whoever created it.
    ///
    /// Other programs may cut the memory that they have created (`ftruncate`). An access to the
    /// part that is cut off ends this process by SIGBUS.
    ///
    /// ```no_run
    /// use procession::SharedMemory;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let frames = SharedMemory::attach("frames")?; // of a Python program, say
    /// let mut first = [0; 16];
    /// frames.read(0, &mut first)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`](crate::Error::is_not_found); for what is no name; if it is another
    /// user's, or empty.
    pub fn attach(name: &str) -> Result<SharedMemory> {
        Ok(SharedMemory::of(engine::SharedMemory::attach(name)?))
    }

    /// Its name, if it has one.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::SharedMemory::new(1)?.name(), None);
    /// # Ok(()) }
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.engine.name()
    }

    /// In bytes: what its creator asked for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// assert_eq!(procession::SharedMemory::new(1000)?.size(), 1000);
    /// # Ok(()) }
    /// ```
    pub fn size(&self) -> usize {
        self.engine.size()
    }

    /// Takes the name away, for any user and at once. A process that has attached the memory keeps
    /// it.
    ///
    /// ```no_run
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::create("frames", 1 << 20)?;
    /// memory.unlink()?; // nobody else can attach; who has attached goes on
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::is_not_found`](crate::Error::is_not_found) if the name is gone, or by now another
    /// memory's, which is left alone; [`is_invalid`](crate::Error::is_invalid) for memory without a
    /// name; if the system refuses.
    pub fn unlink(&self) -> Result<()> {
        Ok(self.engine.unlink()?)
    }

    /// Copies the bytes at `offset` out.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::new(100)?;
    /// let mut bytes = [1; 4];
    /// memory.read(96, &mut bytes)?;
    /// assert_eq!(bytes, [0; 4]);
    /// assert!(memory.read(97, &mut bytes).is_err(), "beyond the end");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If they are not inside ([`Error::is_invalid`](crate::Error::is_invalid)).
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        Ok(self.engine.read(offset, out)?)
    }

    /// Copies `bytes` to `offset`. Bytes beside them are not touched, even if others write those
    /// meanwhile.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::new(100)?;
    /// memory.write(10, b"bytes")?;
    /// # let mut bytes = [0; 5];
    /// # memory.read(10, &mut bytes)?;
    /// # assert_eq!(&bytes, b"bytes");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read`](SharedMemory::read).
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.engine.write(offset, bytes)?)
    }

    /// The memory in place, 8 bytes at a time. The rest of a size that is no multiple of 8 is not
    /// among them.
    ///
    /// ```
    /// use std::sync::atomic::Ordering;
    ///
    /// let memory = procession::SharedMemory::new(4096)?;
    /// memory.words()[3].fetch_add(1, Ordering::Relaxed);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn words(&self) -> &[AtomicU64] {
        self.engine.words()
    }

    /// The memory in place as C has it: a pointer, which is safe to have, and slices and atomics of
    /// other sizes, which only the caller can vouch for.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let memory = procession::SharedMemory::new(100)?;
    /// let raw = memory.raw();
    /// // Its pointers and slices are unsafe to use: who does vouches for all that have the memory.
    /// # let _ = raw;
    /// # Ok(()) }
    /// ```
    pub fn raw(&self) -> RawMemory<'_> {
        self.engine.raw()
    }

    fn of(engine: engine::SharedMemory) -> SharedMemory {
        SharedMemory { engine: Arc::new(engine) }
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("name", &self.name()).field("size", &self.size()).finish()
    }
}

/// Its file, for calls that take one. A process that has a copy of it counts as a user.
impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

/// Only on its way to a child; anywhere else the error says what to do.
impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.as_fd(), "shared memory").map_err(S::Error::custom)?;
        (index, self.size(), self.name()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, size, name) = Deserialize::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, "shared memory").map_err(D::Error::custom)?;
        engine::SharedMemory::from_handle(fd, size, name).map(SharedMemory::of).map_err(|error| {
            handle::refuse(&error.to_string());
            D::Error::custom(error)
        })
    }
}
