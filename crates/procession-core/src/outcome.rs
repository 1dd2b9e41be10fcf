//! The outcome of a target. A child writes it as the last message on its link. The parent reads it
//! once the child has ended, so that nobody ever waits for a message that a dead process owes.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;

use procession_sys::ExitStatus;
use procession_sys::image::BuildId;
use procession_sys::link::{Link, Message, Received};
use procession_sys::memfd;
use procession_sys::pidfd::{PidFd, current_pid};

use crate::confinement::Limit;
use crate::wire::{Reader, Writer};

/// The end of a target, in the one word that both faces agree on. The payload beside it is in the
/// face's codec.
pub mod tag {
    /// The target returned; the payload is its value.
    pub const VALUE: u32 = 0;
    /// The target panicked (raised); the payload describes the panic.
    pub const PANIC: u32 = 1;
    /// The argument did not decode in the child; the payload says why.
    pub const UNDECODABLE: u32 = 2;
    /// The value did not encode in the child; the payload says why.
    pub const UNENCODABLE: u32 = 3;
    /// The worker died while it ran the task; the payload is a [`super::Loss`]. Written by the
    /// parent.
    pub const LOST: u32 = 4;
    /// The task ran longer than it was given, and its worker was ended; the payload is a
    /// [`super::Loss`]. Written by the parent.
    pub const TIMED_OUT: u32 = 5;
    /// The worker has no memory for the task's argument, by a limit of its own; the payload says
    /// why.
    pub const NO_MEMORY: u32 = 6;
    /// The job's state did not decode in the worker; the payload says why.
    pub const STATE_UNDECODABLE: u32 = 7;
    /// The target returned an error of its own, which is not its value; the payload describes the
    /// error.
    pub const FAILED: u32 = 8;
    /// The child could not be confined as it was to be; the payload says why.
    pub const UNCONFINED: u32 = 9;
    /// The process could not be started on another machine; the payload says why.
    pub const NOT_STARTED: u32 = 10;
}

/// Larger payloads go beside the message in a memfd, since one message must fit the link's buffer
/// whole.
pub(crate) const INLINE_LIMIT: usize = 16 * 1024;

/// The most messages that are read from a child. One that behaves sends three.
const MAX_MESSAGES: usize = 1024;

const HELLO: u8 = 1;
const REFUSED: u8 = 2;
const RETURNED: u8 = 3;
const FAILED: u8 = 4;
const EXITED: u8 = 5;
const MISPLACED: u8 = 6;

/// The outcome of a child's target, as the parent knows it after the child has ended.
#[derive(Debug)]
pub enum Outcome {
    /// The target came to its end; see [`tag`].
    Returned {
        /// One of [`tag`].
        tag: u32,
        /// In the codec of the face.
        payload: Vec<u8>,
    },
    /// The child began, and ended inside its target.
    Died,
    /// The child never reached its bootstrap.
    NotReached,
    /// The child is another build of the program.
    OtherBuild(BuildId),
    /// The child reached its bootstrap where it cannot begin; why.
    Misplaced(String),
    /// A message on the link is none that a child sends.
    Malformed,
}

/// A worker's death as one task saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The worker that ran the task.
    pub pid: u32,
    /// Its exit code; negative: the signal that killed it; `None`: unknown, its status was taken by
    /// another wait.
    pub code: Option<i32>,
    /// True if the kernel's OOM killer ended the worker; `None`: that cannot be known here.
    pub by_oom_killer: Option<bool>,
    /// The limit that it has run into.
    pub limit: Option<Limit>,
    /// The index of the task's call that it ran.
    pub call: u32,
    /// The machine that it was on, if that was another one.
    pub host: Option<Arc<str>>,
}

/// In a loss: what the OOM killer did is not known.
const UNKNOWN: u8 = 2;

impl Loss {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let message = Writer::default().u32(self.pid).u8(self.code.is_some().into());
        let killer = self.by_oom_killer.map_or(UNKNOWN, u8::from);
        let (limit, number) = self.limit.map_or((0, 0), Limit::to_parts);
        let message = message.u32(self.code.unwrap_or(0).cast_unsigned()).u8(killer);
        message.u8(limit).u64(number).u32(self.call).bytes(self.host.as_deref().unwrap_or_default().as_bytes()).0
    }

    /// Reads the payload of [`tag::LOST`].
    pub fn decode(payload: &[u8]) -> Option<Loss> {
        let mut reader = Reader(payload);
        let (pid, known) = (reader.u32()?, reader.u8()? != 0);
        let code = reader.u32()?.cast_signed();
        let killer = reader.u8()?;
        let by_oom_killer = (killer != UNKNOWN).then_some(killer == 1);
        let limit = Limit::from_parts(reader.u8()?, reader.u64()?);
        let call = reader.u32()?;
        let host = String::from_utf8_lossy(reader.bytes()?);
        let host = (!host.is_empty()).then(|| Arc::from(host));
        Some(Loss { pid, code: known.then_some(code), by_oom_killer, limit, call, host })
    }
}

/// Child: says that the bootstrap was reached, and attaches its own pidfd where the parent cannot
/// know it otherwise.
pub fn send_hello(link: &Link, me: Option<&PidFd>) -> io::Result<()> {
    let message = Writer::default().u8(HELLO).u32(current_pid()).0;
    let fds: Vec<_> = me.iter().map(|pidfd| pidfd.as_fd()).collect();
    link.send_now(&[IoSlice::new(&message)], &fds)
}

/// Child: says that it is another build and will not run the target.
pub(crate) fn send_refusal(link: &Link) -> io::Result<()> {
    let message = Writer::default().u8(REFUSED).bytes(BuildId::current().as_bytes()).0;
    link.send_now(&[IoSlice::new(&message)], &[])
}

/// Child: says why it cannot begin where it is.
pub(crate) fn send_misplaced(link: &Link, why: &str) -> io::Result<()> {
    let message = Writer::default().u8(MISPLACED).bytes(why.as_bytes()).0;
    link.send_now(&[IoSlice::new(&message)], &[])
}

/// Child: leaves what the target produced. Never blocks, whether the parent reads or not.
pub fn send_returned(link: &Link, tag: u32, payload: &[u8]) -> io::Result<()> {
    let header = Writer::default().u8(RETURNED).u32(tag).0;
    if payload.len() <= INLINE_LIMIT {
        return link.send_now(&[IoSlice::new(&header), IoSlice::new(payload)], &[]);
    }
    let beside = memfd::from_bytes("procession-outcome", payload)?;
    link.send_now(&[IoSlice::new(&header)], &[beside.as_fd()])
}

/// Fork server: says that the child could not be made.
pub fn send_failure(link: &Link, error: &io::Error) -> io::Result<()> {
    let text = error.to_string();
    let message = Writer::default().u8(FAILED).bytes(text.as_bytes()).0;
    link.send_now(&[IoSlice::new(&message)], &[])
}

/// Owner: what [`send_failure`] said.
pub fn parse_failure(message: &Message) -> Option<io::Error> {
    let mut reader = Reader(&message.bytes);
    let failed = reader.u8()? == FAILED;
    let text = reader.bytes()?;
    failed.then(|| io::Error::other(String::from_utf8_lossy(text).into_owned()))
}

/// Fork server: says how a child ended that it has reaped. `None`: nobody can know.
pub(crate) fn send_exited(link: &Link, status: Option<ExitStatus>) -> io::Result<()> {
    let code = status.map_or(0, ExitStatus::code).cast_unsigned();
    let message = Writer::default().u8(EXITED).u8(status.is_some().into()).u32(code).0;
    link.send_now(&[IoSlice::new(&message)], &[])
}

/// The messages that a parent has received on the link of one child.
#[derive(Debug)]
pub(crate) struct Heard {
    began: bool,
    outcome: Option<Outcome>,
    messages: usize,
    /// The child's exit status as the fork server reported it; `None` before its report.
    pub(crate) exited: Option<Option<ExitStatus>>,
}

impl Heard {
    /// `began`: the child is known to have reached its bootstrap, so that its hello is not waited
    /// for.
    pub(crate) fn new(began: bool) -> Heard {
        Heard { began, outcome: None, messages: 0, exited: None }
    }

    /// Takes in what has come, or why it is no message. A child may send anything.
    pub(crate) fn take(&mut self, message: io::Result<&Message>) {
        self.messages += 1;
        if message.and_then(|message| self.take_message(message)).is_err() {
            self.outcome = Some(Outcome::Malformed);
        }
    }

    /// Returns whether so much has come that no more is to be read: a process that the child has
    /// left behind may go on for ever.
    pub(crate) fn has_enough(&self) -> bool {
        self.messages >= MAX_MESSAGES
    }

    fn take_message(&mut self, message: &Message) -> io::Result<()> {
        let mut reader = Reader(&message.bytes);
        match reader.u8() {
            Some(HELLO) => self.began = true,
            Some(REFUSED) => {
                let build = reader.bytes().ok_or_else(malformed)?;
                self.outcome = Some(Outcome::OtherBuild(BuildId::from_bytes(build)));
            }
            Some(MISPLACED) => {
                let why = reader.bytes().ok_or_else(malformed)?;
                self.outcome = Some(Outcome::Misplaced(String::from_utf8_lossy(why).into_owned()));
            }
            Some(RETURNED) => {
                let tag = reader.u32().ok_or_else(malformed)?;
                let payload = match message.fds.first() {
                    Some(beside) => memfd::read_all(beside.as_fd())?,
                    None => reader.0.to_vec(),
                };
                self.outcome = Some(Outcome::Returned { tag, payload });
            }
            Some(EXITED) => {
                let is_known = reader.u8().ok_or_else(malformed)? != 0;
                let code = reader.u32().ok_or_else(malformed)?.cast_signed();
                let status = if code < 0 { ExitStatus::signaled(-code) } else { ExitStatus::exited(code) };
                self.exited = Some(is_known.then_some(status));
            }
            // The server could not keep a child that had begun, and killed it: so its end is known.
            Some(FAILED) => {}
            _ => return Err(malformed()),
        }
        Ok(())
    }

    /// Returns the outcome of the target, now that the child has ended.
    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome.unwrap_or(if self.began { Outcome::Died } else { Outcome::NotReached })
    }
}

/// Parent: reads what a child that has ended left on its link. `began` says that the child needed
/// no hello (fork).
pub(crate) fn read(link: &Link, began: bool) -> io::Result<Outcome> {
    let mut heard = Heard::new(began);
    while !heard.has_enough() {
        match link.recv_now() {
            Ok(Received::Message(message)) => heard.take(Ok(&message)),
            Ok(Received::Nothing | Received::Closed) => break,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => heard.take(Err(error)),
            Err(error) => return Err(error),
        }
    }
    Ok(heard.into_outcome())
}

/// Owner: whether the fork server says that the child ended before it could say who it is.
pub(crate) fn is_exited(message: &Message) -> bool {
    message.bytes.first() == Some(&EXITED)
}

/// Parent: the pid and pidfd in a hello.
pub fn parse_hello(message: Message) -> Option<PidFd> {
    let mut reader = Reader(&message.bytes);
    let (kind, pid) = (reader.u8()?, reader.u32()?);
    let pidfd = message.fds.into_iter().next()?;
    (kind == HELLO).then(|| PidFd::from_parts(pidfd, pid))
}

/// Parent: whether the child says that it has reached its bootstrap.
pub(crate) fn is_hello(message: &Message) -> bool {
    message.bytes.first() == Some(&HELLO)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a child's message is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_outcomes_arrive_whole() {
        for len in [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 3 << 20] {
            let (ours, theirs) = Link::pair().unwrap();
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            send_hello(&theirs, None).unwrap();
            send_returned(&theirs, tag::PANIC, &payload).unwrap();
            drop(theirs);
            match read(&ours, false).unwrap() {
                Outcome::Returned { tag, payload: got } => assert!(tag == tag::PANIC && got == payload, "{len} bytes"),
                other => panic!("{len} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn silence_is_a_death_or_a_missing_init() {
        let (ours, theirs) = Link::pair().unwrap();
        drop(theirs);
        assert!(matches!(read(&ours, false).unwrap(), Outcome::NotReached));
        assert!(matches!(read(&ours, true).unwrap(), Outcome::Died));
    }

    #[test]
    fn a_loss_keeps_its_sign() {
        let codes = [None, Some(0), Some(3), Some(-9)];
        for (code, by_oom_killer) in codes.into_iter().zip([None, Some(true), Some(false), Some(true)]) {
            let limit = code.map(|_| Limit::Memory(1 << 40));
            let host = code.map(|code| Arc::from(format!("node{code}")));
            let loss = Loss { pid: 42, code, by_oom_killer, limit, call: 7, host };
            assert_eq!(Loss::decode(&loss.encode()), Some(loss));
        }
        assert_eq!(Loss::decode(&[1, 2]), None);
    }
}
