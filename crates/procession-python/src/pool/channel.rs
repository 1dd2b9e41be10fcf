//! One end of the way between a worker and its carrier, or between a process that runs tasks and
//! its agent. In Python it is `procession.remote._messages.Channel`.
//!
//! ```text
//! message  kind (1 byte; the top bit: the body is in the memfd), length (8 bytes), body
//! ```
//!
//! A message that is not answered yet is the only one on its way, so that the memfd has one body at
//! most.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use procession_core::descriptor;

/// The longest message: longer than any task or result may be.
const MAX_MESSAGE: u64 = 1 << 33;
/// The memory that is kept for the next message.
pub(super) const KEPT: usize = 1 << 20;
/// A longer body is sent apart from its head.
const SMALL: usize = 64 * 1024;
/// A longer body goes through the memfd: a socket would wake its reader for each part.
const MIN_BULK: usize = 1 << 20;
/// Of a memfd that has grown beyond, the memory is given back.
const MAX_BULK_KEPT: usize = 1 << 28;
const IN_BULK: u8 = 0x80;

#[derive(Debug)]
pub(super) struct Channel {
    socket: UnixStream,
    bulk: File,
}

impl Channel {
    /// The file descriptors stay the caller's.
    pub(super) fn of_fds(socket: RawFd, bulk: RawFd) -> io::Result<Channel> {
        Ok(Channel { socket: descriptor::duplicate(socket)?.into(), bulk: descriptor::duplicate(bulk)?.into() })
    }

    /// Sends a message whose body is in parts.
    pub(super) fn send(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len >= MIN_BULK {
            let mut at = 0;
            for part in parts {
                self.bulk.write_all_at(part, at)?;
                at += part.len() as u64;
            }
            return self.send_head(kind | IN_BULK, len, &[]);
        }
        if len <= SMALL {
            return self.send_head(kind, len, parts);
        }
        self.send_head(kind, len, &[])?;
        parts.iter().try_for_each(|part| self.socket.write_all(part))
    }

    fn send_head(&mut self, kind: u8, len: usize, parts: &[&[u8]]) -> io::Result<()> {
        let mut head = Vec::with_capacity(9 + parts.iter().map(|part| part.len()).sum::<usize>());
        head.push(kind);
        head.extend_from_slice(&(len as u64).to_le_bytes());
        parts.iter().for_each(|part| head.extend_from_slice(part));
        self.socket.write_all(&head)
    }

    /// Reads a message into `body` and returns its kind; `None` if the other end is closed.
    /// `on_signal` is called when a signal ends a read.
    pub(super) fn receive(&mut self, body: &mut Vec<u8>, on_signal: impl Fn()) -> io::Result<Option<u8>> {
        let mut head = [0; 9];
        if !self.fill(&mut head, &on_signal)? {
            return Ok(None);
        }
        let [kind, ref len @ ..] = head;
        let len = u64::from_le_bytes(*len);
        let too_long = || io::Error::new(ErrorKind::InvalidData, format!("a message of {len} bytes is too long"));
        let len = usize::try_from(len).ok().filter(|len| *len as u64 <= MAX_MESSAGE).ok_or_else(too_long)?;
        body.clear();
        body.try_reserve_exact(len).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        body.resize(len, 0);
        if kind & IN_BULK != 0 {
            self.bulk.read_exact_at(body, 0)?;
            if len > MAX_BULK_KEPT {
                self.bulk.set_len(0)?;
            }
        } else if len > 0 && !self.fill(body, &on_signal)? {
            return Ok(None);
        }
        Ok(Some(kind & !IN_BULK))
    }

    /// Reads as much as `buffer` holds; `false` if the other end is closed before.
    fn fill(&mut self, mut buffer: &mut [u8], on_signal: &impl Fn()) -> io::Result<bool> {
        while !buffer.is_empty() {
            match self.socket.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(len) => buffer = &mut buffer[len..],
                Err(error) if error.kind() == ErrorKind::Interrupted => on_signal(),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
