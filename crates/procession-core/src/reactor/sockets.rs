//! Sockets that futures await. The supervisor's thread waits for them. A socket has one place in
//! its set, whichever directions are awaited.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use procession_sys::per_process::fork_generation;

use crate::supervisor::{self, FdWatch};
use crate::{Error, Result};

/// The event that a socket is awaited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Something to receive, or the end.
    In,
    /// Room to send.
    Out,
}

/// One end's hold on its socket. Dropping it ends its waits.
pub struct SocketWatch {
    /// A copy, so that the numbers of those that the supervisor watches are this object's.
    socket: OwnedFd,
    /// In the process that made it; another that was forked from it must not change that one's set.
    watched: Option<(FdWatch, u64)>,
    wakers: Arc<Wakers>,
}

#[derive(Default)]
struct Wakers(Mutex<[Option<Waker>; 2]>);

impl SocketWatch {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<SocketWatch> {
        let socket = socket.try_clone_to_owned().map_err(Error::os("cannot copy the fd of a socket"))?;
        Ok(SocketWatch { socket, watched: None, wakers: Arc::default() })
    }

    /// Has `waker` woken once the socket is ready. It takes the place of an earlier one for the
    /// same direction. A task that waits for the other direction may be woken too soon.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn wake_when(&mut self, direction: Direction, waker: &Waker) -> Result<()> {
        let generation = fork_generation();
        if self.watched.as_ref().is_none_or(|(_, its)| *its != generation) {
            let wakers = Arc::new(Wakers::default());
            self.wakers = wakers.clone();
            self.watched =
                Some((supervisor::watch_fd(self.socket.as_fd(), Arc::new(move || wakers.wake()))?, generation));
        }
        let [reads, writes] = {
            let mut wakers = self.wakers.0.lock().unwrap_or_else(PoisonError::into_inner);
            wakers[direction as usize] = Some(waker.clone());
            wakers.each_ref().map(Option::is_some)
        };
        let Some((watched, _)) = &self.watched else { return Ok(()) };
        watched.arm(self.socket.as_fd(), reads, writes).map_err(Error::os("cannot wait for a socket"))
    }
}

impl Wakers {
    /// Both: the supervisor is told of a socket once, and not in which direction it is ready.
    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().flatten().for_each(super::wake);
    }
}

impl Drop for SocketWatch {
    fn drop(&mut self) {
        if let Some((watched, _)) = self.watched.as_ref().filter(|(_, its)| *its == fork_generation()) {
            watched.end(self.socket.as_fd());
        }
    }
}

impl fmt::Debug for SocketWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketWatch").field("socket", &self.socket).finish_non_exhaustive()
    }
}
