//! Preparation data: what a child must know before it can take its role. The parent writes it to
//! the child's link as the spawn message, and an executed child reads it in its bootstrap. A forked
//! child has it in memory already.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use procession_sys::image::BuildId;
use procession_sys::link::{Link, Message};
use procession_sys::pidfd::PidFd;

use crate::role::{Incoming, Refusal, Role, Roles};
use crate::tracker_link;
use crate::wire::{Reader, Writer};

/// What a child is to become.
#[derive(Debug)]
pub struct Preparation<'a> {
    /// Shown by `current_process` and, cut to 15 bytes, by `ps` and `top`.
    pub name: String,
    /// Terminated at its parent's exit instead of waited for.
    pub daemon: bool,
    /// What it runs.
    pub role: Box<dyn Role + 'a>,
}

/// Preparation data as an executed child reads it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) preparation: Preparation<'static>,
    pub(crate) parent: PidFd,
    /// The link to the tracker, where the parent has one.
    pub(crate) tracker: Option<Link>,
}

// The magic and the build stand first and never change, so that any two builds can tell each other
// apart.
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"prcn");

/// Writes the preparation data of a child to the parent's end of its link.
///
/// # Errors
///
/// What [`Role::write`] says; if the system refuses.
pub(crate) fn send(link: &Link, preparation: &Preparation<'_>, me: &PidFd) -> io::Result<()> {
    let role = preparation.role.write()?;
    let tracker = if preparation.role.inherits_tracker() { tracker_link::to_inherit() } else { None };
    let head = Writer::default()
        .u32(MAGIC)
        .bytes(BuildId::current().as_bytes())
        .u32(me.pid())
        .u8(preparation.daemon.into())
        .bytes(preparation.name.as_bytes())
        .u8(tracker.is_some().into());
    let mut fds = vec![me.as_fd()];
    fds.extend(tracker.as_ref().map(|link| link.as_fd()));
    fds.extend(role.all_fds());
    link.send_now(&[&head.0, &role.fields.0, role.rest].map(IoSlice::new), &fds)
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
    let has_tracker = incoming.u8()? != 0;
    let parent = PidFd::from_parts(incoming.fd()?, parent);
    let tracker = if has_tracker { Some(Link::from(incoming.fd()?)) } else { None };
    let role = roles.read(&mut incoming)?;
    Ok(Received { preparation: Preparation { name, daemon, role }, parent, tracker })
}
