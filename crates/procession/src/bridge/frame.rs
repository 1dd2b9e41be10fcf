//! The frames on the sockets between the driver and its bridge program, and between an actor and
//! its agent. Both ends are on one machine. Written and read in the driver and in agents; the
//! Python half is `procession/remote/_frames.py`.
//!
//! ```text
//! frame   kind (1 byte), subject (4 bytes), length of the body (8 bytes), body
//! ```
//!
//! The subject is an agent, or the number of a question. Between an actor and its agent there are
//! only frames of the kind MESSAGE.

use std::io::{self, IoSlice, Read, Write};

/// To the bridge program, first: what program it is for.
pub(super) const PROGRAM: u8 = 1;
/// To the bridge program: how many workers have room? The answer is DONE, with the number.
pub(super) const CAPACITY: u8 = 2;
/// To the bridge program: hire so many agents, the first of which is the subject; start each. The
/// answer is DONE or REFUSED.
pub(super) const HIRE: u8 = 3;
/// To the bridge program: start an agent that was lost or has not started.
pub(super) const START: u8 = 4;
/// To the bridge program: let go of an agent.
pub(super) const RELEASE: u8 = 5;
/// Both ways: a message to or from an agent. Its first message says that it is up.
pub(super) const MESSAGE: u8 = 6;
/// To the driver, first: the bridge program has the cluster.
pub(super) const READY: u8 = 7;
/// To the driver, in its place: why not.
pub(super) const FAILED: u8 = 8;
/// To the driver: the answer to a question.
pub(super) const DONE: u8 = 9;
/// To the driver: why a question has no answer.
pub(super) const REFUSED: u8 = 10;
/// To the driver: why an agent has not started.
pub(super) const NOT_STARTED: u8 = 11;
/// To the driver: an agent that was up is gone, and why.
pub(super) const LOST: u8 = 12;
/// To the bridge program: a message to an agent, who answers it. One at a time is on its way to
/// each, and its call at the cluster brings the first answers back.
pub(super) const ASK: u8 = 13;

/// A longer body is refused: no message is so long.
const MAX_BODY: u64 = 1 << 33;
const HEAD: usize = 13;

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) subject: u32,
    pub(super) body: Vec<u8>,
}

/// Writes a frame. Waits while the other end takes none.
///
/// # Errors
///
/// If the other end is closed.
pub(super) fn write(to: &mut impl Write, kind: u8, subject: u32, body: &[u8]) -> io::Result<()> {
    let mut head = [kind; HEAD];
    head[1..5].copy_from_slice(&subject.to_le_bytes());
    head[5..].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let written = loop {
        match to.write_vectored(&[IoSlice::new(&head), IoSlice::new(body)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => break written?,
        }
    };
    match written.checked_sub(HEAD) {
        Some(of_body) => to.write_all(&body[of_body..]),
        None => to.write_all(&head[written..]).and_then(|()| to.write_all(body)),
    }
}

/// Reads a frame; `None` if the other end is closed.
///
/// # Errors
///
/// `InvalidData` if it is too long; `UnexpectedEof` if the other end was closed inside of it.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        read => read?,
    }
    let [kind, a, b, c, d, len @ ..] = head;
    let len = u64::from_le_bytes(len);
    if len > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
    }
    // Memory is taken as the bytes come.
    let mut body = Vec::with_capacity(len.min(1 << 20) as usize);
    from.take(len).read_to_end(&mut body)?;
    if (body.len() as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Frame { kind, subject: u32::from_le_bytes([a, b, c, d]), body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, HIRE, 7, b"body").unwrap();
        write(&mut bytes, READY, u32::MAX, b"").unwrap();
        let mut rest = &bytes[..];
        let first = read(&mut rest).unwrap().unwrap();
        assert_eq!((first.kind, first.subject, &first.body[..]), (HIRE, 7, &b"body"[..]));
        let second = read(&mut rest).unwrap().unwrap();
        assert_eq!((second.kind, second.subject, second.body.len()), (READY, u32::MAX, 0));
        assert!(read(&mut rest).unwrap().is_none());
    }

    #[test]
    fn cut_and_overlong_frames_are_errors() {
        let mut bytes = Vec::new();
        write(&mut bytes, MESSAGE, 1, b"body").unwrap();
        assert!(read(&mut &bytes[..bytes.len() - 1]).is_err());
        bytes[5..13].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&mut &bytes[..]).is_err());
    }
}
