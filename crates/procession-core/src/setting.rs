//! The setting of a child: what is put in place around its role before any code of a user runs
//! there. Made in the parent by whoever starts the child, sent with its preparation data, put in
//! place in its bootstrap.

use std::io;

use procession_sys::confine;
use procession_sys::link::Link;

use crate::confinement::Confinement;
use crate::output::{Recording, Streams};

/// See the module. The default changes nothing.
#[derive(Default, Debug)]
pub struct Setting {
    /// Its standard output and error; `None`: its parent's.
    pub streams: Option<Streams>,
    /// By which it sends records to its parent, if that wants any.
    pub recording: Option<Recording>,
    /// True if it leads a process group of its own, which ends with it: its parent kills the group
    /// before it reaps the child.
    pub leads_group: bool,
    /// The resources and rights that are left to it. Its role applies them once the child is ready
    /// for a user's tasks.
    pub confinement: Confinement,
}

impl Setting {
    /// In the child: puts streams and group in place. Returns the confinement.
    ///
    /// # Errors
    ///
    /// If what is to send records is not in this program's code.
    pub fn install(self) -> io::Result<Confinement> {
        if self.leads_group {
            confine::lead_group()?;
        }
        self.streams.map_or(Ok(()), Streams::install)?;
        self.recording.map_or(Ok(()), Recording::install)?;
        Ok(self.confinement)
    }
}

/// Ties a child's life to its parent's, and that of its group if it leads one.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn tie_to_parent(link: &Link, leads_group: bool) -> io::Result<()> {
    if leads_group { link.kill_group_when_peer_closes() } else { link.kill_me_when_peer_closes() }
}
