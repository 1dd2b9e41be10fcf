//! Preparation data: what a child must know before it can take its role. The parent writes it to a
//! link as the spawn message, and an executed child reads it in its bootstrap. A forked
//! child has it in memory already.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use procession_sys::image::{BuildId, Entry};
use procession_sys::link::{Link, Message};
use procession_sys::other_objects::{self, Other};
use procession_sys::pidfd::PidFd;

use crate::confinement::Confinement;
use crate::output::{Recording, Streams};
use crate::role::{Incoming, Refusal, Role, Roles};
use crate::setting::Setting;
use crate::tracker_link;
use crate::wire::{Reader, Writer};

/// The preparation data of a child.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// Shown by `current_process` and, cut to 15 bytes, by `ps` and `top`.
    pub name: String,
    /// Terminated at its parent's exit instead of waited for.
    pub daemon: bool,
    /// The surroundings that are put in place around the role.
    pub setting: Setting,
    /// The work of the child.
    pub role: Box<dyn Role + 'a>,
}

/// Preparation data as an executed child reads it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) preparation: Preparation<'static>,
    pub(crate) parent: PidFd,
    /// The link to the tracker, where the parent has one.
    pub(crate) tracker: Option<Link>,
    /// Objects whose functions the child may be asked to call.
    pub(crate) others: Vec<Other>,
}

// The magic and the build stand first and never change, so that any two builds can tell each other
// apart.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"prcn");

/// The link to the tracker is among the fds.
const TRACKER: u8 = 1;
/// A list of objects follows.
const OTHERS: u8 = 2;

/// Writes the preparation data of a child to the parent's end of a link.
///
/// # Errors
///
/// The error of [`Role::write`]; an error of the system.
pub(crate) fn send(link: &Link, preparation: &Preparation<'_>, me: &PidFd) -> io::Result<()> {
    let role = preparation.role.write()?;
    let tracker = if preparation.role.inherits_tracker() { tracker_link::to_inherit() } else { None };
    let others = other_objects::named();
    let head = Writer::default()
        .u32(MAGIC)
        .bytes(BuildId::current().as_bytes())
        .u32(me.pid())
        .u8(preparation.daemon.into())
        .bytes(preparation.name.as_bytes())
        .u8(if tracker.is_some() { TRACKER } else { 0 } | if others.is_empty() { 0 } else { OTHERS })
        .u8(preparation.setting.leads_group.into())
        .u8(preparation.setting.streams.is_some().into())
        .bytes(&preparation.setting.confinement.encode())
        .u8(preparation.setting.recording.is_some().into());
    let head = match &preparation.setting.recording {
        Some(recording) => head.u64(recording.begin.to_raw()).bytes(&recording.argument),
        None => head,
    };
    let head = if others.is_empty() { head } else { write_others(head, &others) };
    let mut fds = vec![me.as_fd()];
    fds.extend(tracker.as_ref().map(|link| link.as_fd()));
    fds.extend(preparation.setting.streams.iter().flat_map(Streams::fds));
    fds.extend(preparation.setting.recording.as_ref().map(Recording::fd));
    fds.extend(role.all_fds());
    link.send_now(&[&head.0, &role.fields.0, role.rest].map(IoSlice::new), &fds)
}

fn write_others(head: Writer, others: &[Other]) -> Writer {
    others.iter().fold(head.u32(others.len() as u32), |head, other| {
        head.bytes(&other.build_id).bytes(other.path.as_os_str().as_bytes())
    })
}

fn read_others(incoming: &mut Incoming<'_>) -> Result<Vec<Other>, Refusal> {
    let count = incoming.u32()?;
    let mut other = || -> Result<Other, Refusal> {
        let build_id = incoming.bytes()?.to_vec();
        Ok(Other { build_id, path: OsStr::from_bytes(incoming.bytes()?).into() })
    };
    (0..count).map(|_| other()).collect()
}

/// Reads what [`send`] wrote, by the roles that this program knows.
pub(crate) fn parse(message: Message, roles: Roles) -> Result<Received, Refusal> {
    let mut incoming = Incoming { fields: Reader(&message.bytes), fds: message.fds.into_iter(), roles };
    if incoming.fields.u32() != Some(MAGIC) {
        return Err(Refusal::Malformed("the message is not procession's preparation data"));
    }
    let build = BuildId::from_bytes(incoming.bytes()?);
    if build.same_image().is_none() {
        return Err(Refusal::OtherBuild);
    }
    let parent = incoming.u32()?;
    let daemon = incoming.u8()? != 0;
    let name = String::from_utf8_lossy(incoming.bytes()?).into_owned();
    let follows = incoming.u8()?;
    let leads_group = incoming.u8()? != 0;
    let has_streams = incoming.u8()? != 0;
    let confinement = Confinement::decode(incoming.bytes()?);
    let confinement = confinement.ok_or(Refusal::Malformed("the confinement in the preparation data is malformed"))?;
    let recording = match incoming.u8()? {
        0 => None,
        _ => Some((Entry::from_raw(incoming.u64()?), incoming.bytes()?.to_vec())),
    };
    let others = if follows & OTHERS != 0 { read_others(&mut incoming)? } else { Vec::new() };
    let parent = PidFd::from_parts(incoming.fd()?, parent);
    let tracker = if follows & TRACKER != 0 { Some(Link::from(incoming.fd()?)) } else { None };
    let streams = if has_streams { Some(Streams::new(incoming.fd()?, incoming.fd()?)) } else { None };
    let recording = match recording {
        Some((begin, argument)) => Some(Recording { pipe: incoming.fd()?, begin, argument }),
        None => None,
    };
    let setting = Setting { streams, recording, leads_group, confinement };
    let role = roles.read(&mut incoming)?;
    Ok(Received { preparation: Preparation { name, daemon, setting, role }, parent, tracker, others })
}
