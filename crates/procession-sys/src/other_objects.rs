//! Shared objects of a program beside its [image](crate::image), whose functions another process
//! is to call. Used in the parent, in any thread, when such a function is named, and in the child
//! before it calls one.
//!
//! Few programs have functions there: those that are built with Rust's `dylib`s, where the engine
//! is in one object and a function in another. An object that is linked into a program is loaded in
//! its children too. An object that a program has loaded itself (a plug-in) is not. So the parent
//! notes each object of which it has named a function, and tells each child that it starts from
//! then on, which loads what it misses. A worker that was started before can find no function of an
//! object that was loaded later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::imp::object::{self, Object};
use crate::per_process::PerProcess;

/// Those of which this process has named a function.
static NAMED: PerProcess<Mutex<Vec<Other>>> = PerProcess::new(Mutex::default);

/// A shared object as a child finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Other {
    /// The bytes of its build id.
    pub build_id: Vec<u8>,
    /// The path from which a child loads it.
    pub path: PathBuf,
}

/// Returns the objects of which this process has named a function.
pub fn named() -> Vec<Other> {
    NAMED.get().lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Loads those of the objects that this process has not loaded. They stay loaded.
///
/// # Errors
///
/// If the loader refuses one. The error says which and why.
pub fn load(others: &[Other]) -> io::Result<()> {
    if others.is_empty() {
        return Ok(());
    }
    let loaded = object::loaded();
    others
        .iter()
        .filter(|other| loaded.iter().all(|object| object.build_id != other.build_id))
        .try_for_each(|other| object::load(&other.path))
}

/// Looks up the object that holds the address, and notes that a function of it is named. Returns
/// `None` if nothing tells other processes which object it is.
pub(crate) fn naming(address: usize) -> Option<Object> {
    let object = object::containing(address).filter(|object| !object.build_id.is_empty())?;
    let mut named = NAMED.get().lock().unwrap_or_else(PoisonError::into_inner);
    if named.iter().all(|other| other.build_id != object.build_id) {
        let path = object::file_of(address).unwrap_or_else(|_| Path::new(&object.path).to_owned());
        named.push(Other { build_id: object.build_id.clone(), path });
    }
    Some(object)
}
