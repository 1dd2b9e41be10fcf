//! Landlock: rules that say which files a child may open. The kernel holds a process to them, with
//! all that it starts. Applied in the child.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use procession_sys::confine;

use crate::wire::{Reader, Writer};

/// The newest rules that are used where the kernel knows them. The kernel must know at least
/// [`ABI::V1`].
const NEWEST: ABI = ABI::V6;

/// The files that a child may open, and all that is below them. The child cannot open, make, rename
/// or delete any other file. Files that are open already stay so.
///
/// From Linux 6.12 on the child cannot signal processes outside of its rules either, its parent
/// among them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Landlock {
    rules: Vec<(Right, PathBuf)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Right {
    Read = 1,
    ReadWrite = 2,
    Execute = 3,
}

impl Landlock {
    /// Allows nothing.
    pub fn new() -> Landlock {
        Landlock::default()
    }

    /// Allows to read a file, or the files below a folder.
    #[must_use]
    pub fn read(self, path: impl AsRef<Path>) -> Landlock {
        self.with(Right::Read, path.as_ref())
    }

    /// Allows to read and write a file, or to read, write, make and delete files below a folder.
    #[must_use]
    pub fn read_write(self, path: impl AsRef<Path>) -> Landlock {
        self.with(Right::ReadWrite, path.as_ref())
    }

    /// Allows to read and execute a file, or the files below a folder.
    #[must_use]
    pub fn execute(self, path: impl AsRef<Path>) -> Landlock {
        self.with(Right::Execute, path.as_ref())
    }

    fn with(mut self, right: Right, path: &Path) -> Landlock {
        self.rules.push((right, path.to_owned()));
        self
    }

    /// Holds this process to it.
    pub(super) fn restrict(&self) -> io::Result<()> {
        // The rules hold for the thread that asks for them, and for what it starts.
        let threads = confine::threads()?;
        if threads > 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "Landlock rules would not hold for {} other thread(s) of it: start threads in tasks, not in the \
                     initializer",
                    threads - 1
                ),
            ));
        }
        let mut opened = Vec::new();
        for (right, path) in &self.rules {
            let fd = PathFd::new(path).map_err(|error| {
                io::Error::other(format!("cannot allow it {} by Landlock: {error}", path.display()))
            })?;
            let rights = match std::fs::metadata(path)?.is_dir() {
                true => right.access(),
                false => right.access() & AccessFs::from_file(NEWEST),
            };
            opened.push(PathBeneath::new(fd, rights));
        }
        let restricted = || -> Result<_, RulesetError> {
            let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
            let rules = rules.handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?.create()?;
            opened.into_iter().try_fold(rules, |rules, rule| rules.add_rule(rule))?.restrict_self()
        };
        match restricted().map_err(io::Error::other)?.ruleset {
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
            RulesetStatus::NotEnforced => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kernel has no Landlock: it needs Linux 5.13 or later, with `landlock` among its security modules \
                 (/sys/kernel/security/lsm)",
            )),
        }
    }
}

impl Right {
    const ALL: [Right; 3] = [Right::Read, Right::ReadWrite, Right::Execute];

    fn access(self) -> BitFlags<AccessFs> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        match self {
            Right::Read => read,
            Right::ReadWrite => read | AccessFs::from_write(NEWEST),
            Right::Execute => read | AccessFs::Execute,
        }
    }
}

pub(super) fn write(landlock: Option<&Landlock>, writer: Writer) -> Writer {
    let Some(Landlock { rules }) = landlock else { return writer.u8(0) };
    let writer = writer.u8(1).u32(rules.len() as u32);
    rules.iter().fold(writer, |writer, (right, path)| writer.u8(*right as u8).bytes(path.as_os_str().as_bytes()))
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Landlock>> {
    if reader.u8()? == 0 {
        return Some(None);
    }
    let count = reader.u32()?;
    let mut landlock = Landlock::new();
    for _ in 0..count {
        let right = reader.u8()?;
        let right = Right::ALL.into_iter().find(|known| *known as u8 == right)?;
        let path = PathBuf::from(OsString::from_vec(reader.bytes()?.to_vec()));
        landlock.rules.push((right, path));
    }
    Some(Some(landlock))
}
