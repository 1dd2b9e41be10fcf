//! The frame that Python's `multiprocessing.connection` puts around a message: its length,
//! big-endian, and its bytes. A length is 4 bytes, signed; beyond 2 GiB it is -1 and then 8 bytes,
//! unsigned. Pure: used by whoever sends or receives, in any thread.

use std::fmt;

/// Bytes of the usual header.
const SHORT: usize = 4;
/// Bytes of the header of a frame beyond 2 GiB.
const LONG: usize = SHORT + 8;
/// The greatest limit there can be: a frame and its header are one piece of memory.
pub const GREATEST_LIMIT: u64 = isize::MAX as u64 - LONG as u64;

/// The bytes before a payload.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; LONG],
    len: usize,
}

impl Header {
    /// Of a payload of so many bytes.
    pub fn of(payload: usize) -> Header {
        let mut bytes = [0; LONG];
        match i32::try_from(payload) {
            Ok(short) => {
                bytes[..SHORT].copy_from_slice(&short.to_be_bytes());
                Header { bytes, len: SHORT }
            }
            Err(_) => {
                bytes[..SHORT].copy_from_slice(&(-1i32).to_be_bytes());
                bytes[SHORT..].copy_from_slice(&(payload as u64).to_be_bytes());
                Header { bytes, len: LONG }
            }
        }
    }

    /// As it goes over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The beginning of a stream: a whole frame, or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Less than a frame: so many bytes from its beginning are known to be needed, be it for the
    /// header alone.
    Needs(usize),
    /// A whole frame, whose payload is between the two.
    Whole {
        /// The beginning of the payload.
        begin: usize,
        /// The end of it, at which the next frame begins.
        end: usize,
    },
}

/// Looks at the frame at the beginning of `bytes`. Its length is judged before anybody could make
/// room for it.
///
/// # Errors
///
/// A length that is negative, or beyond `limit`.
#[inline]
pub fn parse(bytes: &[u8], limit: u64) -> Result<Parsed, Defect> {
    let Some((short, rest)) = bytes.split_first_chunk::<SHORT>() else { return Ok(Parsed::Needs(SHORT)) };
    let (begin, len) = match i32::from_be_bytes(*short) {
        -1 => match rest.first_chunk() {
            Some(long) => (LONG, u64::from_be_bytes(*long)),
            None => return Ok(Parsed::Needs(LONG)),
        },
        negative @ ..-1 => return Err(Defect::Negative(negative)),
        short => (SHORT, short as u64),
    };
    let limit = limit.min(GREATEST_LIMIT);
    if len > limit {
        return Err(Defect::TooLong { len, limit });
    }
    let end = begin + len as usize;
    Ok(if bytes.len() < end { Parsed::Needs(end) } else { Parsed::Whole { begin, end } })
}

/// Why a stream does not go on as frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// No length.
    Negative(i32),
    /// More than the receiver takes.
    TooLong {
        /// The length in the header.
        len: u64,
        /// The limit of the receiver.
        limit: u64,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Negative(len) => write!(f, "its length is {len}: the other end does not speak in frames"),
            Defect::TooLong { len, limit } => {
                write!(f, "it is {len} bytes long, and {limit} is the limit: set_max_frame() allows more")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_multiprocessing() {
        assert_eq!(Header::of(0).as_bytes(), [0, 0, 0, 0]);
        assert_eq!(Header::of(0x1234).as_bytes(), [0, 0, 0x12, 0x34]);
        assert_eq!(Header::of(0x7fff_ffff).as_bytes(), [0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(Header::of(0x8000_0000).as_bytes(), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    }

    #[test]
    fn a_frame_is_known_by_degrees() {
        let frame = [0, 0, 0, 2, b'o', b'k', 0];
        for short in 0..4 {
            assert_eq!(parse(&frame[..short], 9), Ok(Parsed::Needs(4)));
        }
        assert_eq!(parse(&frame[..5], 9), Ok(Parsed::Needs(6)));
        assert_eq!(parse(&frame, 9), Ok(Parsed::Whole { begin: 4, end: 6 }));
        assert_eq!(parse(&[255, 255, 255, 255, 0, 0, 0], 9), Ok(Parsed::Needs(12)));
        assert_eq!(
            parse(&[255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1, 7], 9),
            Ok(Parsed::Whole { begin: 12, end: 13 })
        );
    }

    #[test]
    fn hostile_lengths_are_defects() {
        assert_eq!(parse(&(-2i32).to_be_bytes(), 9), Err(Defect::Negative(-2)));
        assert_eq!(parse(&i32::MIN.to_be_bytes(), 9), Err(Defect::Negative(i32::MIN)));
        assert_eq!(parse(&[0, 0, 0, 10], 9), Err(Defect::TooLong { len: 10, limit: 9 }));
        let greatest = Err(Defect::TooLong { len: u64::MAX, limit: GREATEST_LIMIT });
        assert_eq!(parse(&[255; 12], u64::MAX), greatest);
    }
}
