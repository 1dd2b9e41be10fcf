//! A process's side of its tracker: the link to it, which every process of the program shares; the
//! tracker itself, in the process that started it; and the names that this process has made. Used
//! in any process, from any thread. [`tracker`](crate::tracker) says what the tracker is for.

use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_sys::link::{Link, Message};
use procession_sys::named::Identity;
use procession_sys::per_process::PerProcess;

use crate::child::Child;
use crate::wire::{Reader, Writer};
use crate::{Error, Result};

pub(crate) const REGISTER: u8 = 1;
pub(crate) const FORGET: u8 = 2;

/// A process's side of its tracker.
#[derive(Debug, Default)]
pub(crate) struct TrackerLink {
    /// The sending end.
    pub(crate) link: Option<Arc<Link>>,
    /// The tracker, in the process that started it.
    pub(crate) process: Option<Child>,
    /// The names that this process has reported, for another tracker if this one is killed.
    pub(crate) names: Vec<Name>,
}

/// A name, as a process tells the tracker of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

/// This process's.
pub(crate) fn tracker_link() -> MutexGuard<'static, TrackerLink> {
    static LINK: PerProcess<Mutex<TrackerLink>> = PerProcess::new(Mutex::default);
    LINK.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what a child is to [inherit].
pub(crate) fn to_inherit() -> Option<Arc<Link>> {
    tracker_link().link.clone()
}

/// In a new process: shares its parent's tracker.
pub(crate) fn inherit(link: Arc<Link>) {
    tracker_link().link = Some(link);
}

impl TrackerLink {
    /// Sends a message about a name. `false` if there is no tracker, or none any more.
    pub(crate) fn send_name(&mut self, what: u8, name: &Name) -> Result<bool> {
        let Some(link) = &self.link else { return Ok(false) };
        let told = send(link, what, name)?;
        if !told {
            self.link = None;
            if let Some(process) = self.process.take() {
                process.wait(None)?;
            }
        }
        Ok(told)
    }
}

/// Sends a message about a name. `false` if the tracker is gone.
pub(crate) fn send(link: &Link, what: u8, name: &Name) -> Result<bool> {
    match link.send(&[IoSlice::new(&name.message(what))], &[]) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::os("cannot tell the tracker of shared memory of a name")(error)),
    }
}

impl Name {
    fn message(&self, what: u8) -> Vec<u8> {
        let Identity { device, inode } = self.identity;
        Writer::default().u8(what).u64(device).u64(inode).bytes(self.name.as_bytes()).0
    }

    /// In the tracker: reads what [`send`] sent.
    pub(crate) fn parse(message: &Message) -> Option<(u8, Name)> {
        let mut reader = Reader(&message.bytes);
        let what = reader.u8()?;
        let identity = Identity { device: reader.u64()?, inode: reader.u64()? };
        let name = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
        Some((what, Name { name, identity }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_and_every_cut_is_refused() {
        let name = Name { name: "psm_12".into(), identity: Identity { device: 7, inode: u64::MAX } };
        let bytes = name.message(FORGET);
        for cut in 0..bytes.len() {
            assert_eq!(Name::parse(&Message { bytes: bytes[..cut].to_vec(), fds: Vec::new() }), None, "cut at {cut}");
        }
        assert_eq!(Name::parse(&Message { bytes, fds: Vec::new() }), Some((FORGET, name)));
    }
}
