//! The bytes that were received and not taken yet. They belong to the thread whose turn it is.
//!
//! # Reading ahead
//!
//! A header and its payload would be two calls of the kernel, and a small round trip cannot afford
//! the second one: the call asks for more than the header, and may so find the beginning of later
//! frames too. They stay here for the next `recv`. Without reading ahead no call asks for a byte
//! beyond the frame, at the price of two calls a frame; that is for an end from which several
//! processes receive in turn.
//!
//! # Whose fds they are
//!
//! A sender gives a frame's fds along with the call that sends its first byte. The kernel hands
//! bytes of several calls out together, but ends a read behind the piece that had fds, so a read
//! has those of one piece at most, and that piece is the last. Therefore: the fds of a read belong
//! to the last frame that begins within its bytes. If none begins there, they came in the middle of
//! a frame, which no connection sends.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use procession_sys::socket::{self, Incoming};

use super::frame::{self, Parsed};
use crate::{Error, Result};

/// The number of bytes asked for at once; a small frame is far smaller.
const AHEAD: usize = 16 * 1024;
/// Room that is made for a frame before any of its bytes came. Beyond it, room is only ever
/// doubled.
const AT_FIRST: usize = 64 * 1024;
/// Room that is kept between frames.
const KEPT: usize = 256 * 1024;

/// Bytes of frames and the fds that belong to them.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    /// The beginning of the first frame that was not taken.
    taken: usize,
    /// The end of what was received.
    filled: usize,
    /// By the beginning of their frame; in order.
    handles: VecDeque<(usize, Vec<OwnedFd>)>,
    /// Why nothing can be taken any more.
    defect: Option<String>,
}

/// The front of an inbox: a whole frame, or a part of one.
#[derive(Debug)]
pub(super) enum Front {
    /// A frame: where its payload is, and its fds. It is taken with this.
    Frame(Range<usize>, Vec<OwnedFd>),
    /// Part of one: so many bytes from its beginning are needed.
    Needs(usize),
}

impl Inbox {
    /// One that begins with bytes which another process received.
    pub(super) fn with(bytes: Vec<u8>) -> Inbox {
        Inbox { filled: bytes.len(), buffer: bytes, ..Inbox::default() }
    }

    /// Takes the frame at the front, if it is whole.
    #[inline]
    pub(super) fn front(&mut self, limit: u64) -> Result<Front> {
        if let Some(defect) = &self.defect {
            return Err(Error::Malformed(defect.clone()));
        }
        match frame::parse(&self.buffer[self.taken..self.filled], limit) {
            Ok(Parsed::Needs(bytes)) => Ok(Front::Needs(bytes)),
            Ok(Parsed::Whole { begin, end }) => {
                let payload = self.taken + begin..self.taken + end;
                let handles = match self.handles.front() {
                    Some((of, _)) if *of == self.taken => self.handles.pop_front().map(|(_, fds)| fds),
                    _ => None,
                };
                self.taken = payload.end;
                Ok(Front::Frame(payload, handles.unwrap_or_default()))
            }
            Err(defect) => Err(self.broken(&format!("a frame cannot be received: {defect}"))),
        }
    }

    /// A payload of which [`front`](Self::front) told, until the next fill.
    pub(super) fn payload(&self, at: Range<usize>) -> &[u8] {
        &self.buffer[at]
    }

    /// Receives more of a frame of which `needs` bytes are known to be needed. `false`: nothing
    /// came until the deadline.
    pub(super) fn fill(
        &mut self,
        socket: BorrowedFd<'_>,
        needs: usize,
        ahead: bool,
        deadline: Option<Instant>,
    ) -> Result<bool> {
        let end = self.make_room(needs, ahead);
        let came = socket::receive(socket, &mut self.buffer[self.filled..end], deadline)
            .map_err(Error::os("cannot receive from a connection"))?;
        match came {
            Incoming::Bytes(count, fds) => {
                let before = self.filled;
                self.filled += count;
                if !fds.is_empty() {
                    self.keep(fds, before)?;
                }
                Ok(true)
            }
            Incoming::TimedOut => Ok(false),
            Incoming::End if self.taken == self.filled => Err(Error::ConnectionClosed),
            Incoming::End => {
                let have = self.filled - self.taken;
                Err(self.broken(&format!("the other end was closed in the middle of a frame: {have} bytes of it came")))
            }
            Incoming::FdsLost => Err(self.broken(
                "handles of a message were lost on the way: it had too many, or this process may open no more files",
            )),
        }
    }

    /// Returns whether the next `recv` has an answer without the socket.
    pub(super) fn is_ready(&self, limit: u64) -> bool {
        let unfinished = frame::parse(&self.buffer[self.taken..self.filled], limit);
        self.defect.is_some() || !matches!(unfinished, Ok(Parsed::Needs(_)))
    }

    /// Returns the bytes that were received and not taken, for another process that goes on with
    /// the connection.
    ///
    /// # Errors
    ///
    /// Returns what has been received and not taken.
    pub(super) fn unread(&self) -> Result<&[u8]> {
        if let Some(defect) = &self.defect {
            return Err(Error::Malformed(defect.clone()));
        }
        if !self.handles.is_empty() {
            let text = "this connection holds messages with handles that were received and not taken: recv() them before \
                        it is sent away";
            return Err(Error::Invalid(text.into()));
        }
        Ok(&self.buffer[self.taken..self.filled])
    }

    /// Room behind what is filled, for a frame that needs so many bytes; gives its end. A header
    /// that promises much and brings nothing costs [`AT_FIRST`].
    fn make_room(&mut self, needs: usize, ahead: bool) -> usize {
        let have = self.filled - self.taken;
        if have == 0 {
            (self.taken, self.filled) = (0, 0);
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
        let whole = if ahead { needs.max(AHEAD) } else { needs };
        let room = whole.min(AT_FIRST.max(have.saturating_mul(2)));
        if self.taken + room > self.buffer.len() {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.handles.iter_mut().for_each(|(of, _)| *of -= self.taken);
            (self.taken, self.filled) = (0, have);
            self.buffer.resize(room.max(self.buffer.len()), 0);
        }
        self.taken + room
    }

    /// Gives the fds that came with the bytes behind `before` to the last frame that begins there.
    fn keep(&mut self, fds: Vec<OwnedFd>, before: usize) -> Result<()> {
        let mut begin = self.taken;
        let mut last = None;
        while begin < self.filled {
            if begin >= before {
                last = Some(begin);
            }
            // No limit: a frame that is too long is found to be so when its turn comes.
            match frame::parse(&self.buffer[begin..self.filled], u64::MAX) {
                Ok(Parsed::Whole { end, .. }) => begin += end,
                Ok(Parsed::Needs(_)) | Err(_) => break,
            }
        }
        let Some(last) = last else { return Err(self.broken("handles came in the middle of a frame")) };
        self.handles.push_back((last, fds));
        Ok(())
    }

    /// There is no way back into a stream whose frames are lost.
    fn broken(&mut self, defect: &str) -> Error {
        self.handles.clear();
        self.buffer = Vec::new();
        (self.taken, self.filled) = (0, 0);
        let defect = mem::take(&mut self.defect).unwrap_or_else(|| defect.to_owned());
        self.defect = Some(defect.clone());
        Error::Malformed(defect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(20))
    }

    #[test]
    fn a_promise_is_no_allocation() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::default();
        theirs.write_all(&0x4000_0000i32.to_be_bytes()).unwrap();
        let mut needs = 4;
        for _ in 0..10 {
            match inbox.front(1 << 40).unwrap() {
                Front::Needs(bytes) => needs = bytes,
                Front::Frame(..) => panic!("there is no payload"),
            }
            inbox.fill(ours.as_fd(), needs, true, Some(Instant::now())).unwrap();
        }
        assert_eq!(needs, 0x4000_0004);
        assert!(inbox.buffer.capacity() <= 2 * AT_FIRST, "{}", inbox.buffer.capacity());
    }

    #[test]
    fn without_reading_ahead_later_frames_stay_in_the_socket() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        theirs.write_all(&[0, 0, 0, 1, 7, 0, 0, 0, 1, 8]).unwrap();
        for (ahead, left) in [(false, 5), (true, 0)] {
            let mut inbox = Inbox::default();
            let payload = loop {
                match inbox.front(100).unwrap() {
                    Front::Needs(needs) => assert!(inbox.fill(ours.as_fd(), needs, ahead, soon()).unwrap()),
                    Front::Frame(payload, _) => break inbox.payload(payload).to_vec(),
                }
            };
            assert_eq!(payload.len(), 1);
            assert_eq!(rustix::io::ioctl_fionread(&ours).unwrap(), left);
        }
    }

    #[test]
    fn what_is_broken_stays_broken() {
        let mut inbox = Inbox::with(vec![0x80, 0, 0, 0]);
        for _ in 0..2 {
            assert!(inbox.is_ready(9));
            assert!(matches!(inbox.front(9), Err(Error::Malformed(why)) if why.contains("-2147483648")));
        }
    }
}
