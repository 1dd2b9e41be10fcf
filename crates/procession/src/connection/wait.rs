//! Waiting for the first of several things: `multiprocessing.connection.wait`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use procession_core::connection::wait_readable;

use super::{Connection, Listener};
use crate::{JoinableQueue, Process, Queue, Result, SimpleQueue};

/// An object that [`wait`] can wait for. Anything with a file descriptor is one: pass its
/// `as_fd()`.
pub trait Waitable {
    /// Returns the fd that becomes readable when the object is ready.
    ///
    /// # Errors
    ///
    /// If it has to be made, and the system refuses.
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>>;

    /// Returns whether the object is ready now, whatever its file descriptor says.
    fn is_ready(&self) -> bool {
        false
    }
}

/// Waits until one of the things is ready, for no longer than `timeout` (`None`: for ever), and
/// gives the indices of all that are. None at the timeout.
///
/// A [`Connection`] is ready when there is something to receive, a [`Listener`] when there is a
/// client to accept, a [`Process`] when it has ended, a [`Queue`] when it holds an item or is
/// closed (another process may take the item first: follow with [`try_get`](Queue::try_get)).
///
/// ```
/// use std::time::Duration;
///
/// use procession::{Context, pipe, wait};
///
/// # fn main() -> procession::Result<()> {
/// let (ours, theirs) = pipe::<(), u8>(true)?;
/// # let ctx = Context::fork();
/// let mut process = ctx.process(|x: u8| x, 7).start()?;
/// assert_eq!(wait(&[&ours, &process], None)?, [1]);
/// theirs.send(&1)?;
/// assert_eq!(wait(&[&ours, &process], None)?, [0, 1]);
/// assert_eq!(wait(&[], Some(Duration::from_millis(1)))?, []);
/// # process.join()?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// If there are more things than files this process may open, or the system is out of memory.
pub fn wait(things: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>> {
    let ready: Vec<bool> = things.iter().map(|thing| thing.is_ready()).collect();
    let timeout = if ready.contains(&true) { Some(Duration::ZERO) } else { timeout };
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let fds = things.iter().map(|thing| thing.waited_fd()).collect::<Result<Vec<_>>>()?;
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    let readable = wait_readable(&fds, deadline)?;
    Ok((0..things.len()).filter(|thing| ready[*thing] || readable[*thing]).collect())
}

impl<Tx, Rx> Waitable for Connection<Tx, Rx> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(self.as_fd()))
    }

    fn is_ready(&self) -> bool {
        self.engine.is_ready()
    }
}

impl Waitable for Listener {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(self.as_fd()))
    }
}

impl<R> Waitable for Process<R> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(self.sentinel()))
    }
}

impl<T> Waitable for Queue<T> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(self.readable()?))
    }

    fn is_ready(&self) -> bool {
        !self.is_empty() || self.is_closed()
    }
}

impl<T> Waitable for JoinableQueue<T> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        (**self).waited_fd()
    }

    fn is_ready(&self) -> bool {
        (**self).is_ready()
    }
}

impl<T> Waitable for SimpleQueue<T> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        self.0.waited_fd()
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}

impl Waitable for BorrowedFd<'_> {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(*self))
    }
}

impl Waitable for OwnedFd {
    fn waited_fd(&self) -> Result<Box<dyn AsFd + '_>> {
        Ok(Box::new(self.as_fd()))
    }
}
