//! Bytes from the other end of a connection, made of any bytes; see [`crate::fuzzing`].

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::Connection;
use super::authentication::{self as auth, Key};
use super::frame::{Header, Parsed, parse};
use crate::Error;

/// As much as goes into a socket that nobody reads yet.
const MOST: usize = 64 * 1024;

/// Frames over a connection: those that come are those that a plain reading finds, and then it ends
/// alike, whether the connection reads ahead, and is handed on between two frames, or not.
///
/// Of the input: these two and the limit, in one byte; what comes over the socket.
pub fn framing(data: &[u8]) {
    let Some((first, stream)) = data.split_first().filter(|(_, stream)| stream.len() <= MOST) else { return };
    let (ahead, handed_on, limit) = (first % 2 == 1, first / 2 % 2 == 1, u64::from(first / 4) * 8);
    let (mut theirs, ours) = UnixStream::pair().expect("fds are left");
    theirs.write_all(stream).expect("there is room for it");
    drop(theirs);
    let mut connection = Connection::from_fd(ours.into()).expect("it is a stream socket");
    connection.set_read_ahead(ahead);
    connection.set_max_frame(limit);
    let mut rest = stream;
    loop {
        let expected = plain(rest, limit);
        match (connection.recv(None, |payload, fds| (payload.to_vec(), fds.len())), expected) {
            (Ok((payload, 0)), Plain::Frame(len, next)) => {
                assert_eq!(payload, rest[next - len..next]);
                rest = &rest[next..];
            }
            (Err(Error::ConnectionClosed), Plain::End) => break,
            (Err(Error::Malformed(_)), Plain::Defect) => {
                let again = connection.recv(None, |_, _| ());
                assert!(matches!(again, Err(Error::Malformed(_))), "what is broken stays broken");
                break;
            }
            (got, _) => panic!("{got:?} of {rest:?}"),
        }
        if handed_on {
            let state = connection.state().expect("no handles are in it");
            let (socket, _) = connection.into_parts();
            connection = Connection::attach(socket, &state).expect("it is a connection's");
        }
    }
    // The state of a connection comes from other processes, too.
    let (socket, _) = UnixStream::pair().expect("fds are left");
    if let Ok(connection) = Connection::attach(socket.into(), stream) {
        assert!(connection.state().expect("no handles are in it").len() <= stream.len().max(10));
    }
}

#[derive(Debug)]
enum Plain {
    /// So many bytes of payload, and where the next frame begins.
    Frame(usize, usize),
    End,
    Defect,
}

/// The frame at the beginning, by the words of the protocol. The frame's own parser must say the
/// same of it.
fn plain(stream: &[u8], limit: u64) -> Plain {
    let found = match stream {
        [] => return Plain::End,
        [255, 255, 255, 255, len @ ..] if len.len() >= 8 => {
            Some((12, u64::from_be_bytes(len[..8].try_into().expect("eight bytes"))))
        }
        [first @ 0..128, second, third, fourth, ..] => {
            Some((4, u64::from(u32::from_be_bytes([*first, *second, *third, *fourth]))))
        }
        _ => None,
    };
    let parsed = parse(stream, limit);
    match found.filter(|(head, len)| *len <= limit && stream.len() - head >= *len as usize) {
        Some((head, len)) => {
            let end = head + len as usize;
            assert_eq!(parsed, Ok(Parsed::Whole { begin: head, end }));
            assert!(head == 12 || stream.starts_with(Header::of(len as usize).as_bytes()));
            Plain::Frame(len as usize, end)
        }
        None => {
            assert!(!matches!(parsed, Ok(Parsed::Whole { .. })), "{parsed:?} of {stream:?}");
            Plain::Defect
        }
    }
}

/// Somebody without the key, in either role: whatever is said, no authentication succeeds, and what
/// is answered is short.
///
/// Of the input: the role, in one byte; what comes over the socket, which is then closed.
pub fn authentication(data: &[u8]) {
    let key = Key::new(b"a key that the other end has not").expect("it has bytes");
    if let Ok(answer) = key.answer(data) {
        let message = &data[11..];
        assert!(answer.len() <= 40 && data == auth::challenge(message));
        assert!(answer.starts_with(b"{md5}") || key.accepts(message, &answer));
    }
    assert!(!key.accepts(data, data));
    let Some((role, said)) = data.split_first().filter(|(_, said)| said.len() <= MOST) else { return };
    let (mut theirs, ours) = UnixStream::pair().expect("fds are left");
    theirs.write_all(said).expect("there is room for it");
    theirs.shutdown(Shutdown::Write).expect("it is open");
    let connection = Connection::from_fd(ours.into()).expect("it is a stream socket");
    let deadline = Instant::now() + Duration::from_secs(10);
    let proved = match role % 2 {
        0 => auth::accept(&connection, &key, deadline),
        _ => auth::connect(&connection, &key, deadline),
    };
    assert!(matches!(proved, Err(Error::Authentication(_))), "{proved:?}");
}
