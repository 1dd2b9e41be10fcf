//! Files and sockets as parts of values that go to another process. Used where such a value is
//! encoded and decoded.

use std::any::type_name;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};

use procession_core::handle;
use serde_core::de::Error as _;
use serde_core::ser::Error as _;
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

/// Lets a file, a socket or anything else that is a file descriptor travel as (part of) an
/// argument, or over a [`Connection`](crate::Connection) that is no TCP one. The process it reaches
/// has a copy: the same open file, whose position the two share.
///
/// ```
/// use std::fs::File;
/// use std::io::Read;
///
/// use procession::{Context, Handle};
///
/// # fn main() -> procession::Result<()> {
/// let version = |Handle(mut file): Handle<File>| {
///     let mut text = String::new();
///     file.read_to_string(&mut text).map(|_| text.contains("Linux")).unwrap_or(false)
/// };
/// let file = File::open("/proc/version").expect("it is there on Linux");
/// # let ctx = Context::fork();
/// assert!(ctx.process(version, Handle(file)).start()?.join()?);
/// # Ok(()) }
/// ```
///
/// Both sides must name the same type: nothing checks that what is received as a `TcpStream` was
/// not a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle<T>(pub T);

impl<T> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Handle<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Handle<T> {
    fn from(thing: T) -> Handle<T> {
        Handle(thing)
    }
}

impl<T: AsFd> Serialize for Handle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = handle::send_fd(self.0.as_fd(), type_name::<T>()).map_err(S::Error::custom)?;
        serializer.serialize_u32(index)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Handle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let fd = handle::receive_fd(index, type_name::<T>()).map_err(D::Error::custom)?;
        Ok(Handle(T::from(fd)))
    }
}
