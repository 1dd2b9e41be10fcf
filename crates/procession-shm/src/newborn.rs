//! The pid of the child that a fork server made last, where the server's owner reads it, whose child it is too. The kernel
//! writes it within the call that makes the child, before the child runs: so an owner that has heard neither from the child nor
//! from the server, since both were killed in that moment, knows whom to reap.
//!
//! | step | a death after it leaves |
//! |---|---|
//! | owner: 1. the word := none, 2. asks the server | nobody |
//! | server: 3. clone; the word := the pid, within it, **commit** | a child that the word names |
//! | child: 4. its hello, with its pidfd | the same child |
//! | owner: nobody holds the child's link, and no hello has come: reaps whom the word names | nobody |

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use procession_sys::pidfd::PidFd;

use crate::segment::{Placed, Segment, Words};

#[derive(Debug)]
#[repr(C)]
struct NewbornWord {
    /// 0: none.
    pid: AtomicU32,
}

// SAFETY: repr(C), an atomic; zero is no child.
#[allow(unsafe_code, reason = "says that the type is made for sharing")]
unsafe impl Words for NewbornWord {}

/// See the module.
#[derive(Debug)]
pub struct Newborn {
    word: Placed<NewbornWord>,
}

impl Newborn {
    /// Owner: one for a new server.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn create() -> io::Result<Newborn> {
        Ok(Newborn { word: Segment::create("procession-newborn", size_of::<NewbornWord>())?.words(0) })
    }

    /// Server: its owner's.
    ///
    /// # Errors
    ///
    /// If it is none, or the system refuses.
    pub fn attach(fd: OwnedFd) -> io::Result<Newborn> {
        let segment = Segment::attach(fd)?;
        if segment.len() < size_of::<NewbornWord>() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is too short for a pid"));
        }
        Ok(Newborn { word: segment.words(0) })
    }

    /// Owner: what to hand to the server.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.word.segment().as_fd()
    }

    /// Server: where the kernel is to write the child's pid.
    pub fn pid(&self) -> &AtomicU32 {
        &self.word.pid
    }

    /// Owner: before it asks for a child.
    pub fn expect(&self) {
        self.word.pid.store(0, Ordering::Relaxed);
    }

    /// Owner, when it asked for a child and nobody holds the child's link any more: reaps the child, if there was one.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn reap(&self) -> io::Result<()> {
        let pid = self.word.pid.swap(0, Ordering::Relaxed);
        if pid == 0 {
            return Ok(());
        }
        // Nobody's pid but the child's until it is reaped, unless somebody reaps children that are not his; then it is no child.
        match PidFd::open(pid).and_then(|child| child.reap()) {
            Err(error) if !matches!(error.raw_os_error(), Some(ESRCH | ECHILD)) => Err(error),
            _ => Ok(()),
        }
    }
}

const ESRCH: i32 = 3;
const ECHILD: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_the_word_names_is_reaped_once_and_nobody_else() {
        let owner = Newborn::create().unwrap();
        let server = Newborn::attach(owner.as_fd().try_clone_to_owned().unwrap()).unwrap();
        owner.reap().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        server.pid().store(child.id(), Ordering::Relaxed);
        owner.reap().unwrap();
        assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(ECHILD), "it is reaped");
        server.pid().store(std::process::id(), Ordering::Relaxed);
        owner.reap().expect("it is no child, and left alone");
    }
}
