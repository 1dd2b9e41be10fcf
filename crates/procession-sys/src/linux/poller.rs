//! Waiting for fds to become readable: an epoll instance for a standing set, `poll` for a few, an
//! eventfd to interrupt either. Used by the engine's threads and by callers that wait for several
//! processes.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};

use super::descriptor::above_streams;

/// A standing set of fds, each with a key. It is level-triggered: an fd that stays readable is
/// reported again.
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// Makes an empty set.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: above_streams(epoll::create(CreateFlags::CLOEXEC)?)? })
    }

    /// Adds an fd. The caller removes it before closing it.
    ///
    /// # Errors
    ///
    /// If it is there already, cannot be polled, or the user's limit of watches is reached.
    pub fn add(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(key), EventFlags::IN)?)
    }

    /// Adds an fd that is not reported before it is [armed](Poller::arm). The caller removes it
    /// before closing it.
    ///
    /// # Errors
    ///
    /// As [`add`](Poller::add).
    pub fn add_unarmed(&self, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(key), EventFlags::ONESHOT)?)
    }

    /// Has an fd, which was added unarmed, reported once: if `reads`, when there is something to
    /// receive, if `writes`, when there is room to send, and when its other end is closed.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn arm(&self, fd: BorrowedFd<'_>, key: u64, reads: bool, writes: bool) -> io::Result<()> {
        let mut events = EventFlags::ONESHOT;
        events.set(EventFlags::IN, reads);
        events.set(EventFlags::OUT, writes);
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(key), events)?)
    }

    /// Removes an fd.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Replaces `keys` by those of the fds that are readable or closed at their other end. Waits
    /// until there is one or the timeout is over. Returns early, with none, when a signal
    /// interrupts it.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn wait(&self, keys: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        keys.clear();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 64];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => keys.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl AsFd for Poller {
    /// Readable while one of the fds is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Poller").field(&self.epoll).finish()
    }
}

/// An fd that any thread, or a process that has a copy, can make readable.
#[derive(Debug)]
pub struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// Makes one that is not readable.
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker { eventfd: above_streams(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)? })
    }

    /// Makes it readable until it is drained.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn wake(&self) -> io::Result<()> {
        match retry_on_intr(|| rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes())) {
            // `AGAIN`: the counter is full, so it is readable.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes it unreadable until it is woken again.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn drain(&self) -> io::Result<()> {
        match retry_on_intr(|| rustix::io::read(&self.eventfd, &mut [0_u8; 8])) {
            // `AGAIN`: it was not readable.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// Waits until one of the fds is readable, or closed at its other end, and returns which are. All
/// are `false` if the deadline passed. Without a deadline it waits for ever.
///
/// # Errors
///
/// If there are more fds than this process may open, or the system is out of memory.
pub fn wait_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    wait_readable_unless(fds, deadline, || false)
}

/// As [`wait_readable`]. Calls `is_over` after each signal that this thread got meanwhile; `true`
/// ends the wait as if the deadline had passed.
///
/// # Errors
///
/// As [`wait_readable`].
pub fn wait_readable_unless(
    fds: &[BorrowedFd<'_>],
    deadline: Option<Instant>,
    is_over: impl FnMut() -> bool,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let count = poll_until(&mut polled, deadline, is_over)?;
    Ok(polled.iter().map(|fd| count > 0 && !fd.revents().is_empty()).collect())
}

/// Waits until the fd takes bytes, or fails to. Returns `false` if the deadline passed. Without a
/// deadline it waits for ever.
///
/// # Errors
///
/// If the system is out of memory.
pub fn wait_writable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    Ok(poll_until(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], deadline, || false)? > 0)
}

/// Polls until something happens. Returns 0 if the deadline passes, or a signal comes and `is_over`
/// returns `true`.
pub(super) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
    mut is_over: impl FnMut() -> bool,
) -> io::Result<usize> {
    loop {
        // A deadline beyond the range of the kernel's clock is none.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Err(Errno::INTR) if is_over() => return Ok(0),
            Err(Errno::INTR) => {}
            polled => return Ok(polled?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    fn in_time() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(20))
    }

    #[test]
    fn a_poller_reports_what_is_readable_until_it_is_drained() {
        let (poller, quiet, loud) = (Poller::new().unwrap(), Waker::new().unwrap(), Waker::new().unwrap());
        poller.add(quiet.as_fd(), 1).unwrap();
        poller.add(loud.as_fd(), u64::MAX).unwrap();
        let mut keys = vec![99];
        poller.wait(&mut keys, Some(Duration::ZERO)).unwrap();
        assert_eq!(keys, []);
        loud.wake().unwrap();
        loud.wake().unwrap();
        for _ in 0..2 {
            poller.wait(&mut keys, Some(Duration::from_secs(20))).unwrap();
            assert_eq!(keys, [u64::MAX]);
        }
        loud.drain().unwrap();
        poller.wait(&mut keys, Some(Duration::ZERO)).unwrap();
        assert_eq!(keys, []);
    }

    #[test]
    fn an_armed_fd_is_reported_once() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        let reported = |timeout| {
            let mut keys = Vec::new();
            poller.wait(&mut keys, Some(timeout)).unwrap();
            keys
        };
        waker.wake().unwrap();
        poller.add_unarmed(waker.as_fd(), 1).unwrap();
        assert_eq!(reported(Duration::ZERO), []);
        for (reads, writes) in [(true, false), (false, true), (true, true)] {
            poller.arm(waker.as_fd(), 1, reads, writes).unwrap();
            assert_eq!(reported(Duration::from_secs(20)), [1]);
            assert_eq!(reported(Duration::ZERO), []);
        }
        waker.drain().unwrap();
        poller.arm(waker.as_fd(), 1, true, false).unwrap();
        assert_eq!(reported(Duration::ZERO), []);
    }

    #[test]
    fn a_removed_fd_is_not_reported() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        waker.wake().unwrap();
        poller.add(waker.as_fd(), 1).unwrap();
        assert!(poller.add(waker.as_fd(), 2).is_err());
        poller.remove(waker.as_fd()).unwrap();
        assert!(poller.remove(waker.as_fd()).is_err());
        let mut keys = Vec::new();
        poller.wait(&mut keys, Some(Duration::ZERO)).unwrap();
        assert_eq!(keys, []);
    }

    #[test]
    fn readable_fds_are_distinguished() {
        let wakers: Vec<Waker> = (0..3).map(|_| Waker::new().unwrap()).collect();
        let fds: Vec<BorrowedFd<'_>> = wakers.iter().map(AsFd::as_fd).collect();
        assert_eq!(wait_readable(&fds, soon()).unwrap(), [false, false, false]);
        wakers[1].wake().unwrap();
        assert_eq!(wait_readable(&fds, in_time()).unwrap(), [false, true, false]);
        assert_eq!(wait_readable(&fds, None).unwrap(), [false, true, false]);
    }

    #[test]
    fn a_full_pipe_is_not_writable() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(wait_writable(writer.as_fd(), in_time()).unwrap());
        rustix::io::write(&writer, &[0; 65536]).unwrap();
        assert!(!wait_writable(writer.as_fd(), soon()).unwrap());
        drop(reader);
        assert!(wait_writable(writer.as_fd(), None).unwrap(), "to fail there");
    }

    #[test]
    fn a_waker_wakes_a_waiting_thread() {
        let waker = Waker::new().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_readable(&[waker.as_fd()], in_time()).unwrap());
            waker.wake().unwrap();
            assert_eq!(waiting.join().unwrap(), [true]);
        });
    }
}
