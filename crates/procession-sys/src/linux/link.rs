//! A private pair of connected sockets, over which whole messages go, with fds beside the bytes. A
//! parent and its child hold one end each; both use it in any thread.
//!
//! # The lifeline
//!
//! A thread of the child that waits for the parent's death is late if the child is stopped, busy or
//! forked anew. The kernel is not. The child asks it to send SIGKILL as the "input is possible"
//! signal of the child's end. The kernel does so when the last copy of the parent's end is closed,
//! which the parent's death does, whatever killed it. Unlike with `PR_SET_PDEATHSIG`, the parent's
//! process counts and not the thread that started the child, and the fork server between the two
//! does not matter.
//!
//! A child that watches its parent itself wants a moment to act on the death. The kernel grants it
//! in two steps: it sends another signal, whose handler starts a timer, whose signal is SIGKILL.
//! Such a child can delay its end: if it is stopped or blocks all signals, it does not run the
//! handler. Therefore only children that ask for it are treated so.

#![allow(unsafe_code)] // fcntl's F_SETOWN_EX, F_SETSIG and O_ASYNC: rustix has none of them.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown, socketpair, sockopt,
};
use rustix::process::{Signal, getpid, kill_process};

use super::descriptor::above_streams;
use super::poller::poll_until;
use super::socket::received_fds;
pub use crate::message::{MAX_FDS, MAX_MESSAGE, Message, Received};

const F_SETSIG: libc::c_int = 10;

/// For the signal handler of [`Link::kill_me_later`]: the timer, and milliseconds.
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());
static LATER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The buffer into which messages are received. It is kept, because zeroing a new one costs a
    /// page fault for each of its pages after each fork.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One end of a pair.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    /// Makes a pair and returns its two ends.
    ///
    /// ```
    /// use procession_sys::link::Link;
    /// use std::io::IoSlice;
    ///
    /// let (ours, theirs) = Link::pair()?;
    /// ours.send(&[IoSlice::new(b"one "), IoSlice::new(b"message")], &[])?;
    /// drop(ours);
    /// assert_eq!(theirs.recv(None)?.unwrap().bytes, b"one message");
    /// assert!(theirs.recv(None)?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If no fd is left.
    pub fn pair() -> io::Result<(Link, Link)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Link { fd: above_streams(one)? }, Link { fd: above_streams(other)? }))
    }

    /// Sends the parts as one message, with copies of the fds. Waits while the other end's buffer
    /// is full.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the other end is closed (there is no SIGPIPE); `InvalidInput` if the message
    /// is empty (which would read as a closed end), longer than [`MAX_MESSAGE`] or has more than
    /// [`MAX_FDS`] fds.
    pub fn send(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(parts, fds, SendFlags::NOSIGNAL)
    }

    /// Sends as [`send`](Self::send), but fails with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and `WouldBlock`.
    pub fn send_now(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(parts, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    /// Says that this end sends no more messages: the other end finds the end after those sent so
    /// far.
    ///
    /// # Errors
    ///
    /// If the other end is closed.
    pub fn finish_sending(&self) -> io::Result<()> {
        Ok(shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Receives a message. Returns `None` if the other end is closed and all its messages have been
    /// received. Without a deadline it waits for ever.
    ///
    /// # Errors
    ///
    /// `TimedOut` past the deadline; `InvalidData` if the bytes are not a message of a `Link` (too
    /// long, too many fds).
    pub fn recv(&self, deadline: Option<Instant>) -> io::Result<Option<Message>> {
        loop {
            let flags = if deadline.is_some() { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            match self.recv_with(flags)? {
                Received::Message(message) => return Ok(Some(message)),
                Received::Closed => return Ok(None),
                Received::Nothing => {}
            }
            if poll_until(&mut [PollFd::new(&self.fd, PollFlags::IN)], deadline, || false)? == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no message came over the link in time"));
            }
        }
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    ///
    /// `InvalidData` as [`recv`](Self::recv).
    pub fn recv_now(&self) -> io::Result<Received> {
        self.recv_with(RecvFlags::DONTWAIT)
    }

    /// Returns whether the fd is a socket as [`pair`](Self::pair) makes them. A child so
    /// distinguishes the link it was promised from other fds that it was started with.
    ///
    /// # Errors
    ///
    /// None for an fd that is open.
    pub fn is_seqpacket(&self) -> io::Result<bool> {
        match (sockopt::socket_domain(&self.fd), sockopt::socket_type(&self.fd)) {
            (Err(Errno::NOTSOCK), _) => Ok(false),
            (domain, kind) => Ok(domain? == AddressFamily::UNIX && kind? == SocketType::SEQPACKET),
        }
    }

    /// Returns whether the other end is closed, or has said that it sends no more. An empty message
    /// of a peer that does not use a `Link` reads as a closed end, too.
    pub fn is_peer_closed(&self) -> bool {
        let mut end = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        // One that cannot be looked at is of no use either.
        poll_until(&mut end, Some(Instant::now()), || false).is_err() || !end[0].revents().is_empty()
    }

    /// Makes the other end this process's lifeline: from now on the kernel kills this process
    /// (SIGKILL) when the last copy of the other end is closed. If it is closed already, this call
    /// does not return.
    ///
    /// Any message that arrives from now on kills the process, too. One that it has read already
    /// may count as arriving now: the kernel lets a message be read, and then tells of it. So what
    /// the peer sends is sent before this process begins, or over another link. This process's
    /// children are not affected.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn kill_me_when_peer_closes(&self) -> io::Result<()> {
        const F_OWNER_PID: libc::c_int = 1;
        self.kill_when_peer_closes(F_OWNER_PID)
    }

    /// As [`kill_me_when_peer_closes`](Self::kill_me_when_peer_closes), but the kernel kills every
    /// process of the group, which this process leads.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn kill_group_when_peer_closes(&self) -> io::Result<()> {
        const F_OWNER_PGRP: libc::c_int = 2;
        self.kill_when_peer_closes(F_OWNER_PGRP)
    }

    /// `kind`: what of this process's number is killed, the process or its group.
    fn kill_when_peer_closes(&self, kind: libc::c_int) -> io::Result<()> {
        #[repr(C)]
        struct Owner {
            kind: libc::c_int,
            pid: libc::pid_t,
        }
        const F_SETOWN_EX: libc::c_int = 15;
        let owner = Owner { kind, pid: getpid().as_raw_nonzero().get() };
        let fd = self.fd.as_raw_fd();
        // SAFETY: the fd is open, as it is owned; `Owner` is the kernel's struct f_owner_ex, which
        // it reads; the other calls take integers.
        unsafe {
            checked(libc::fcntl(fd, F_SETOWN_EX, &raw const owner))?;
            checked(libc::fcntl(fd, F_SETSIG, libc::SIGKILL))?;
            let flags = checked(libc::fcntl(fd, libc::F_GETFL))?;
            checked(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
        }
        // The kernel does not signal an end that was closed before; it signals one that is closed
        // from here on.
        let mut end = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        poll_until(&mut end, Some(Instant::now()), || false)?;
        if !end[0].revents().is_empty() {
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(())
    }

    /// Delays this process's end after the end of its peer, by `grace`. The link must be its
    /// lifeline. It takes the highest real-time signal that has no handler yet.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or no such signal is left.
    pub fn kill_me_later(&self, grace: Duration) -> io::Result<()> {
        let signal = free_realtime_signal()?;
        // SAFETY: zero is a valid value of both C structures, whose fields are set below. The
        // kernel reads the event and writes the timer to live locals; the handler is an
        // `extern "C"` function that does what is safe in a handler.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_SIGNAL;
            event.sigev_signo = libc::SIGKILL;
            let mut timer: libc::timer_t = std::ptr::null_mut();
            checked(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer))?;
            LATER.store(grace.as_millis() as u64, Ordering::Relaxed);
            TIMER.store(timer, Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = start_timer as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            checked(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))?;
            checked(libc::fcntl(self.fd.as_raw_fd(), F_SETSIG, signal))?;
        }
        // As for the lifeline itself: the other end may have been closed before.
        let mut end = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        poll_until(&mut end, Some(Instant::now()), || false)?;
        if !end[0].revents().is_empty() {
            start_timer(signal);
        }
        Ok(())
    }

    fn send_with(&self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len == 0 || len > MAX_MESSAGE || fds.len() > MAX_FDS {
            let message = format!(
                "a message of {len} bytes and {} fds cannot be sent: it takes 1 to {MAX_MESSAGE} bytes and at most {MAX_FDS} fds",
                fds.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            let fits = beside.push(SendAncillaryMessage::ScmRights(fds));
            assert!(fits, "there is space for {MAX_FDS} fds");
        }
        // A packet goes whole or not at all.
        retried(|| sendmsg(&self.fd, parts, &mut beside, flags))?;
        Ok(())
    }

    fn recv_with(&self, flags: RecvFlags) -> io::Result<Received> {
        let kept = BUFFER.try_with(|buffer| {
            let mut buffer = buffer.borrow_mut();
            buffer.resize(MAX_MESSAGE, 0);
            self.recv_into(&mut buffer, flags)
        });
        // At the exit of a process the thread's own values are gone.
        kept.unwrap_or_else(|_| self.recv_into(&mut vec![0; MAX_MESSAGE], flags))
    }

    fn recv_into(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let came = match retried(|| recvmsg(&self.fd, &mut [IoSliceMut::new(buffer)], &mut beside, flags)) {
            Ok(came) => came,
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        let fds = received_fds(&mut beside)?;
        if came.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            let message = format!(
                "a message came that is cut: more than {MAX_MESSAGE} bytes or {MAX_FDS} fds, or no fd was left"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if came.bytes == 0 {
            return Ok(Received::Closed);
        }
        Ok(Received::Message(Message { bytes: buffer[..came.bytes].to_vec(), fds }))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Link {
    fn from(fd: OwnedFd) -> Link {
        Link { fd }
    }
}

impl From<Link> for OwnedFd {
    fn from(link: Link) -> OwnedFd {
        link.fd
    }
}

/// Repeats a call that a signal interrupted or a reset ended. If an end was closed before it had
/// read this end's messages, the kernel reports a reset once, ahead of the messages that the closed
/// end had sent. The next calls return those messages, then the end of file or `EPIPE`.
fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            result => return result,
        }
    }
}

extern "C" fn start_timer(_signal: libc::c_int) {
    let later = LATER.load(Ordering::Relaxed);
    let value = libc::timespec { tv_sec: (later / 1000) as libc::time_t, tv_nsec: (later % 1000) as i64 * 1_000_000 };
    let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: timer_settime may be called in a signal handler. If the timer belongs to a process
    // that this one was forked from, the kernel does not know it and does nothing. The value is
    // read from a live local. errno is restored, because the interrupted code may be about to read
    // it.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::timer_settime(TIMER.load(Ordering::Acquire), 0, &raw const once, std::ptr::null_mut());
        *errno = before;
    }
}

fn free_realtime_signal() -> io::Result<libc::c_int> {
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        // SAFETY: zero is a valid value of the C structure, which the call writes.
        let action = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            checked(libc::sigaction(signal, std::ptr::null(), &raw mut action))?;
            action
        };
        if action.sa_sigaction == libc::SIG_DFL {
            return Ok(signal);
        }
    }
    Err(io::Error::other("each real-time signal has a handler already"))
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
