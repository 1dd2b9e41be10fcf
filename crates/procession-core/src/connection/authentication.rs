//! Two ends prove to each other that they know the same key, and the key does not travel: the
//! mutual challenge of Python's `multiprocessing.connection`. Runs in the thread that accepts or
//! connects, before anything else goes over a connection.
//!
//! One end sends `#CHALLENGE#` and a message of random bytes, the other answers with the message's
//! HMAC under the key, and is told `#WELCOME#` or `#FAILURE#`. Then the roles change. The end that
//! listens challenges first, so that nothing is computed with the key for a stranger.
//!
//! | who | challenge | answers a message | accepts as an answer |
//! |---|---|---|---|
//! | Python up to 3.11 | 20 bytes | HMAC-MD5 | HMAC-MD5 |
//! | Python from 3.12 | `{sha256}` and 40 bytes | of 20 bytes: HMAC-MD5; with a digest's name: that name and its HMAC | both |
//! | here | as from 3.12 | as from 3.12 | as from 3.12 |
//!
//! An older Python takes `{sha256}` for a part of the random bytes, which it is: the HMAC covers
//! it, so that nobody in the middle can talk two newer ends down. A man in the middle can only pass
//! messages on. Then he knows the connection's data, and no key. Over a network that others can
//! change, tunnel it.

use std::fmt;
use std::time::{Duration, Instant};

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use procession_sys::random;
use sha2::Sha256;

use super::Connection;
use crate::{Error, Result};

/// The time that an authentication may take unless told otherwise.
pub const AUTHENTICATION_TIME: Duration = Duration::from_secs(10);

/// The longest message of an authentication.
pub const MAX_MESSAGE: u64 = 256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const SHA256: &[u8] = b"{sha256}";
const MD5: &[u8] = b"{md5}";
/// Random bytes of a challenge.
const RANDOM: usize = 40;
/// The message of a Python that knows MD5 only.
const OLD_MESSAGE: usize = 20;
/// An answer that names no digest.
const OLD_ANSWER: usize = 16;

/// A secret that both ends know.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// From bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for none: that is no secret.
    pub fn new(bytes: &[u8]) -> Result<Key> {
        if bytes.is_empty() {
            return Err(Error::Invalid(
                "an authentication key needs at least one byte; 32 random ones are good".into(),
            ));
        }
        Ok(Key(bytes.to_vec()))
    }

    /// From bytes, also from none: with a key of none Python proves that both ends were given one.
    pub fn any(bytes: &[u8]) -> Key {
        Key(bytes.to_vec())
    }

    /// A new challenge: the message that is to be answered, to be sent as [`challenge`] puts it.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn message() -> Result<Vec<u8>> {
        let mut message = [SHA256, &[0; RANDOM]].concat();
        random::fill(&mut message[SHA256.len()..]).map_err(Error::os("cannot get random bytes"))?;
        Ok(message)
    }

    /// Returns the answer that proves to the sender of a challenge that this key is known.
    ///
    /// # Errors
    ///
    /// The defect of the challenge.
    pub fn answer(&self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        let message = challenge.strip_prefix(CHALLENGE).ok_or("it sent no challenge: does it use a key at all?")?;
        if message.len() == OLD_MESSAGE {
            return Ok(self.md5(message).finalize().into_bytes().to_vec());
        }
        if message.len() > OLD_MESSAGE && message.starts_with(SHA256) {
            return Ok([SHA256, &self.sha256(message).finalize().into_bytes()].concat());
        }
        if message.len() > OLD_MESSAGE && message.starts_with(MD5) {
            return Ok([MD5, &self.md5(message).finalize().into_bytes()].concat());
        }
        Err("its challenge is too short or wants another digest than sha256 or md5".into())
    }

    /// Returns whether an answer to a message proves that the key is known. Takes the same time
    /// wherever the answer differs.
    pub fn accepts(&self, message: &[u8], answer: &[u8]) -> bool {
        match answer.strip_prefix(SHA256) {
            Some(mac) => self.sha256(message).verify_slice(mac).is_ok(),
            None => answer.len() == OLD_ANSWER && self.md5(message).verify_slice(answer).is_ok(),
        }
    }

    fn sha256(&self, message: &[u8]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length").chain_update(message)
    }

    fn md5(&self, message: &[u8]) -> Hmac<Md5> {
        Hmac::<Md5>::new_from_slice(&self.0).expect("HMAC takes keys of any length").chain_update(message)
    }
}

impl fmt::Debug for Key {
    /// Says that there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A message as it is sent.
pub fn challenge(message: &[u8]) -> Vec<u8> {
    [CHALLENGE, message].concat()
}

/// The listening end's part.
pub(super) fn accept(connection: &Connection, key: &Key, deadline: Instant) -> Result<()> {
    deliver_challenge(connection, key, deadline)?;
    answer_challenge(connection, key, deadline)
}

/// The connecting end's part.
pub(super) fn connect(connection: &Connection, key: &Key, deadline: Instant) -> Result<()> {
    answer_challenge(connection, key, deadline)?;
    deliver_challenge(connection, key, deadline)
}

/// Makes sure that the other end knows the key.
///
/// # Errors
///
/// [`Error::Authentication`]; what the system refuses.
pub fn deliver_challenge(connection: &Connection, key: &Key, deadline: Instant) -> Result<()> {
    let message = Key::message()?;
    send(connection, &challenge(&message), deadline)?;
    let answer = recv(connection, deadline)?;
    if !key.accepts(&message, &answer) {
        // The verdict is clear whether or not the other end hears it.
        let _ = send(connection, FAILURE, deadline);
        return Err(failed("the other end does not know the key"));
    }
    send(connection, WELCOME, deadline)
}

/// Proves to the other end that this one knows the key.
///
/// # Errors
///
/// [`Error::Authentication`]; what the system refuses.
pub fn answer_challenge(connection: &Connection, key: &Key, deadline: Instant) -> Result<()> {
    let challenge = recv(connection, deadline)?;
    let answer =
        key.answer(&challenge).map_err(|why| failed(&format!("the other end is no authenticating one: {why}")))?;
    send(connection, &answer, deadline)?;
    match &*recv(connection, deadline)? {
        WELCOME => Ok(()),
        FAILURE => Err(failed("the other end has another key")),
        _ => Err(failed("the other end is no authenticating one: it gave neither welcome nor failure")),
    }
}

fn send(connection: &Connection, message: &[u8], deadline: Instant) -> Result<()> {
    connection.send(message, &[], Some(deadline)).map_err(in_authentication)
}

/// Fds that come here are closed: nobody has asked for them.
fn recv(connection: &Connection, deadline: Instant) -> Result<Vec<u8>> {
    connection.recv_limited(MAX_MESSAGE, Some(deadline), |message, _| message.to_vec()).map_err(in_authentication)
}

fn in_authentication(error: Error) -> Error {
    match error {
        Error::ConnectionClosed => failed("the other end closed the connection (has it a key at all, and the same?)"),
        Error::Timeout { .. } => failed("the other end did not say its part in time (does it use a key at all?)"),
        Error::Malformed(why) => failed(&format!("the other end is no authenticating one: {why}")),
        other => other,
    }
}

fn failed(why: &str) -> Error {
    Error::Authentication(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn answers_are_those_of_cpython() {
        // hmac.new(b"key", b"12345678901234567890", "md5") and hmac.new(b"key", b"{sha256}" + b"x"
        // * 40, "sha256")
        let key = Key::new(b"key").unwrap();
        let old = key.answer(b"#CHALLENGE#12345678901234567890").unwrap();
        assert_eq!(hex(&old), "4499513af22604cc656fe3079aeecf43");
        let message = [SHA256, &[b'x'; 40]].concat();
        let new = key.answer(&challenge(&message)).unwrap();
        assert_eq!(new[..8], *SHA256);
        assert_eq!(hex(&new[8..]), "fc6e095716948559f532f6b59bd051557239f32978aa33681f9fb3c610cb3af3");
    }

    #[test]
    fn an_answer_under_another_key_or_to_another_message_is_refused() {
        let (ours, theirs) = (Key::new(b"ours").unwrap(), Key::new(b"theirs").unwrap());
        let message = Key::message().unwrap();
        assert_ne!(message, Key::message().unwrap());
        let answer = ours.answer(&challenge(&message)).unwrap();
        assert!(ours.accepts(&message, &answer));
        assert!(!theirs.accepts(&message, &answer));
        assert!(!ours.accepts(&Key::message().unwrap(), &answer));
        for cut in 0..answer.len() {
            assert!(!ours.accepts(&message, &answer[..cut]), "cut to {cut}");
        }
        let old = ours.md5(&message).finalize().into_bytes();
        assert!(ours.accepts(&message, &old), "of an older Python");
    }

    #[test]
    fn what_is_no_challenge_is_not_answered() {
        let key = Key::new(b"key").unwrap();
        for challenge in ["", "hello", "#CHALLENGE#", "#CHALLENGE#{sha256}", "#CHALLENGE#{sha3_256}0123456789012345"] {
            assert!(key.answer(challenge.as_bytes()).is_err(), "{challenge}");
        }
        assert!(Key::new(b"").is_err());
        assert!(!format!("{key:?}").contains("107"));
    }
}
