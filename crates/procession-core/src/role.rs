//! Roles: what a child becomes at the end of its bootstrap. A [`Role`] is implemented where it
//! lives:
//!
//! | role | file | outlives its parent | inherits the tracker |
//! |---|---|---|---|
//! | task, closure | `target.rs` | no | yes |
//! | worker of a pool | `pool/role.rs` | no | yes |
//! | fork server | `start/forkserver.rs` | no | no: its children are told by its owner |
//! | tracker | `tracker.rs` | yes | no |
//!
//! The parent sends what the role writes in the spawn message. An executed child reads it by the
//! function that its table of [`Roles`] has for the kind. The table is in `init.rs`, above all
//! roles, and is passed down from there. A forked child has the role in memory.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::vec;

use procession_sys::link::Link;

use crate::confinement::Confinement;
use crate::wire::{Reader, Writer};

/// The exit code of a child that cannot begin. Its parent learns the reason from its link.
pub(crate) const CANNOT_BEGIN: i32 = 70;

/// The role of a child.
pub trait Role: fmt::Debug {
    /// Returns the role's part of the spawn message.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it exists in this image only; what the system refuses.
    fn write(&self) -> io::Result<Written<'_>>;

    /// Runs it in the child, whose end of its link this is. A role that runs a user's code confines
    /// the child before, as it is told. Returns the exit code.
    fn run(self: Box<Self>, link: Link, confinement: &Confinement) -> i32;

    /// Returns whether the child goes on when its parent has ended.
    fn outlives_parent(&self) -> bool {
        false
    }

    /// Returns whether the child shares its parent's tracker, and so owns the program's names with
    /// it.
    fn inherits_tracker(&self) -> bool {
        true
    }

    /// Itself, for a face that starts processes of some role by its own means. `None` if it
    /// borrows.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// The part of the spawn message that is a role's: its kind, its fields, its file descriptors.
#[derive(Debug)]
pub struct Written<'a> {
    pub(crate) fields: Writer,
    /// Follows the fields as it is.
    pub(crate) rest: &'a [u8],
    fds: Vec<WrittenFd<'a>>,
}

#[derive(Debug)]
enum WrittenFd<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl<'a> Written<'a> {
    pub(crate) fn new(kind: u8) -> Written<'a> {
        Written { fields: Writer::default().u8(kind), rest: &[], fds: Vec::new() }
    }

    pub(crate) fn fields(mut self, add: impl FnOnce(Writer) -> Writer) -> Self {
        self.fields = add(self.fields);
        self
    }

    pub(crate) fn rest(mut self, rest: &'a [u8]) -> Self {
        self.rest = rest;
        self
    }

    pub(crate) fn fd(mut self, fd: BorrowedFd<'a>) -> Self {
        self.fds.push(WrittenFd::Borrowed(fd));
        self
    }

    /// An fd that exists for this message only.
    pub(crate) fn owned_fd(mut self, fd: OwnedFd) -> Self {
        self.fds.push(WrittenFd::Owned(fd));
        self
    }

    pub(crate) fn fds(self, fds: &'a [OwnedFd]) -> Self {
        fds.iter().map(AsFd::as_fd).fold(self, Written::fd)
    }

    pub(crate) fn all_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.fds.iter().map(|fd| match fd {
            WrittenFd::Borrowed(fd) => *fd,
            WrittenFd::Owned(fd) => fd.as_fd(),
        })
    }
}

/// Reads a role from the part of a spawn message behind its kind.
pub(crate) type Read = fn(&mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal>;

/// The roles that an executed child may have, each by its kind. The default is none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Roles(pub(crate) &'static [(u8, Read)]);

impl Roles {
    /// Reads the role, with its kind, that the rest of a spawn message is.
    pub(crate) fn read(self, message: &mut Incoming<'_>) -> Result<Box<dyn Role>, Refusal> {
        let kind = message.u8()?;
        let known = self.0.iter().find(|(known, _)| *known == kind);
        let (_, read) = known.ok_or(Refusal::Malformed("the kind of target is unknown"))?;
        read(message)
    }
}

/// The rest of a spawn message that is being read.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) fields: Reader<'a>,
    pub(crate) fds: vec::IntoIter<OwnedFd>,
    /// For a child whose own children will read spawn messages.
    pub(crate) roles: Roles,
}

impl<'a> Incoming<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, Refusal> {
        self.fields.u8().ok_or(SHORT)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Refusal> {
        self.fields.u32().ok_or(SHORT)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Refusal> {
        self.fields.u64().ok_or(SHORT)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        self.fields.bytes().ok_or(SHORT)
    }

    /// The bytes behind the fields.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.fields.0).to_vec()
    }

    pub(crate) fn fd(&mut self) -> Result<OwnedFd, Refusal> {
        self.fds.next().ok_or(SHORT)
    }

    /// The fds that are left.
    pub(crate) fn rest_of_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.by_ref().collect()
    }
}

const SHORT: Refusal = Refusal::Malformed("the preparation data is cut short");

/// Why a child cannot use what it received.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The parent is another build.
    OtherBuild,
    /// The message is not preparation data.
    Malformed(&'static str),
    /// The system refused.
    Os(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Os(error)
    }
}
