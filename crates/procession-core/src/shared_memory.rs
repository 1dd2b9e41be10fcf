//! Shared memory: with a name, so that other programs find it, or without, to be sent to other
//! processes as a handle. Used in any process, from any thread.
//!
//! The module [`tracker`] has the protocol of a name, and the duties of each process in it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use procession_shm::Constant as ConstantBytes;
use procession_shm::fault::{Step, point};
use procession_shm::{Elements, Memory, RawMemory};
use procession_sys::memfd;
use procession_sys::named::{self, DIRECTORY, Identity};

use crate::{Error, Result, tracker};

/// The longest name, in bytes: the kernel's.
const MAX_NAME: usize = 255;

/// See the module.
#[derive(Debug)]
pub struct SharedMemory {
    memory: Memory,
    name: Option<String>,
}

impl SharedMemory {
    /// New memory without a name.
    ///
    /// # Errors
    ///
    /// For a size of 0; if the system refuses.
    pub fn new(size: usize) -> Result<SharedMemory> {
        check_size(size)?;
        let memory = Memory::create(size).map_err(Error::os(format!("cannot make shared memory of {size} bytes")))?;
        Ok(SharedMemory { memory, name: None })
    }

    /// New memory with this name.
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`]; for a size of 0 or what is no name; [`Error::NoTracker`]; if
    /// `/dev/shm` is not there or has no room, or the system refuses otherwise.
    pub fn create(name: &str, size: usize) -> Result<SharedMemory> {
        check_name(name)?;
        check_size(size)?;
        let os = |error| cannot_create(name, size, error);
        let file = named::make(size as u64).map_err(os)?;
        let identity = named::identity(file.as_fd()).map_err(os)?;
        let memory = Memory::of_file(file, size).map_err(os)?;
        point(Step::NameMade);
        tracker::register(name, identity)?;
        point(Step::NameRegistered);
        if let Err(error) = named::link(memory.as_fd(), name) {
            tracker::forget(name, identity)?;
            return Err(os(error));
        }
        point(Step::NameLinked);
        Ok(SharedMemory { memory, name: Some(name.to_owned()) })
    }

    /// New memory with a name of its own.
    ///
    /// # Errors
    ///
    /// As [`create`](SharedMemory::create).
    pub fn create_named(size: usize) -> Result<SharedMemory> {
        loop {
            let number = named::unique().map_err(Error::os("cannot make a name for shared memory"))?;
            match SharedMemory::create(&format!("procession_{number:016x}"), size) {
                Err(Error::NameTaken { .. }) => {}
                created => return created,
            }
        }
    }

    /// The memory that has this name.
    ///
    /// # Errors
    ///
    /// [`Error::NameAbsent`]; if it is not to be used, or the system refuses otherwise.
    pub fn attach(name: &str) -> Result<SharedMemory> {
        check_name(name)?;
        let os = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => Error::NameAbsent { name: name.to_owned() },
            _ => Error::os(format!("cannot attach to shared memory {name:?} ({DIRECTORY}/{name})"))(error),
        };
        let (file, len) = named::attach(name).map_err(os)?;
        let size = usize::try_from(len).map_err(|error| os(io::Error::other(error)))?;
        Ok(SharedMemory { memory: Memory::of_file(file, size).map_err(os)?, name: Some(name.to_owned()) })
    }

    /// One that came as a handle, with its size and, if it has one, its name.
    ///
    /// # Errors
    ///
    /// If the fd is not shared memory's.
    pub fn from_handle(fd: OwnedFd, size: usize, name: Option<String>) -> Result<SharedMemory> {
        let memory = match name {
            Some(_) => Memory::of_file(fd, size),
            None => Memory::attach(fd),
        };
        Ok(SharedMemory { memory: memory.map_err(Error::os("cannot use shared memory that was sent here"))?, name })
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.memory.size()
    }

    /// Takes the name away. A process that has attached the memory keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::NameAbsent`] if the name is gone, or another's by now; for memory without one; if
    /// the system refuses.
    pub fn unlink(&self) -> Result<()> {
        let Some(name) = self.name() else {
            return Err(Error::Invalid(
                "shared memory without a name cannot be unlinked: it goes with its last user".into(),
            ));
        };
        let os = || Error::os(format!("cannot unlink shared memory {name:?} ({DIRECTORY}/{name})"));
        let identity = named::identity(self.as_fd()).map_err(os())?;
        if !named::unlink(name, identity).map_err(os())? {
            return Err(Error::NameAbsent { name: name.to_owned() });
        }
        point(Step::NameUnlinked);
        tracker::forget(name, identity)?;
        point(Step::NameForgotten);
        Ok(())
    }

    /// Copies the bytes at `offset` out.
    ///
    /// # Errors
    ///
    /// If they are not inside.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        self.memory.read(offset, out);
        Ok(())
    }

    /// Copies bytes to `offset`.
    ///
    /// # Errors
    ///
    /// As [`read`](SharedMemory::read).
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        self.memory.write(offset, bytes);
        Ok(())
    }

    /// The memory as words.
    pub fn words(&self) -> &[std::sync::atomic::AtomicU64] {
        self.memory.words()
    }

    /// Returns the raw memory, for accesses that only the caller can vouch for.
    pub fn raw(&self) -> RawMemory<'_> {
        self.memory.raw()
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.size()) {
            return Ok(());
        }
        let size = self.size();
        Err(Error::Invalid(format!("{len} bytes at {offset} are outside of shared memory of {size} bytes")))
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// `len` new elements of `size` zero bytes.
///
/// # Errors
///
/// For none; if the system refuses.
pub fn new_elements(len: usize, size: usize) -> Result<Elements> {
    if len == 0 {
        return Err(Error::Invalid("a shared array needs at least one element, not 0".into()));
    }
    Elements::create(len, size)
        .map_err(Error::os(format!("cannot make shared memory for {len} elements of {size} bytes")))
}

/// Elements that came as a handle.
///
/// # Errors
///
/// If the fd does not hold elements of this size.
pub fn attach_elements(fd: OwnedFd, size: usize) -> Result<Elements> {
    Elements::attach(fd, size).map_err(Error::os("cannot use a shared array that was sent here"))
}

/// Bytes that are written once and read by anybody who is given the handle. Without a name; gone
/// with the last handle.
#[derive(Debug)]
pub struct Constant {
    file: OwnedFd,
    identity: Identity,
}

impl Constant {
    /// Shares these.
    ///
    /// # Errors
    ///
    /// If the system refuses: no fd left, or no memory.
    pub fn new(bytes: &[u8]) -> Result<Constant> {
        let os = || Error::os(format!("cannot make shared memory of {} bytes", bytes.len()));
        let file = memfd::constant("procession-shared", bytes).map_err(os())?;
        Ok(Constant { identity: named::identity(file.as_fd()).map_err(os())?, file })
    }

    /// One that came as a handle.
    ///
    /// # Errors
    ///
    /// None for an fd that is open.
    pub fn attach(file: OwnedFd) -> Result<Constant> {
        let identity =
            named::identity(file.as_fd()).map_err(Error::os("cannot use a shared value that was sent here"))?;
        Ok(Constant { file, identity })
    }

    /// The same for every handle of the same bytes, and no others.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The bytes, in place, from the beginning of a page.
    ///
    /// # Errors
    ///
    /// If somebody could write them, as no handle of [`new`](Constant::new)'s allows; if the system
    /// refuses.
    pub fn bytes(&self) -> Result<ConstantBytes> {
        ConstantBytes::map(self.as_fd()).map_err(Error::os("cannot read a shared value"))
    }
}

impl AsFd for Constant {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn check_size(size: usize) -> Result<()> {
    if size == 0 || size > isize::MAX as usize {
        return Err(Error::Invalid(format!(
            "shared memory is of at least 1 byte and at most {}, not {size}",
            isize::MAX
        )));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let why = match name {
        "" => "is empty",
        "." | ".." => "stands for a folder",
        _ if name.contains('/') => "has a slash in it: the name of shm_open's \"/name\" is \"name\" here",
        _ if name.contains('\0') => "has a NUL in it",
        _ if name.len() > MAX_NAME => "is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!("{name:?} cannot be the name of shared memory: it {why}")))
}

fn cannot_create(name: &str, size: usize, error: io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::AlreadyExists => return Error::NameTaken { name: name.to_owned() },
        ErrorKind::NotFound => "there is no such folder: mount a tmpfs there",
        ErrorKind::StorageFull => "it has no room for it: mount it larger (size=), or unlink what is there",
        _ => "the system refuses",
    };
    let what = format!(
        "cannot create shared memory {name:?} of {size} bytes in {DIRECTORY}: {hint}. Memory without a name \
         (SharedMemory::new) does not need it"
    );
    Error::os(what)(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused_and_told_why() {
        for (name, why) in [
            ("", "empty"),
            ("..", "folder"),
            ("/psm", "slash"),
            ("a/../b", "slash"),
            ("nul\0", "NUL"),
            (&"x".repeat(256), "255"),
        ] {
            for refused in [SharedMemory::create(name, 1), SharedMemory::attach(name)] {
                let error = refused.unwrap_err();
                assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(why), "{error}");
            }
        }
    }

    #[test]
    fn a_program_without_init_has_no_names() {
        let error = SharedMemory::create_named(10).unwrap_err();
        assert!(matches!(error, Error::NoTracker) && error.to_string().contains("init()"), "{error}");
    }

    #[test]
    fn memory_without_a_name() {
        let memory = SharedMemory::new(100).unwrap();
        memory.write(90, &[7; 10]).unwrap();
        let mut back = [0; 12];
        memory.read(88, &mut back).unwrap();
        assert_eq!(back, [0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert!(memory.write(91, &[0; 10]).is_err() && memory.read(usize::MAX, &mut back).is_err());
        assert!(memory.unlink().is_err() && memory.name().is_none());
        assert!(SharedMemory::new(0).is_err() && SharedMemory::new(usize::MAX).is_err());
    }
}
